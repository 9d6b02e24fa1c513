"""Runs and switches of the product's own jobs (S-702, S-426).

What belongs here: rows of ``self_job_run``, and which jobs people switched off. What does not: which jobs there are
(``self_jobs``) and starting them (``orchestration``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select

from monitoring_pipelines.state.store import StateStore, upsert
from monitoring_pipelines.state.tables import self_job_run, setting

Outcome = Literal["success", "failure", "timeout", "missed", "skipped", "running"]
Trigger = Literal["schedule", "manual", "catchup"]
#: Settings are called this and the id of the job.
_ENABLED = "job_enabled:"
_JUDGED = "job_judged_until:"
#: Longest error text kept, characters.
ERROR_CHARS = 1_000


@dataclass(frozen=True)
class JobRun:
    """One run, or one due time that became none; instants are naive UTC."""

    run_key: str
    job_id: str
    outcome: Outcome
    trigger: Trigger = "schedule"
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_message: str | None = None


def store(state: StateStore, runs: Sequence[JobRun], now: datetime) -> None:
    """Write runs; one that is known by its key is replaced (S-703)."""
    if not runs:
        return
    with state.begin() as con:
        upsert(con, self_job_run, [_row(run, now) for run in runs])


def record_unexecuted(
    state: StateStore, job_id: str, outcome: Literal["missed", "skipped"], due: datetime, now: datetime, reason: str
) -> None:
    """Write a due time that became no run; the same due time is recorded once."""
    run = JobRun(f"{outcome}:{job_id}:{due.isoformat()}", job_id, outcome, "schedule", due, error_message=reason)
    store(state, [run], now)


def due_times(con: Connection, job_id: str, since: datetime) -> set[datetime]:
    """Due times later than ``since`` that have a row, executed or not."""
    wanted = select(self_job_run.c.scheduled_at).where(
        self_job_run.c.job_id == job_id, self_job_run.c.scheduled_at > since
    )
    return set(con.execute(wanted).scalars())


def unfinished(con: Connection) -> list[str]:
    """Keys of the runs that have not ended as far as is known."""
    return list(con.execute(select(self_job_run.c.run_key).where(self_job_run.c.outcome == "running")).scalars())


def by_key(con: Connection, run_keys: Sequence[str]) -> list[JobRun]:
    """Runs by their keys; unknown keys are left out."""
    rows = con.execute(select(self_job_run).where(self_job_run.c.run_key.in_(run_keys))).mappings()
    return [_run(row) for row in rows]


def ended(run: JobRun, reason: str) -> JobRun:
    """A run that will not be heard of any more."""
    return replace(run, outcome="failure", error_message=reason)


def runs_of(state: StateStore, job_id: str, *, number: int = 1, size: int = 50) -> tuple[list[JobRun], int]:
    """(runs of a job, newest first; number of all) (S-427)."""
    mine = self_job_run.c.job_id == job_id
    at = func.coalesce(self_job_run.c.started_at, self_job_run.c.scheduled_at)
    newest = select(self_job_run).where(mine).order_by(at.desc(), self_job_run.c.run_key.desc())
    with state.read() as con:
        total = con.execute(select(func.count()).select_from(self_job_run).where(mine)).scalar_one()
        rows = con.execute(newest.limit(size).offset((number - 1) * size)).mappings().all()
    return [_run(row) for row in rows], total


def disabled(con: Connection, job_ids: Iterable[str]) -> set[str]:
    """Those of the jobs that are switched off (S-426)."""
    names = {_ENABLED + job_id: job_id for job_id in job_ids}
    wanted = select(setting.c.name, setting.c.value).where(setting.c.name.in_(list(names)))
    return {names[row.name] for row in con.execute(wanted) if row.value is False}


def switch(con: Connection, job_ids: Collection[str], enabled: bool, actor: str, now: datetime) -> None:
    """Switch jobs on or off; it holds after a restart (S-426)."""
    rows = [{"name": _ENABLED + i, "value": enabled, "updated_at": now, "updated_by": actor} for i in job_ids]
    upsert(con, setting, rows)
    if enabled:  # what was due while the job was off was not missed
        set_judged(con, dict.fromkeys(job_ids, now), now)


def judged_until(con: Connection, job_ids: Sequence[str], now: datetime) -> dict[str, datetime]:
    """How far the due times of each job were judged: nothing before a job was first seen can have been missed."""
    names = {_JUDGED + job_id: job_id for job_id in job_ids}
    wanted = select(setting.c.name, setting.c.value).where(setting.c.name.in_(list(names)))
    found = {names[row.name]: datetime.fromisoformat(row.value) for row in con.execute(wanted)}
    return dict.fromkeys(job_ids, now) | found


def set_judged(con: Connection, until: Mapping[str, datetime], now: datetime) -> None:
    """Remember how far the due times of jobs were judged."""
    upsert(con, setting, [_judged(job_id, at, now) for job_id, at in until.items()])


def prune(state: StateStore, now: datetime, days: int) -> int:
    """Remove rows that changed last more than ``days`` ago; their number. Unfinished runs stay."""
    table = self_job_run
    with state.begin() as con:
        old = delete(table).where(table.c.changed_at < now - timedelta(days=days), table.c.outcome != "running")
        return con.execute(old).rowcount


def _judged(job_id: str, until: datetime, now: datetime) -> dict[str, Any]:
    return {"name": _JUDGED + job_id, "value": until.isoformat(), "updated_at": now, "updated_by": None}


def _row(run: JobRun, now: datetime) -> dict[str, Any]:
    lasted = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    return {
        "run_key": run.run_key, "job_id": run.job_id, "scheduled_at": run.scheduled_at, "started_at": run.started_at,
        "ended_at": run.ended_at, "duration_ms": None if lasted is None else lasted / timedelta(milliseconds=1),
        "outcome": run.outcome, "error_message": run.error_message and run.error_message[:ERROR_CHARS],
        "trigger": run.trigger, "changed_at": now,
    }  # fmt: skip


def _run(row: Any) -> JobRun:
    return JobRun(
        row["run_key"], row["job_id"], row["outcome"], row["trigger"], row["scheduled_at"], row["started_at"],
        row["ended_at"], row["error_message"],
    )  # fmt: skip
