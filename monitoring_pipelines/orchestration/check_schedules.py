"""Schedules of the quick, full and deep check (C §2), and what every schedule does before it starts a run.

What belongs here: due time, overlap, switched-off jobs. What does not: the checks (``catalogue_checks``) and what happens
to due times that no schedule saw (``run_sensors``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagster import (
    DefaultScheduleStatus,
    ResourceParam,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.holding import due_of, held_back
from monitoring_pipelines.orchestration.jobs import Job
from monitoring_pipelines.orchestration.ledger import DUE_TAG, TRIGGER_TAG
from monitoring_pipelines.orchestration.resources import StateResource
from monitoring_pipelines.quality.calendar import is_too_late
from monitoring_pipelines.self_jobs import ProductJob

CADENCE = {"quick": "quarter_hourly", "full": "hourly", "deep": "nightly"}


def build_check_schedules(jobs: Mapping[str, Job], registry: Mapping[str, ProductJob]) -> Sequence[ScheduleDefinition]:
    """One schedule per type of check run, in the configured zone."""
    return [_schedule(jobs[job.id], job) for job in registry.values() if job.check and job.id in jobs]


def _schedule(definition: Job, job: ProductJob) -> ScheduleDefinition:
    assert job.cron is not None
    assert job.check is not None

    @schedule(
        name=f"{job.id}_{CADENCE[job.check]}",
        job=definition,
        cron_schedule=job.cron,
        execution_timezone=job.zone,
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Starts the {job.check} check for the window that ends at its due time (C-020). Two never overlap: "
        "a due run that would is recorded as skipped (C-021). A due time that passed during downtime is recorded as "
        "missed, and one full check makes up for all of them (C-023).",
    )
    def check_schedule(
        context: ScheduleEvaluationContext, state: ResourceParam[StateResource], clock: ResourceParam[Clock]
    ) -> RunRequest | SkipReason:
        due = due_of(context)
        if is_too_late(due, clock.now()):
            return SkipReason(f"due at {due.isoformat()}Z, which is too long ago: recorded as missed")
        reason = held_back(context, job, state, clock)
        if reason is not None:
            return reason
        at = f"{due.isoformat()}Z"
        return RunRequest(run_key=f"{job.id}:{at}", tags={DUE_TAG: at, TRIGGER_TAG: "schedule"})

    return check_schedule
