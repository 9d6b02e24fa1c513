"""``core/*``: attempts, instants, waits, worker lives and intervals, derived from raw rows.

What belongs here: one multi-asset over the core tables; they are refreshed together, for the keys that changed.
What does not: the derivations (``dbt_like_sql/core``) and how keys are claimed (``warehouse.core_refresh``).
"""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.freshness import EVERY_MINUTE
from monitoring_pipelines.orchestration.metadata import OWNERS, VERSION, asset_deps, key_of, table_metadata
from monitoring_pipelines.orchestration.resources import SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once

if TYPE_CHECKING:
    from monitoring_pipelines.orchestration.catalog import Table


def build_core_assets(catalog: dict[str, "Table"], known: set[str]) -> list[AssetsDefinition]:
    """The core tables.

    Args:
        catalog: tables filled by SQL models, by name.
        known: ``layer.table`` of the other assets of the location, to keep references to unmapped entities out.
    """
    mine = {name: table for name, table in catalog.items() if name.startswith("core.")}
    # Dagster wants the tables of one step reported in the order of their references.
    tables = list(TopologicalSorter({name: set(table.refs) & set(mine) for name, table in mine.items()}).static_order())
    specs = [
        AssetSpec(
            key_of(name),
            deps=asset_deps(catalog[name], known | set(tables)),
            description=catalog[name].description,
            group_name="core",
            kinds={"duckdb", "sql"},
            owners=OWNERS,
            metadata=table_metadata(catalog[name]),
            freshness_policy=EVERY_MINUTE,
        )
        for name in tables
    ]

    @multi_asset(name="core", specs=specs, can_subset=True)
    def core(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[MaterializeResult[Any]]:
        """Recompute the claimed tasks and workers of every source, whatever subset is selected."""
        from monitoring_pipelines import pipeline

        with retry_once(context):
            result = pipeline.refresh_core(pipeline_of(context, warehouse, source, clock))
        for name in tables:
            if key_of(name) in context.selected_asset_keys:
                yield MaterializeResult(
                    asset_key=key_of(name), metadata=result.table_metadata(name), data_version=VERSION
                )

    return [core]
