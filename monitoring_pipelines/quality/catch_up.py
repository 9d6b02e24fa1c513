"""Recording due times that became no run, and saying when one run must make up for them (C-023, S-702).

What belongs here: applying ``quality.calendar`` to the registry of jobs and the stored rows. What does not: the decision
itself (``quality.calendar``) and starting the run (``orchestration``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.cron import Cron
from monitoring_pipelines.quality.calendar import LATE, Missed, missed
from monitoring_pipelines.state import checks as stored_checks
from monitoring_pipelines.state import self_jobs

if TYPE_CHECKING:
    from monitoring_pipelines.self_jobs import ProductJob
    from monitoring_pipelines.state import StateStore

#: Due times are looked for this far back at most.
REACH = timedelta(days=31)


def record_missed(state: StateStore, jobs: Iterable[ProductJob], now: datetime) -> dict[str, list[Missed]]:
    """Write rows for all due times that were missed since the last call; cheap when nothing was.

    Args:
        state: Where runs, due times and switches are stored.
        jobs: The registry.
        now: The product's clock.

    Returns:
        What was missed, by job; for check jobs one catch-up run makes up for all of it.
    """
    scheduled = [job for job in jobs if job.cron]
    ids = [job.id for job in scheduled]
    with state.begin() as con:
        off = self_jobs.disabled(con, ids)
        until = self_jobs.judged_until(con, ids, now)
    found: dict[str, list[Missed]] = {}
    for job in scheduled:
        # A job that is switched off misses nothing.
        lost, until[job.id] = ([], now) if job.id in off else _judge(state, job, until[job.id], now)
        if lost:
            found[job.id] = lost
    with state.begin() as con:
        self_jobs.set_judged(con, until, now)
    return found


def _judge(state: StateStore, job: ProductJob, since: datetime, now: datetime) -> tuple[list[Missed], datetime]:
    """(missed due times after ``since``; up to where due times are judged now)."""
    end = now - LATE
    since = max(since, now - REACH)
    due = Cron.parse(job.cron or "").between(since, end, job.zone) if end > since else []
    if not due:
        return [], since
    if job.check is None:
        # After downtime Dagster still starts a job for its newest due time; a check that late is not started at all.
        newest = due.pop()
        end = newest - timedelta(microseconds=1)
    with state.read() as con:
        handled = self_jobs.due_times(con, job.id, since)
        if job.check is not None:
            handled |= stored_checks.due_times(con, job.check, since)
    lost = missed(due, handled, now)
    for one in lost:
        _record(state, job, one, now)
    return lost, max(end, since)


def _record(state: StateStore, job: ProductJob, one: Missed, now: datetime) -> None:
    reason = (
        "the product was not running" if one.count == 1 else f"{one.count} due times while the product was not running"
    )
    self_jobs.record_unexecuted(state, job.id, "missed", one.scheduled_at, now, reason)
    if job.check is not None:
        stored_checks.record_unexecuted(
            state, job.check, "missed", one.scheduled_at, now, count=one.count, reason=reason
        )  # fmt: skip
