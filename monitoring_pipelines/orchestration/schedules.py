"""The clockwork: which job starts when, in the configured time zone (S-701).

What belongs here: schedules and when they skip.
What does not: what is due (the warehouse knows; ``pipeline`` asks it).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.jobs import Job
from monitoring_pipelines.orchestration.liveness import fail_lost_runs
from monitoring_pipelines.orchestration.partitions import DAY, HOUR, day_key, hour_key
from monitoring_pipelines.orchestration.resources import WarehouseResource

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def build_schedules(jobs: dict[str, Job], zone: str) -> Sequence[ScheduleDefinition]:
    """All schedules, running by default: a fresh installation works without a click."""

    @schedule(
        name="minute_tick_job_every_minute",
        job=jobs["minute_tick_job"],
        cron_schedule="* * * * *",
        execution_timezone=zone,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Starts the minute tick unless the previous one still runs. Gaps after downtime need no catching "
        "up of missed ticks: what is due follows from the warehouse.",
    )
    def minute_tick(context: ScheduleEvaluationContext, warehouse: WarehouseResource) -> RunRequest | SkipReason:
        for run_id in fail_lost_runs(context.instance, warehouse.data_dir):
            context.log.warning(f"run {run_id}: its process is gone, marked as failed")
        running = context.instance.get_runs(RunsFilter(job_name="minute_tick_job", statuses=UNFINISHED), limit=1)
        if running:
            return SkipReason(f"the previous tick still runs ({running[0].run_id}, {running[0].status.value})")
        return RunRequest(tags={"scheduled_for": context.scheduled_execution_time.isoformat()})

    @schedule(
        name="hourly_stats_job_hourly",
        job=jobs["hourly_stats_job"],
        cron_schedule="6 * * * *",
        execution_timezone=zone,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Recomputes and audits the hour that closed: an equal result writes nothing (M-804), another "
        "result would be a defect that the audits name.",
    )
    def hourly_stats(context: ScheduleEvaluationContext, clock: ResourceParam[Clock]) -> RunRequest:
        hour = _floor(clock, HOUR) - HOUR
        return RunRequest(run_key=hour_key(hour), partition_key=hour_key(hour))

    @schedule(
        name="daily_stats_job_daily",
        job=jobs["daily_stats_job"],
        cron_schedule="10 0 * * *",
        # Days are UTC days (M-101): their last hour closes shortly after midnight UTC, whatever the configured zone.
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Recomputes and audits the UTC day that ended.",
    )
    def daily_stats(context: ScheduleEvaluationContext, clock: ResourceParam[Clock]) -> RunRequest:
        day = _floor(clock, DAY) - DAY
        return RunRequest(run_key=day_key(day), partition_key=day_key(day))

    maintenance = ScheduleDefinition(
        name="maintenance_job_daily",
        job=jobs["maintenance_job"],
        cron_schedule="30 3 * * *",
        execution_timezone=zone,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Prunes superseded runs, applies retention, compacts the warehouse.",
    )
    return [minute_tick, hourly_stats, daily_stats, maintenance]


def _floor(clock: Clock, step: timedelta) -> datetime:
    """Start of the running UTC hour or day."""
    now = clock.now()
    return now - (now - datetime.min) % step
