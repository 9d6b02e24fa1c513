"""The clockwork: which job starts when, in the configured time zone (S-701).

What belongs here: schedules and when they skip.
What does not: what is due (the warehouse knows; ``pipeline`` asks it).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

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
from monitoring_pipelines.orchestration.holding import held_back, switched_off
from monitoring_pipelines.orchestration.jobs import Job
from monitoring_pipelines.orchestration.liveness import fail_lost_runs
from monitoring_pipelines.orchestration.partitions import DAY, HOUR
from monitoring_pipelines.orchestration.resources import StateResource, WarehouseResource
from monitoring_pipelines.partition_keys import day_key, hour_key
from monitoring_pipelines.self_jobs import ProductJob


def build_schedules(jobs: Mapping[str, Job], registry: Mapping[str, ProductJob]) -> Sequence[ScheduleDefinition]:
    """All schedules, running by default: a fresh installation works without a click."""

    def scheduled(job_id: str, cadence: str, description: str) -> Any:
        job = registry[job_id]
        assert job.cron is not None
        return schedule(
            name=f"{job_id}_{cadence}",
            job=jobs[job_id],
            cron_schedule=job.cron,
            execution_timezone=job.zone,
            default_status=DefaultScheduleStatus.RUNNING,
            description=description,
        )

    @scheduled(
        "minute_tick_job",
        "every_minute",
        "Starts the minute tick unless the previous one still runs. Gaps after downtime need no catching up of missed "
        "ticks: what is due follows from the warehouse.",
    )
    def minute_tick(
        context: ScheduleEvaluationContext,
        warehouse: WarehouseResource,
        state: ResourceParam[StateResource],
        clock: ResourceParam[Clock],
    ) -> RunRequest | SkipReason:
        for run_id in fail_lost_runs(context.instance, warehouse.data_dir):
            context.log.warning(f"run {run_id}: its process is gone, marked as failed")
        held = held_back(context, registry["minute_tick_job"], state, clock)
        return held or RunRequest(tags={"scheduled_for": context.scheduled_execution_time.isoformat()})

    @scheduled(
        "hourly_stats_job",
        "hourly",
        "Recomputes and audits the hour that closed: an equal result writes nothing (M-804), another result would be a "
        "defect that the audits name.",
    )
    def hourly_stats(
        context: ScheduleEvaluationContext, state: ResourceParam[StateResource], clock: ResourceParam[Clock]
    ) -> RunRequest | SkipReason:
        hour = _floor(clock, HOUR) - HOUR
        held = switched_off(context, registry["hourly_stats_job"], state, clock)
        return held or RunRequest(run_key=hour_key(hour), partition_key=hour_key(hour))

    @scheduled("daily_stats_job", "daily", "Recomputes and audits the UTC day that ended.")
    def daily_stats(
        context: ScheduleEvaluationContext, state: ResourceParam[StateResource], clock: ResourceParam[Clock]
    ) -> RunRequest | SkipReason:
        day = _floor(clock, DAY) - DAY
        held = switched_off(context, registry["daily_stats_job"], state, clock)
        return held or RunRequest(run_key=day_key(day), partition_key=day_key(day))

    @scheduled("maintenance_job", "daily", "Prunes superseded runs, applies retention, compacts the warehouse.")
    def maintenance(
        context: ScheduleEvaluationContext, state: ResourceParam[StateResource], clock: ResourceParam[Clock]
    ) -> RunRequest | SkipReason:
        held = held_back(context, registry["maintenance_job"], state, clock)
        return held or RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return [minute_tick, hourly_stats, daily_stats, maintenance]


def _floor(clock: Clock, step: timedelta) -> datetime:
    """Start of the running UTC hour or day."""
    now = clock.now()
    return now - (now - datetime.min) % step
