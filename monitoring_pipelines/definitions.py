"""The Dagster code location.

What belongs here: putting assets, checks, jobs, schedules, sensors and resources together from the configuration.
What does not: any of them (``orchestration``). Loading reads the configuration and the SQL files; it opens no
connection, creates no file and needs no password.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from dagster import AssetSpec, Definitions, in_process_executor

from monitoring_pipelines.config import load_settings

CONFIG_VARIABLE = "MP_CONFIG"
DEFAULT_CONFIG = "monitoring.yaml"


def build_defs(**overrides: Any) -> Definitions:
    """Build the code location.

    Args:
        **overrides: For tests and embedding. ``settings``: a ``Settings`` object; ``config_path``: the configuration
            file; ``clock``: a ``Clock``; ``resources``: resources by role that replace the default ones.

    Returns:
        All definitions; without any configuration file a location that says how to get one.

    Raises:
        ConfigError: The configuration file exists and is wrong (E-501).
    """
    settings = overrides.pop("settings", None)
    path = overrides.pop("config_path", None) or os.environ.get(CONFIG_VARIABLE)
    if settings is None:
        if path is None and not Path(DEFAULT_CONFIG).exists():
            return _unconfigured()
        settings = load_settings(path)
    return _build(settings, **overrides)


def _build(settings: Any, *, clock: Any = None, resources: dict[str, Any] | None = None) -> Definitions:
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.orchestration.alert_sensors import build_alert_sensors
    from monitoring_pipelines.orchestration.asset_checks import build_asset_checks
    from monitoring_pipelines.orchestration.assets.audit import build_audit_assets
    from monitoring_pipelines.orchestration.assets.core import build_core_assets
    from monitoring_pipelines.orchestration.assets.mart import build_mart_assets
    from monitoring_pipelines.orchestration.assets.raw import build_raw_assets, mapped_entities
    from monitoring_pipelines.orchestration.catalog import load_catalog
    from monitoring_pipelines.orchestration.catalogue_checks import build_catalogue_checks, build_check_jobs
    from monitoring_pipelines.orchestration.check_schedules import build_check_schedules
    from monitoring_pipelines.orchestration.check_specs import places, quality_assets
    from monitoring_pipelines.orchestration.collect_sensors import build_collect_sensor
    from monitoring_pipelines.orchestration.jobs import build_jobs
    from monitoring_pipelines.orchestration.metadata import key_of
    from monitoring_pipelines.orchestration.partitions import build_partitions, first_partition_day
    from monitoring_pipelines.orchestration.proof_checks import build_proof_checks
    from monitoring_pipelines.orchestration.repair_jobs import build_repair_sensors
    from monitoring_pipelines.orchestration.resources import Place, default_resources
    from monitoring_pipelines.orchestration.run_sensors import build_run_sensors
    from monitoring_pipelines.orchestration.schedules import build_schedules
    from monitoring_pipelines.orchestration.sensors import build_sensors
    from monitoring_pipelines.self_jobs import product_jobs

    clock = clock or current_clock()
    by_role = {**default_resources(settings, clock), **(resources or {})}
    place = Place.of(by_role)
    partitions = build_partitions(first_partition_day(settings, clock))
    catalog = load_catalog()
    raw = [f"raw.{name}" for name in mapped_entities(settings)]
    known = {*raw, *catalog.tables}
    registry = product_jobs(settings)
    judged = places(settings, known)
    jobs = build_jobs(settings) | {job.name: job for job in build_check_jobs(judged, registry)}
    return Definitions(
        assets=[
            *build_raw_assets(settings),
            *build_core_assets(catalog.tables, known),
            *build_mart_assets(catalog.tables, known, partitions),
            *build_audit_assets([key_of(name) for name in raw], partitions),
            *quality_assets(judged, known),
        ],
        asset_checks=[
            *build_asset_checks(catalog.audits),
            *build_proof_checks(bool(raw)),
            *build_catalogue_checks(judged),
        ],
        jobs=list(jobs.values()),
        schedules=[*build_schedules(jobs, registry), *build_check_schedules(jobs, registry)],
        sensors=[
            *build_sensors(jobs, partitions, place),
            *build_alert_sensors(place),
            *build_run_sensors(jobs, place),
            build_collect_sensor(place),
            *build_repair_sensors(place, jobs["plan_compensation_job"]),
        ],
        resources=by_role,
        executor=in_process_executor,
    )


def _unconfigured() -> Definitions:
    """A location that loads and explains itself: the UI is where a new user looks first."""
    return Definitions(
        assets=[
            AssetSpec(
                ["setup", "configuration"],
                group_name="setup",
                description=f"There is no configuration yet: {Path(DEFAULT_CONFIG).absolute()} does not exist and the "
                f"environment variable {CONFIG_VARIABLE} is not set. Run `mp init` to write one, `mp validate` to "
                "check it, then reload this code location.",
            )
        ],
        executor=in_process_executor,
    )


defs = build_defs()
# What was imported and defined stays as long as the process: each full collection would pass over it again (0.1 CPU-s).
gc.freeze()
