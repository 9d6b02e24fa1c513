"""The nightly maintenance job: runs that are superseded, rows that are too old, files that grew.

What belongs here: its ops; Dagster has no run retention of its own, and 1,440 ticks a day fill its storage.
What does not: retention and compaction of the store (``warehouse.retention``, ``warehouse.maintenance``).
"""

from collections.abc import Iterator
from datetime import timedelta

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    In,
    Nothing,
    OpExecutionContext,
    Out,
    ResourceParam,
    RunsFilter,
    in_process_executor,
    job,
    op,
)
from dagster._time import datetime_from_timestamp, get_current_timestamp

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.resources import POOL, SourceResource, StateResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once

#: How long finished runs stay: successful ticks, other ticks, runs of other jobs.
TICK_AGE = timedelta(hours=24)
FAILED_TICK_AGE = timedelta(days=30)
RUN_AGE = timedelta(days=90)
BATCH = 200
FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@op(
    out=Out(Nothing),
    description="Delete finished runs that nothing needs any more; the newest one of every partition stays.",
)
def prune_runs(context: OpExecutionContext) -> None:
    """Prune Dagster's own storage; needs no warehouse."""
    deleted = prune_superseded_runs(context.instance)
    context.log.info(f"{deleted} superseded runs deleted")
    context.add_output_metadata({"runs_deleted": deleted})


@op(
    ins={"after": In(Nothing)},
    out=Out(Nothing),
    description="Remove check runs, alerts, messages and log files older than retention allows (S-506).",
)
def prune_state(
    context: OpExecutionContext,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Retention of the state store and of the files it describes; needs no warehouse."""
    from monitoring_pipelines.quality.files import prune_logs
    from monitoring_pipelines.state import retention

    now = clock.now()
    removed = retention.prune(state.store, source.settings, now)
    removed["log_files"] = len(prune_logs(source.settings, now))
    context.log.info(", ".join(f"{count} {what}" for what, count in removed.items()))
    context.add_output_metadata(removed)


@op(
    ins={"after": In(Nothing)},
    out=Out(Nothing),
    pool=POOL,
    description="Remove rows older than retention allows (E-901, E-902).",
)
def apply_retention(
    context: OpExecutionContext,
    warehouse: WarehouseResource,
    source: ResourceParam[SourceResource],
    clock: ResourceParam[Clock],
) -> None:
    """Retention of raw rows and statistics, an hour or day at a time."""
    from monitoring_pipelines.warehouse.retention import apply_retention as apply

    pipe = pipeline_of(context, warehouse, source, clock)
    with retry_once(context):
        report = apply(pipe.warehouse, pipe.settings.retention, clock)
    removed = sum(report.removed.values())
    context.log.info(f"{removed} rows removed; {'finished' if report.finished else 'to be continued'}")
    context.add_output_metadata({"rows_removed": removed})
    for source_id, reason in report.postponed.items():
        context.log.warning(f"{source_id}: older rows stay because {reason}")


@op(
    ins={"after": In(Nothing)},
    out=Out(Nothing),
    pool=POOL,
    description="Compact the published files, check them, merge the log.",
)
def compact(
    context: OpExecutionContext,
    warehouse: WarehouseResource,
    source: ResourceParam[SourceResource],
    clock: ResourceParam[Clock],
) -> None:
    """Compaction and checkpoint."""
    from monitoring_pipelines.warehouse.maintenance import maintain

    pipe = pipeline_of(context, warehouse, source, clock)
    with retry_once(context):
        report = maintain(pipe.warehouse, pipe.settings.lake_path, clock)
    context.log.info(str(report))


def prune_superseded_runs(instance: DagsterInstance) -> int:
    """Delete finished runs past their age, except those that hold the newest materialization of a partition.

    Returns:
        Number of runs deleted.
    """
    needed = _newest_runs(instance)
    deleted = 0
    for run_id in list(_expired_runs(instance)):
        if run_id in needed:
            continue
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        deleted += 1
    return deleted


def _expired_runs(instance: DagsterInstance) -> Iterator[str]:
    now = get_current_timestamp()
    expiries = [
        RunsFilter(job_name=name, statuses=statuses, updated_before=datetime_from_timestamp(now - age.total_seconds()))
        for name, statuses, age in (
            ("minute_tick_job", [DagsterRunStatus.SUCCESS], TICK_AGE),
            ("minute_tick_job", FINISHED, FAILED_TICK_AGE),
            (None, FINISHED, RUN_AGE),
        )
    ]
    seen = set()
    for wanted in expiries:
        cursor = None
        while page := instance.get_run_ids(wanted, cursor=cursor, limit=BATCH):
            cursor = page[-1]
            fresh = [run_id for run_id in page if run_id not in seen]
            seen.update(fresh)
            yield from fresh


def _newest_runs(instance: DagsterInstance) -> set[str]:
    """Runs whose events say that an asset or partition is materialized; without them the UI would call it missing."""
    runs: set[str] = set()
    for key in instance.all_asset_keys():
        record = instance.get_latest_materialization_event(key)
        if record is not None:
            runs.add(record.run_id)
        runs |= _newest_partition_runs(instance, key)
    return runs


def _newest_partition_runs(instance: DagsterInstance, key: AssetKey) -> set[str]:
    storage = instance.event_log_storage
    ids = list(storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION).values())
    runs = set()
    for at in range(0, len(ids), BATCH):
        batch = AssetRecordsFilter(asset_key=key, storage_ids=ids[at : at + BATCH])
        runs |= {record.run_id for record in instance.fetch_materializations(batch, limit=BATCH).records}
    return runs


@job(
    name="maintenance_job",
    description="Prune superseded runs, old checks, alerts and logs, apply retention, compact files. Runs beside ticks.",
    tags={"type": "maintenance"},
    executor_def=in_process_executor,
)
def maintenance_job() -> None:
    """The four ops, one after another."""
    compact(after=apply_retention(after=prune_state(after=prune_runs())))
