"""What every schedule asks before it starts a run: is the job switched off, does its last run go on.

What belongs here: that decision, and recording it. What does not: schedules (``schedules``, ``check_schedules``).
"""

from __future__ import annotations

from datetime import UTC, datetime

from dagster import DagsterRunStatus, RunsFilter, ScheduleEvaluationContext, SkipReason

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.resources import StateResource
from monitoring_pipelines.self_jobs import ProductJob

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def due_of(context: ScheduleEvaluationContext) -> datetime:
    """The due time of a tick, naive UTC."""
    return context.scheduled_execution_time.astimezone(UTC).replace(tzinfo=None)


def held_back(
    context: ScheduleEvaluationContext, job: ProductJob, state: StateResource, clock: Clock
) -> SkipReason | None:
    """Why a due run is not started now: the job is switched off (S-426), or its last run goes on. It is recorded."""
    off = switched_off(context, job, state, clock)
    if off is not None:
        return off
    running = context.instance.get_runs(RunsFilter(job_name=job.id, statuses=UNFINISHED), limit=1)
    if not running:
        return None
    reason = f"the previous run still goes on ({running[0].run_id}, {running[0].status.value})"
    return _skipped(context, job, state, clock, reason)


def switched_off(
    context: ScheduleEvaluationContext, job: ProductJob, state: StateResource, clock: Clock
) -> SkipReason | None:
    """Why a due run is not started though others of the job may go on: somebody switched the job off (S-426)."""
    from monitoring_pipelines.state import self_jobs

    with state.store.read() as con:
        is_off = bool(self_jobs.disabled(con, [job.id]))
    return _skipped(context, job, state, clock, "the job is switched off") if is_off else None


def _skipped(
    context: ScheduleEvaluationContext, job: ProductJob, state: StateResource, clock: Clock, reason: str
) -> SkipReason:
    from monitoring_pipelines.state import checks, self_jobs

    due, now = due_of(context), clock.now()
    self_jobs.record_unexecuted(state.store, job.id, "skipped", due, now, reason)
    if job.check is not None:
        checks.record_unexecuted(state.store, job.check, "skipped", due, now, reason=reason)
    return SkipReason(reason)
