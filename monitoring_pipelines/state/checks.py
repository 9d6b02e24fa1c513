"""Check runs, their results and findings in the state store, readable as of any instant.

What belongs here: storing runs and reading them back, paging, pruning. What does not: running checks (``quality.runs``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, delete, func, insert, select, update

from monitoring_pipelines.quality import registry
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding, RunStatus, RunType
from monitoring_pipelines.severity import SEVERITIES
from monitoring_pipelines.state import counters, paging
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines.state.rows import dicts
from monitoring_pipelines.state.store import StateStore, upsert
from monitoring_pipelines.state.tables import (
    check_result,
    check_run,
    finding,
    repair_item,
    repair_plan,
)

#: Runs that looked at the data; ``skipped`` and ``missed`` did not.
EXECUTED = ("healthy", "issues_detected", "error")
#: Source id of what the product does itself (E-001).
SELF = "_self"
#: Rows of one INSERT or one DELETE.
BATCH = 1_000
#: What runs can be ordered by (S-804).
RUN_ORDERS: paging.Orders = {
    name: check_run.c[name] for name in ("scheduled_at", "type", "status", "window_hours", "total_alerts")
}
_GRAVITY = case({word: n for n, word in enumerate(SEVERITIES)}, value=finding.c.severity)
#: What the findings of a run can be ordered by; severities by their gravity.
FINDING_ORDERS: paging.Orders = {"severity": _GRAVITY} | {
    name: finding.c[name] for name in ("source_id", "check_id", "alert_type", "created_at")
}
#: Statuses of results that say something about the data.
_ANSWERS = ("passed", "findings", "insufficient_data", "not_applicable")


@dataclass(frozen=True)
class Believed:
    """What was believed about one check at an instant: the outcome and the run it came from."""

    outcome: CheckOutcome
    run_id: str
    run_type: str
    started_at: datetime | None
    ended_at: datetime | None


def start(state: StateStore, run: CheckRun) -> CheckRun:
    """Store a run that begins now. A scheduled run that is made again replaces the earlier one (S-703).

    Runs of the type that never ended (their process died) become ``error``: the caller holds the lock of the type.

    Returns:
        The run, with the id of the one it replaces if there is one.
    """
    with state.begin() as con:
        con.execute(
            update(check_run)
            .where(check_run.c.type == run.type, check_run.c.status == "running")
            .values(status="error", error="the process ended before the run did", ended_at=run.started_at)
        )
        if run.trigger == "schedule":
            same = select(check_run.c.run_id).where(
                check_run.c.type == run.type, check_run.c.trigger == run.trigger,
                check_run.c.scheduled_at == run.scheduled_at, check_run.c.status.in_([*EXECUTED, "skipped"]),
            )  # fmt: skip
            old = con.execute(same.order_by(check_run.c.run_id)).scalars().first()
            if old is not None:
                run = replace(run, run_id=old)
                _forget(con, [old])
        con.execute(insert(check_run).values(_run_row(run)))
    return run


def finish(state: StateStore, run: CheckRun) -> None:
    """Store everything a run found, in one transaction."""
    results = [_result_row(run, outcome) for outcome in run.outcomes]
    findings = [_finding_row(run, number, found) for number, found in enumerate(run.findings)]
    with state.begin() as con:
        upsert(con, check_run, [_run_row(run)])
        for batch in _batches(results):
            con.execute(insert(check_result), batch)
        for batch in _batches(findings):
            con.execute(insert(finding), batch)


def record_unexecuted(
    state: StateStore, run_type: RunType, status: RunStatus, scheduled_at: datetime, now: datetime, *,
    trigger: str = "schedule", count: int = 1, reason: str | None = None, dagster_run_id: str | None = None,
) -> CheckRun:  # fmt: skip
    """Store a due run that was not executed: ``skipped`` or ``missed`` (C-021 to C-023).

    The same due time is recorded once. ``count`` > 1: one row for several due times, ``scheduled_at`` is the newest.
    """
    run = CheckRun(new_id(now), run_type, trigger, status, scheduled_at, error=reason, dagster_run_id=dagster_run_id)
    with state.begin() as con:
        same = and_(check_run.c.type == run_type, check_run.c.scheduled_at == scheduled_at,
                    check_run.c.trigger == trigger)  # fmt: skip
        known = con.execute(select(check_run).where(same)).first()
        if known is not None:
            return _run(known._asdict())
        con.execute(insert(check_run).values(_run_row(run) | {"count": count}))
    return run


def last_due(state: StateStore, run_type: RunType) -> datetime | None:
    """Newest due time of a scheduled run of the type that has a row, executed or not; None before the first."""
    with state.read() as con:
        return con.execute(
            select(func.max(check_run.c.scheduled_at)).where(
                check_run.c.type == run_type, check_run.c.trigger == "schedule", check_run.c.status != "running"
            )
        ).scalar()


def due_times(con: Connection, run_type: RunType, since: datetime) -> set[datetime]:
    """Due times of scheduled runs of the type later than ``since`` that have a row, executed or not."""
    wanted = select(check_run.c.scheduled_at).where(
        check_run.c.type == run_type, check_run.c.trigger == "schedule", check_run.c.scheduled_at > since
    )
    return set(con.execute(wanted).scalars())


def load(state: StateStore, run_id: str, *, findings: bool = True) -> CheckRun | None:
    """A run with its outcomes and, unless they are read page by page (``findings_page``), its findings; None if there is none."""
    with state.read() as con:
        row = con.execute(select(check_run).where(check_run.c.run_id == run_id)).first()
        return None if row is None else _with_outcomes(con, row, findings=findings)


def progress_of(state: StateStore, run_id: str) -> tuple[RunStatus, datetime | None, datetime | None] | None:
    """Status, start and end of a run; None if there is none. One that was made again under its id has another start."""
    columns = check_run.c.status, check_run.c.started_at, check_run.c.ended_at
    with state.read() as con:
        row = con.execute(select(*columns).where(check_run.c.run_id == run_id)).first()
        return None if row is None else (row.status, row.started_at, row.ended_at)


def not_taken(con: Connection) -> list[str]:
    """Ids of ended runs no evaluation of alerts has seen, in the order in which they ended (A-002)."""
    waiting = select(check_run.c.run_id).where(check_run.c.alerted_at.is_(None), check_run.c.status != "running")
    return list(con.execute(waiting.order_by(check_run.c.ended_at, check_run.c.run_id)).scalars())


def take(con: Connection, run_id: str, now: datetime) -> CheckRun:
    """A run with its outcomes and findings, which an evaluation of alerts takes in and which is not offered again."""
    row = con.execute(select(check_run).where(check_run.c.run_id == run_id)).one()
    con.execute(update(check_run).where(check_run.c.run_id == run_id).values(alerted_at=now))
    return _with_outcomes(con, row)


def page(
    state: StateStore, *, run_type: str | None = None, status: str | None = None, source_id: str | None = None,
    before: datetime | None = None, number: int = 1, size: int = 50, sort: str | None = None,
) -> tuple[list[CheckRun], int]:  # fmt: skip
    """(runs without outcomes, newest first; number of all matches). ``before``: scheduled earlier than that.

    ``sort``: a key of ``RUN_ORDERS``, with ``-`` before it descending; equal ones newest first.
    """
    where = [check_run.c.status == status] if status else []
    where += [check_run.c.type == run_type] if run_type else []
    where += [check_run.c.scheduled_at < before] if before else []
    if source_id:
        having = select(check_result.c.run_id).where(check_result.c.source_id == source_id)
        where.append(check_run.c.run_id.in_(having))
    order = paging.order_by(RUN_ORDERS, sort, check_run.c.scheduled_at.desc(), check_run.c.run_id.desc())
    with state.read() as con:
        rows = paging.cut(con, check_run.c.run_id, where, order, size, (number - 1) * size)
        return [_run(row) for row in rows], paging.count(con, check_run.c.run_id, where)


def counts_of(state: StateStore, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Findings by severity of runs, as stored with them."""
    found: dict[str, dict[str, int]] = {}
    with state.read() as con:
        for first in range(0, len(run_ids), BATCH):  # a database takes so many parameters and no more
            some = run_ids[first : first + BATCH]
            wanted = select(check_run.c.run_id, check_run.c.alerts_by_severity).where(check_run.c.run_id.in_(some))
            found |= {row.run_id: row.alerts_by_severity or {} for row in con.execute(wanted)}
    return found


def findings_page(
    state: StateStore, run_id: str, *, severity: str | None = None, source_id: str | None = None, number: int = 1,
    size: int = 50, sort: str | None = None,
) -> tuple[list[Finding], int]:  # fmt: skip
    """(findings of a run, the gravest first; number of all matches).

    Args:
        state: The state store.
        run_id: The run.
        severity: Only findings of this one.
        source_id: Only findings of this source.
        number: Page, from 1.
        size: Rows per page.
        sort: A key of ``FINDING_ORDERS``, with ``-`` before it descending; equal ones the gravest first, then as they were found.
    """
    pairs = ((finding.c.run_id, run_id), (finding.c.severity, severity), (finding.c.source_id, source_id))
    where = [column == value for column, value in pairs if value is not None]
    order = paging.order_by(FINDING_ORDERS, sort, _GRAVITY.desc(), finding.c.seq)
    with state.read() as con:
        rows = paging.cut(con, finding.c.seq, where, order, size, (number - 1) * size)
        return [_finding(row) for row in rows], paging.count(con, finding.c.seq, where)


def runs_by_source(state: StateStore, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Runs due in ``[start, end)``, oldest first: run_id, type, status, scheduled_at, and per source the number of results
    by status (``sources``: source → status → n; empty for runs that were not executed).
    """
    due = (check_run.c.scheduled_at >= start, check_run.c.scheduled_at < end)
    counted = (
        select(check_result.c.run_id, check_result.c.source_id, check_result.c.status, func.count().label("n"))
        .where(check_result.c.run_id.in_(select(check_run.c.run_id).where(*due)))
        .group_by(check_result.c.run_id, check_result.c.source_id, check_result.c.status)
    )
    wanted = select(check_run.c.run_id, check_run.c.type, check_run.c.status, check_run.c.scheduled_at).where(*due)
    with state.read() as con:
        runs = {
            row.run_id: {**row._mapping, "sources": {}}
            for row in con.execute(wanted.order_by(check_run.c.scheduled_at))
        }
        for row in con.execute(counted):
            runs[row.run_id]["sources"].setdefault(row.source_id, {})[row.status] = row.n
    return list(runs.values())


def newest_runs(state: StateStore, types: Sequence[str] = ("quick", "full", "deep")) -> dict[str, CheckRun]:
    """The newest executed run of each type, with outcomes."""
    found: dict[str, CheckRun] = {}
    with state.read() as con:
        for run_type in types:
            row = con.execute(_newest_run(run_type, None)).first()
            if row is not None:
                found[run_type] = _with_outcomes(con, row)
    return found


def believed(
    state: StateStore, check_id: str, source_id: str, *, run_type: str | None = None, at: datetime | None = None,
    answers_only: bool = False, window_hours: int | None = None,
) -> Believed | None:  # fmt: skip
    """What the newest run that had ended by ``at`` said of a check and source; ``at`` None: now.

    Args:
        state: The store.
        check_id: Id of the registry.
        source_id: The source.
        run_type: Only runs of this type.
        at: The instant of the question, naive UTC.
        answers_only: Leave out results with status ``error``.
        window_hours: Only runs whose window was so long; a run by hand may look at another (S-411).
    """
    joined = check_result.join(check_run, check_run.c.run_id == check_result.c.run_id)
    where = [check_result.c.check_id == check_id, check_result.c.source_id == source_id,
             check_run.c.status.in_(EXECUTED)]  # fmt: skip
    where += [check_run.c.type == run_type] if run_type else []
    where += [check_run.c.window_hours == window_hours] if window_hours else []
    where += [check_run.c.ended_at <= at] if at else []
    where += [check_result.c.status.in_(_ANSWERS)] if answers_only else []
    wanted = (
        select(check_result, check_run.c.type.label("run_type"), check_run.c.started_at, check_run.c.ended_at)
        .select_from(joined)
        .where(*where)
        .order_by(check_run.c.ended_at.desc(), check_run.c.run_id.desc())
        .limit(1)
    )
    with state.read() as con:
        row = con.execute(wanted).first()
        if row is None:
            return None
        mine = and_(finding.c.run_id == row.run_id, finding.c.source_id == source_id, finding.c.check_id == check_id)
        found = [_finding(one) for one in dicts(con, select(finding).where(mine).order_by(finding.c.seq))]
        return Believed(_outcome(row, found), row.run_id, row.run_type, row.started_at, row.ended_at)


def remote_failures(state: StateStore, source_id: str, start: datetime, end: datetime) -> list[tuple[str, str | None]]:
    """(task key, remote code) of tasks that plans made in ``[start, end)`` found failed at the remote service (C-116), by
    end and key.
    """
    joined = repair_item.join(repair_plan, repair_plan.c.plan_id == repair_item.c.plan_id)
    where = (
        repair_plan.c.source_id == source_id, repair_plan.c.created_at >= start, repair_plan.c.created_at < end,
        repair_item.c["class"] == "remote_failed",
    )  # fmt: skip
    wanted = (
        select(repair_item.c.task_key, repair_item.c.remote_code, repair_item.c.task).select_from(joined).where(*where)
    )
    with state.read() as con:
        found = {row.task_key: row for row in con.execute(wanted.order_by(repair_plan.c.created_at))}
    ordered = sorted(found.values(), key=lambda row: ((row.task or {}).get("effective_end") or "", row.task_key))
    return [(row.task_key, row.remote_code) for row in ordered]


def prune(state: StateStore, now: datetime, days: int) -> int:
    """Remove runs older than ``retention.check_days``; the newest executed one of each type stays.

    Returns:
        Number of runs removed.
    """
    limit = now - timedelta(days=days)
    removed = 0
    with state.read() as con:
        kept = {row.run_id for t in ("quick", "full", "deep") for row in con.execute(_newest_run(t, None))}
    while True:
        with state.begin() as con:
            old = select(check_run.c.run_id).where(check_run.c.scheduled_at < limit, check_run.c.run_id.not_in(kept))
            ids = list(con.execute(old.limit(BATCH)).scalars())
            counters.CHECK_RUNS.before_removal(con, check_run.c.run_id.in_(ids), now)
            _forget(con, ids)
        removed += len(ids)
        if len(ids) < BATCH:
            return removed


def _forget(con: Connection, run_ids: Sequence[str]) -> None:
    for table in (finding, check_result, check_run):
        con.execute(delete(table).where(table.c.run_id.in_(run_ids)))


def _newest_run(run_type: str, at: datetime | None) -> Select[Any]:
    where = [check_run.c.type == run_type, check_run.c.status.in_(EXECUTED)]
    where += [check_run.c.ended_at <= at] if at else []
    return select(check_run).where(*where).order_by(check_run.c.ended_at.desc(), check_run.c.run_id.desc()).limit(1)


def severity_counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Number of findings by severity, most severe first; severities without finding are absent."""
    counted = Counter(found.severity for found in findings)
    return {severity: counted[severity] for severity in reversed(SEVERITIES) if counted[severity]}


def _run_row(run: CheckRun) -> dict[str, Any]:
    lasted = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    return {
        "run_id": run.run_id, "type": run.type, "trigger": run.trigger, "status": run.status,
        "scheduled_at": run.scheduled_at, "started_at": run.started_at, "ended_at": run.ended_at,
        "window_from": run.window_from, "window_to": run.window_to, "window_hours": run.window_hours,
        "sources": {
            "checked": sorted({outcome.source_id for outcome in run.outcomes}), "failed": run.failed_sources,
        },
        "total_alerts": len(run.findings), "alerts_by_severity": severity_counts(run.findings),
        "duration_ms": None if lasted is None else lasted / timedelta(milliseconds=1), "count": 1, "error": run.error,
        "dagster_run_id": run.dagster_run_id,
    }  # fmt: skip


def _result_row(run: CheckRun, outcome: CheckOutcome) -> dict[str, Any]:
    names = ("source_id", "check_id", "status", "severity", "health", "window_from", "window_to", "metrics",
             "expectation", "as_of", "stale", "message")  # fmt: skip
    return {"run_id": run.run_id} | {name: getattr(outcome, name) for name in names}


def _finding_row(run: CheckRun, number: int, found: Finding) -> dict[str, Any]:
    names = ("source_id", "check_id", "alert_type", "severity", "labels", "message", "details", "created_at")
    row = {name: getattr(found, name) for name in names}
    return {"run_id": run.run_id, "seq": number, "task_ids": list(found.task_ids)} | row


def _batches(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for at in range(0, len(rows), BATCH):
        yield rows[at : at + BATCH]


def _with_outcomes(con: Connection, row: Row[Any], *, findings: bool = True) -> CheckRun:
    mine = select(finding).where(finding.c.run_id == row.run_id).order_by(finding.c.seq)
    by_check: dict[tuple[str, str], list[Finding]] = {}
    for one in dicts(con, mine) if findings else ():
        by_check.setdefault((one["source_id"], one["check_id"]), []).append(_finding(one))
    results = list(con.execute(select(check_result).where(check_result.c.run_id == row.run_id)))
    results.sort(key=lambda result: (result.source_id, registry.position(result.check_id), result.check_id))
    outcomes = [_outcome(result, by_check.get((result.source_id, result.check_id), [])) for result in results]
    return replace(_run(row._asdict()), outcomes=tuple(outcomes))


def _run(values: Mapping[str, Any]) -> CheckRun:
    names = ("run_id", "type", "trigger", "status", "scheduled_at", "started_at", "ended_at", "window_from",
             "window_to", "window_hours", "error", "dagster_run_id")  # fmt: skip
    sources = values["sources"] or {}
    return CheckRun(**{name: values[name] for name in names}, failed_sources=sources.get("failed", {}))


def _outcome(row: Row[Any], findings: Sequence[Finding]) -> CheckOutcome:
    values = dict(row._mapping)
    names = ("source_id", "check_id", "status", "severity", "health", "window_from", "window_to", "expectation",
             "as_of", "stale", "message")  # fmt: skip
    known = {name: values[name] for name in names}
    return CheckOutcome(**known, metrics=values["metrics"] or {}, findings=tuple(findings))


def _finding(row: Mapping[str, Any]) -> Finding:
    return Finding(
        row["source_id"], row["check_id"], row["alert_type"], row["severity"], row["message"] or "", row["created_at"],
        row["details"] or {}, tuple(row["task_ids"] or ()), row["labels"] or {},
    )  # fmt: skip
