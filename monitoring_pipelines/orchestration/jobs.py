"""The jobs: what runs together, with which tags.

What belongs here: job definitions and their selections.
What does not: when they run (``schedules``, ``sensors``) and what they do (``assets``, ``maintenance``).
"""

from __future__ import annotations

from dagster import AssetSelection, JobDefinition, define_asset_job, in_process_executor
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.orchestration.first_load import first_load_job
from monitoring_pipelines.orchestration.maintenance import maintenance_job
from monitoring_pipelines.orchestration.repair_jobs import build_repair_jobs
from monitoring_pipelines.warehouse.families import DAY_TABLES, HOUR_TABLES

#: Longest a minute tick may take before run monitoring ends it, seconds: the very first one loads all history.
TICK_LIMIT_S = 6 * 3600


Job = JobDefinition | UnresolvedAssetJobDefinition


def build_jobs(settings: Settings) -> dict[str, Job]:
    """All jobs by name. Only those of repair need run config."""
    jobs: list[Job] = [*_asset_jobs(), first_load_job, maintenance_job, *build_repair_jobs(settings)]
    return {job.name: job for job in jobs}


def _asset_jobs() -> list[UnresolvedAssetJobDefinition]:
    hours = AssetSelection.assets(*(name.split(".") for name in HOUR_TABLES))
    days = AssetSelection.assets(*(name.split(".") for name in DAY_TABLES))
    return [
        define_asset_job(
            "minute_tick_job",
            AssetSelection.groups("raw", "core") | AssetSelection.assets(["meta", "window_run"], ["lake", "manifest"]),
            description="Extract, refresh core, compute every hour and day that is due, publish. One short process.",
            # Priority: with a long queue of backfill runs the tick is started first.
            tags={"type": "minute_tick", "dagster/priority": "10", "dagster/max_runtime": str(TICK_LIMIT_S)},
            executor_def=in_process_executor,
        ),
        define_asset_job(
            "hourly_stats_job",
            hours,
            description="Recompute minute and hour statistics of hour partitions, audit and publish them.",
            tags={"type": "hourly_stats"},
            executor_def=in_process_executor,
        ),
        define_asset_job(
            "daily_stats_job",
            days,
            description="Recompute the day statistics of day partitions, audit and publish them.",
            tags={"type": "daily_stats"},
            executor_def=in_process_executor,
        ),
        define_asset_job(
            "reconciliation_job",
            AssetSelection.assets(["audit", "reconciliation"]),
            description="Compare store and source day by day; load what is missing, repair what differs.",
            tags={"type": "reconciliation"},
            executor_def=in_process_executor,
        ),
    ]
