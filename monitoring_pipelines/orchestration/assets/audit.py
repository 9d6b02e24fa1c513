"""``audit/reconciliation``: the proof, day by day, that the store equals the source.

What belongs here: the partitioned asset around ``source.reconcile``.
What does not: comparing, re-reading and deleting (``source.reconcile``).
"""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    MaterializeResult,
    ResourceParam,
    multi_asset,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.metadata import OWNERS, VERSION, figures
from monitoring_pipelines.orchestration.partitions import DAY, Partitions, slices, window_of
from monitoring_pipelines.orchestration.resources import POOL, SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once
from monitoring_pipelines.partition_keys import day_key

DAYS_PER_RUN = 7
KEY = ["audit", "reconciliation"]


def build_audit_assets(raw: list[AssetKey], partitions: Partitions) -> list[AssetsDefinition]:
    """The reconciliation asset, downstream of the raw assets it verifies."""

    @multi_asset(
        name="reconciliation",
        specs=[
            AssetSpec(
                KEY,
                deps=raw,
                description="One row per source table and UTC day: rows on both sides, whether they are equal, and "
                "when that was verified. Ranges that differ are read again, so the same asset is the first load, the "
                "repair of history and the proof (E-609). Statistics of repaired days follow by themselves.",
                group_name="audit",
                kinds={"duckdb", "mysql"},
                owners=OWNERS,
                metadata={"dagster/table_name": "meta.reconciliation"},
            )
        ],
        partitions_def=partitions.daily,
        backfill_policy=BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
        pool=POOL,
    )
    def reconciliation(
        context: AssetExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[MaterializeResult[Any]]:
        """Compare each day of the run with every source."""
        from monitoring_pipelines import pipeline

        pipe = pipeline_of(context, warehouse, source, clock)
        start, end = window_of(context)
        for day, _ in slices(start, end, DAY):
            with retry_once(context):
                result = pipeline.reconcile(pipe, day.date())
            context.add_asset_metadata(figures(result.metadata()), asset_key=KEY, partition_key=day_key(day))
        yield MaterializeResult(asset_key=KEY, data_version=VERSION)

    return [reconciliation]
