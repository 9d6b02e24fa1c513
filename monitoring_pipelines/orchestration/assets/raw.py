"""``raw/<entity>``: the rows of the sources under their unified names.

What belongs here: one asset per mapped entity, filled together by one extraction cycle per source.
What does not: how rows are found and converted (``source``).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.entities import Entity, entities
from monitoring_pipelines.orchestration.freshness import EVERY_MINUTE
from monitoring_pipelines.orchestration.metadata import OWNERS, VERSION, entity_metadata, key_of
from monitoring_pipelines.orchestration.resources import SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

CHECK = "every_source_answered"

_ROW = {
    "task": "One row per task.",
    "task_event": "One row per event of a task, as the platform recorded it.",
    "task_output": "One row per output a task produced.",
    "endpoint": "One row per endpoint of the registry.",
    "worker": "One row per worker and life.",
    "worker_event": "One row per event of a worker.",
    "worker_snapshot": "One row per snapshot of a worker.",
    "job": "One row per scheduled job.",
    "job_run": "One row per run of a job.",
    "process_sample": "One row per resource sample of a process.",
    "probe_result": "One row per answer of a health probe.",
    "ingest_counter": "One row per reading of an ingest counter.",
    "notification": "One row per notification the platform sent.",
}


def mapped_entities(settings: "Settings") -> dict[str, list[str]]:
    """Entity name -> ids of the enabled sources that map it, in dependency order."""
    mapped = {name: [s.id for s in settings.sources if s.enabled and s.tables.get(name)] for name in entities()}
    return {name: sources for name, sources in mapped.items() if sources}


def build_raw_assets(settings: "Settings") -> list[AssetsDefinition]:
    """One multi-asset over all mapped entities; empty when no source is enabled."""
    mapped = mapped_entities(settings)
    if not mapped:
        return []
    checked = key_of(f"raw.{next(iter(mapped))}")

    @multi_asset(
        name="raw",
        specs=[_spec(entities()[name], sources) for name, sources in mapped.items()],
        check_specs=[
            AssetCheckSpec(CHECK, asset=checked, description="Every source was read in the newest cycle (E-613).")
        ],
        can_subset=True,
    )
    def raw(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        """One extraction cycle of every source, whatever subset is selected: a cycle is one snapshot (E-601).

        A source that is new beside others is loaded by ``first_load_job``, so that they need not wait (E-506).
        """
        from monitoring_pipelines import pipeline

        pipe = pipeline_of(context, warehouse, source, clock)
        with retry_once(context):
            result = pipeline.extract(pipe, pipeline.loaded_sources(pipe) or None)
        for name in mapped:
            if key_of(f"raw.{name}") in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=key_of(f"raw.{name}"), metadata=result.entity_metadata(name), data_version=VERSION
                )
        if context.selected_asset_check_keys:
            yield AssetCheckResult(
                asset_key=checked,
                check_name=CHECK,
                passed=not result.failed,
                severity=AssetCheckSeverity.ERROR,
                metadata={f"error_{source_id}": message for source_id, message in result.failed.items()},
            )

    return [raw]


def _spec(entity: Entity, sources: list[str]) -> AssetSpec:
    return AssetSpec(
        ["raw", entity.name],
        description=f"{_ROW[entity.name]} Read from the sources {', '.join(sources)}; upserted by "
        f"{', '.join(entity.key)}; deleted rows are kept and marked.",
        group_name="raw",
        kinds={"duckdb", "mysql"},
        owners=OWNERS,
        tags={f"source/{source}": "" for source in sources},
        metadata=entity_metadata(entity),
        freshness_policy=EVERY_MINUTE,
    )
