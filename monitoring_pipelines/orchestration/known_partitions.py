"""Telling Dagster what the warehouse holds already, so that its UI calls nothing missing or not evaluated that is there.

What belongs here: partitions that were computed, verified or checked outside of a run (a first load from the command line).
What does not: computing them; runs report their own partitions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    MetadataValue,
)

from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.orchestration.asset_checks import default_window, predicate, remember, result_metadata
from monitoring_pipelines.orchestration.assets.audit import KEY
from monitoring_pipelines.orchestration.assets.mart import partition_of, window_metadata
from monitoring_pipelines.orchestration.catalog import load_catalog
from monitoring_pipelines.orchestration.check_results import check_result
from monitoring_pipelines.orchestration.check_specs import places
from monitoring_pipelines.orchestration.metadata import VERSION_TAGS, figures, key_of
from monitoring_pipelines.partition_keys import day_key
from monitoring_pipelines.warehouse.families import FAMILIES

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from monitoring_pipelines.pipeline import Pipeline, WindowDone
    from monitoring_pipelines.quality.model import CheckRun

_VERIFIED = """
SELECT "day", count(*), count(*) FILTER (NOT equal), sum(source_rows), sum(rows_reread), sum(rows_deleted)
FROM meta.reconciliation WHERE "day" IS NOT NULL GROUP BY "day" ORDER BY "day"
"""


def report_to_home(
    home: Path, pipe: Pipeline, stop: threading.Event | None = None, checked: CheckRun | None = None
) -> int:
    """``report_known_partitions`` to the instance of a Dagster home, before it the audits and what ``checked`` found."""
    with DagsterInstance.from_config(str(home)) as instance:
        report_first_checks(instance, pipe)
        if checked is not None:
            report_check_run(instance, pipe, checked)
        report_stored_tables(instance, pipe)
        return report_known_partitions(instance, pipe, stop)


def report_first_checks(instance: DagsterInstance, pipe: Pipeline) -> None:
    """Evaluate the audits over the last day, if Dagster has no result of them yet."""
    from monitoring_pipelines.pipeline import audit
    from monitoring_pipelines.state import StateStore

    tables = {family.name: (family.table("hour"), family.table("day")) for family in FAMILIES.values()}
    judged = {check.name: tables[check.family] for check in load_catalog().audits}
    keys = [AssetCheckKey(key_of(t), predicate(name, t)) for name, found in judged.items() for t in found]
    if instance.event_log_storage.get_latest_asset_check_execution_by_key(keys):
        return
    start, end = default_window(pipe.clock)
    results = audit(pipe, start, end)
    for family in FAMILIES.values():
        own = {one.name for one in load_catalog().audits if one.family == family.name}
        said = [result for result in results if result.name in own]
        remember(StateStore.of(pipe.settings), pipe, family, said, start, end)
    for result in results:
        metadata = {name: MetadataValue.text(v) if isinstance(v, str) else MetadataValue.int(v)
                    for name, v in result_metadata(result, start, end).items()}  # fmt: skip
        for table in judged[result.name]:
            name = predicate(result.name, table)
            instance.report_runless_asset_event(
                AssetCheckEvaluation(key_of(table), name, result.passed, metadata, severity=AssetCheckSeverity.ERROR)
            )


def report_check_run(instance: DagsterInstance, pipe: Pipeline, run: CheckRun) -> int:
    """Report the results of a check run that was none of Dagster's; how many there are."""
    count = 0
    for place in places(pipe.settings, load_catalog().tables).values():
        mine = [outcome for outcome in run.outcomes if outcome.check_id == place.check.id]
        result = check_result(mine, key_of(place.table), place.name, pipe.settings, run.run_id)
        if result is not None and not place.of_partitions:
            instance.report_runless_asset_event(
                AssetCheckEvaluation(
                    key_of(place.table), place.name, result.passed, result.metadata,
                    severity=result.severity, description=result.description,
                )
            )  # fmt: skip
            count += 1
    return count


def report_stored_tables(instance: DagsterInstance, pipe: Pipeline) -> int:
    """Report tables without partitions (raw, core) that hold rows before any run: a backfill then does not warn of them.

    Returns:
        Number of materializations reported.
    """
    mapped = {f"raw.{entity}" for source in pipe.sources for entity in source.tables}
    wanted = sorted(mapped | {name for name in load_catalog().tables if name.startswith("core.")})
    with pipe.warehouse.reader("stored tables") as con:
        stored = "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        there = {row[0] for row in con.execute(stored).fetchall()}
        counts = {n: con.execute(f"SELECT count(*) FROM {n}").fetchone() for n in wanted if n in there}
    count = 0
    for name, found in counts.items():
        key = key_of(name)
        if found and found[0] and instance.get_latest_materialization_event(key) is None:
            instance.report_runless_asset_event(
                AssetMaterialization(key, metadata=figures({"rows": found[0]}), tags=VERSION_TAGS)
            )
            count += 1
    return count


def report_known_partitions(instance: DagsterInstance, pipe: Pipeline, stop: threading.Event | None = None) -> int:
    """Report every stored partition that Dagster does not know, oldest first. Safe to repeat and to end early.

    Args:
        instance: Where materializations are stored.
        pipe: Whose warehouse is looked at; it is open for one short look.
        stop: Ends the work early.

    Returns:
        Number of materializations reported.
    """
    from monitoring_pipelines.pipeline import stored_windows

    with without_pandas():
        windows = stored_windows(pipe)
        with pipe.warehouse.reader("verified days") as con:
            days = con.execute(_VERIFIED).fetchall()
    known: dict[AssetKey, set[str]] = {}
    count = 0
    for event in _events(windows, days):
        if stop is not None and stop.is_set():
            break
        if event.asset_key not in known:
            known[event.asset_key] = set(instance.get_materialized_partitions(event.asset_key))
        if event.partition not in known[event.asset_key]:
            instance.report_runless_asset_event(event)
            count += 1
    return count


def _events(
    windows: list[WindowDone], days: list[tuple[date, int, int, int, int, int]]
) -> Iterator[AssetMaterialization]:
    names = ("tables", "unequal", "source_rows", "rows_reread", "rows_deleted")
    for day, *values in days:
        numbers = figures(dict(zip(names, (int(v) for v in values), strict=True)))
        yield AssetMaterialization(AssetKey(KEY), partition=day_key(day), metadata=numbers, tags=VERSION_TAGS)
    for window in windows:
        yield AssetMaterialization(
            key_of(window.table), partition=partition_of(window), metadata=window_metadata(window), tags=VERSION_TAGS
        )
