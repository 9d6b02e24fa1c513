"""``run_failure_sensor``: what became of every run and due time, and the run that makes up for missed checks.

What belongs here: the sensor. What does not: reading runs (``ledger``), judging due times (``quality.catch_up``) and
alerts made of the rows (``alerts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from monitoring_pipelines.orchestration.jobs import Job
from monitoring_pipelines.orchestration.ledger import TRIGGER_TAG, sync
from monitoring_pipelines.orchestration.resources import Place
from monitoring_pipelines.self_jobs import product_jobs

CATCH_UP_JOB = "full_check_job"


def build_run_sensors(jobs: Mapping[str, Job], place: Place) -> list[SensorDefinition]:
    """The sensor, running by default."""

    @sensor(
        name="run_failure_sensor",
        jobs=[jobs[CATCH_UP_JOB]] if CATCH_UP_JOB in jobs else None,
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.RUNNING,
        description="Writes every run of the product's jobs, failed, canceled and lost ones too, and every missed due "
        "time to the state store, where the rules for alerts read them. After downtime it requests one full check.",
    )
    def run_failure_sensor(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        from monitoring_pipelines.quality.catch_up import record_missed

        now = place.clock.now()
        registry = product_jobs(place.settings)
        cursor = float(context.cursor) if context.cursor else None
        synced = sync(context.instance, place.state.store, registry, now, cursor)
        for run in synced.failed:
            context.log.warning(f"{run.job_id} {run.run_key}: {run.error_message}")
        missed = record_missed(place.state.store, registry.values(), now)
        context.update_cursor(str(synced.cursor))
        checks = {job_id: lost for job_id, lost in missed.items() if registry[job_id].check}
        if not checks or CATCH_UP_JOB not in jobs:
            yield SkipReason(f"{len(synced.runs)} runs recorded, {len(synced.failed)} of them failed")
            return
        newest = max(lost[-1].scheduled_at for lost in checks.values())
        number = sum(one.count for lost in checks.values() for one in lost)
        context.log.warning(f"{number} check runs were missed, the newest was due at {newest.isoformat()}Z")
        yield RunRequest(run_key=f"catchup:{newest.isoformat()}", job_name=CATCH_UP_JOB, tags={TRIGGER_TAG: "catchup"})

    return [run_failure_sensor]
