"""``mart/*``: statistics per hour and day partition; ``meta/window_run`` and ``lake/manifest`` of the minute tick.

What belongs here: assets that compute windows and publish them.
What does not: the statistics (``dbt_like_sql/mart``) and what is due (``pipeline``).

Two ways lead to the same function of the same window. A partition run (UI, GraphQL, sensor) computes exactly its range
hour by hour; its step occupies the pool ``duckdb``, but the writer lock only per slice. The minute tick computes what
is due through ``meta/window_run`` in no pool, so it passes between two slices instead of waiting for the whole range.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    DagsterInstance,
    LastPartitionMapping,
    MaterializeResult,
    ResourceParam,
    asset,
    multi_asset,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.event_store import many_events
from monitoring_pipelines.orchestration.freshness import EVERY_DAY, EVERY_HOUR, EVERY_MINUTE
from monitoring_pipelines.orchestration.metadata import (
    OWNERS,
    VERSION,
    VERSION_TAGS,
    asset_deps,
    column_lineage,
    figures,
    key_of,
    table_metadata,
)
from monitoring_pipelines.orchestration.partitions import DAY, Partitions, window_of
from monitoring_pipelines.orchestration.resources import POOL, SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once
from monitoring_pipelines.partition_keys import day_key, hour_key
from monitoring_pipelines.warehouse.families import DAY_TABLES, ENDPOINT, FAMILIES, HOUR_TABLES, Family

if TYPE_CHECKING:
    from monitoring_pipelines.orchestration.catalog import Table
    from monitoring_pipelines.pipeline import WindowDone

#: A year of hours is 52 runs; a run costs about 15 ms of bookkeeping per partition and asset.
HOURS_PER_RUN = 168
DAYS_PER_RUN = 31
PROGRESS_EVERY_S = 10.0
MINUTE_TABLES = frozenset(family.table("minute") for family in FAMILIES.values())


def build_mart_assets(catalog: dict[str, "Table"], known: set[str], partitions: Partitions) -> list[AssetsDefinition]:
    """Statistics tables, the log of computed windows, and the published manifest."""
    tables = known | set(catalog)
    assets = []
    for family in FAMILIES.values():
        specs = {name: _spec(name, family, catalog, tables) for name in (*family.hour_tables, *family.day_tables)}
        assets.append(_hours(family, [specs[name] for name in family.hour_tables], partitions))
        assets.append(_days(family, [specs[name] for name in family.day_tables], partitions))
    core = [key_of(name) for name in sorted(tables) if name.startswith("core.")]
    return [*assets, _window_run(core), _manifest()]


def _spec(name: str, family: Family, catalog: dict[str, "Table"], tables: set[str]) -> AssetSpec:
    """The asset of one statistics table."""
    metadata = table_metadata(catalog[name])
    finer = {family.table("hour"): family.table("minute"), family.table("day"): family.table("hour")}.get(name)
    if finer is not None:
        metadata["dagster/column_lineage"] = column_lineage(catalog[name], catalog[finer])
    policy = EVERY_MINUTE if name == FAMILIES[ENDPOINT].table("minute") else EVERY_HOUR
    return AssetSpec(
        key_of(name),
        deps=asset_deps(catalog[name], tables),
        description=catalog[name].description,
        group_name="mart",
        kinds={"duckdb", "sql"},
        owners=OWNERS,
        tags={"grain": catalog[name].grain or "", "family": family.name},
        metadata=metadata,
        freshness_policy=EVERY_DAY if name in family.day_tables else policy,
    )


def _hours(family: Family, specs: list[AssetSpec], partitions: Partitions) -> AssetsDefinition:
    @multi_asset(
        name=f"{family.name}_hours",
        specs=specs,
        partitions_def=partitions.hourly,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN),
        can_subset=True,
        pool=POOL,
    )
    def hours(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[MaterializeResult[Any]]:
        """Minute and hour statistics of the run's hours."""
        yield from _compute_range(context, warehouse, source, clock, family.hour_tables)

    return hours


def _days(family: Family, specs: list[AssetSpec], partitions: Partitions) -> AssetsDefinition:
    @multi_asset(
        name=f"{family.name}_days",
        specs=specs,
        partitions_def=partitions.daily,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
        pool=POOL,
    )
    def days(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[MaterializeResult[Any]]:
        """Day statistics of the run's days."""
        yield from _compute_range(context, warehouse, source, clock, family.day_tables)

    return days


def _compute_range(
    context: AssetExecutionContext,
    warehouse: WarehouseResource,
    source: SourceResource,
    clock: Clock,
    tables: Sequence[str],
) -> Iterator[MaterializeResult[Any]]:
    """Compute the run's window slice by slice, then publish; figures go to each partition's materialization."""
    from monitoring_pipelines import pipeline

    wanted = [name for name in tables if key_of(name) in context.selected_asset_keys]
    start, end = window_of(context)
    pipe = pipeline_of(context, warehouse, source, clock)
    began = shown = time.monotonic()
    with retry_once(context):
        for done in pipeline.compute_range(pipe, wanted, start, end):
            for window in done:
                context.add_asset_metadata(
                    window_metadata(window), asset_key=key_of(window.table), partition_key=partition_of(window)
                )
            if done and time.monotonic() - shown > PROGRESS_EVERY_S:
                shown = time.monotonic()
                share = (done[-1].end - start) / (end - start)
                context.log.info(f"{share:.0%} done, about {(shown - began) * (1 / share - 1):.0f} s left")
        pipeline.publish_pending(pipe, everything=True)
    # Dagster records a partition of a table while this waits for the next result to be asked for.
    with many_events(context.instance, context.run.run_id):
        for name in wanted:
            yield MaterializeResult(asset_key=key_of(name), data_version=VERSION)
    pipe.warehouse.tidy()


def window_metadata(window: "WindowDone") -> dict[str, Any]:
    """Figures of one computed window; numbers, so that Dagster plots them over time."""
    return figures(
        {
            "dagster/partition_row_count": window.rows,
            "rows": window.rows,
            "restated": window.restated,
            "window_start": window.start.isoformat() + "Z",
            "window_end": window.end.isoformat() + "Z",
        }
    )


def partition_of(window: "WindowDone") -> str:
    """Partition key of a computed window."""
    return day_key(window.start) if window.end - window.start >= DAY else hour_key(window.start)


def is_reported(instance: DagsterInstance, table: str, partition: str) -> bool:
    """Whether Dagster knows of a materialization of the partition."""
    wanted = AssetRecordsFilter(key_of(table), asset_partitions=[partition])
    return bool(instance.fetch_materializations(wanted, limit=1).records)


def _window_run(core: list[AssetKey]) -> AssetsDefinition:
    @asset(
        key=["meta", "window_run"],
        deps=core,
        group_name="mart",
        kinds={"duckdb"},
        owners=OWNERS,
        freshness_policy=EVERY_MINUTE,
    )
    def window_run(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> MaterializeResult[Any]:
        """One row per computed window: what the statistics tables were computed from, when, and what it changed.

        Closes the minutes that may be closed (M-801), then computes every hour and day that is due, oldest first. Each
        computed partition is reported as a materialization of its ``mart`` table; a row of an hour or a day that still
        goes on is reported once: Dagster hides what the audits found as soon as the table is materialized again.
        """
        from monitoring_pipelines import pipeline

        with retry_once(context):
            result = pipeline.compute_due(pipeline_of(context, warehouse, source, clock))
        now = clock.now()
        with many_events(context.instance, context.run.run_id):
            for window in result.windows:
                partition = partition_of(window)
                goes_on = window.end > now and window.table not in MINUTE_TABLES
                if goes_on and is_reported(context.instance, window.table, partition):
                    continue
                context.log_event(
                    AssetMaterialization(
                        key_of(window.table), partition=partition, metadata=window_metadata(window), tags=VERSION_TAGS
                    )
                )
        return MaterializeResult(metadata=figures(result.metadata()), data_version=VERSION)

    return window_run


def _manifest() -> AssetsDefinition:
    # Without a mapping Dagster lists every partition of every table at every tick, to fingerprint its inputs: 0.1 CPU-s a
    # table and year.
    newest = [AssetDep(key_of(name), partition_mapping=LastPartitionMapping()) for name in HOUR_TABLES + DAY_TABLES]

    @asset(
        key=["lake", "manifest"],
        deps=[AssetKey(["meta", "window_run"]), *newest],
        group_name="publish",
        kinds={"parquet"},
        owners=OWNERS,
        freshness_policy=EVERY_MINUTE,
    )
    def manifest(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> MaterializeResult[Any]:
        """The published copy: Parquet files of all changed partitions and the manifest that names a consistent set."""
        from monitoring_pipelines import pipeline

        with retry_once(context):
            result = pipeline.publish_pending(pipeline_of(context, warehouse, source, clock))
        return MaterializeResult(metadata=figures(result.metadata()), data_version=VERSION)

    return manifest
