"""Comparing days with their sources: which ones are due, and doing it (E-608, E-609).

What belongs here: the order, and that one source that cannot be compared does not hold up others. What does not: the
comparison (``source.reconcile``).
"""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.pipeline.base import DAY, HOUR, Pipeline
from monitoring_pipelines.pipeline.results import Reconciled
from monitoring_pipelines.pipeline.stages import refresh_core
from monitoring_pipelines.warehouse.connect import WarehouseMissing

if TYPE_CHECKING:
    import duckdb

#: Days beyond the source's retention that are still compared, so that what it removed is known as removed (E-610).
PURGED_DAYS = 2


@without_pandas()
def unverified_days(pipe: Pipeline) -> list[datetime]:
    """UTC days that were never compared with their source or not within ``reconcile_hours`` (E-609), oldest first.

    Days whose raw rows retention has removed are none of them: comparing would load them again.
    """
    now = pipe.clock.now()
    today = now - (now - datetime.min) % DAY
    limit = now - timedelta(hours=pipe.settings.extract.reconcile_hours)
    verified: dict[tuple[str, date], datetime] = {}
    raw_from: dict[str, datetime] = {}
    rescans_due = False
    if pipe.warehouse.path.exists():
        with pipe.warehouse.reader("reconciliation state") as con:
            rows = con.execute(_VERIFIED).fetchall()
            kept = "SELECT source_id, raw_from FROM meta.source_state WHERE raw_from IS NOT NULL"
            raw_from = dict(con.execute(kept).fetchall())
            rescans_due = bool(_rescans_due(pipe, con))
        verified = {(source_id, day): at for source_id, day, at in rows if day is not None}
    days = set()
    for source in pipe.sources:
        reach = pipe.settings.stats.backfill_days
        if source.retention_days:
            reach = min(reach, source.retention_days + PURGED_DAYS)
        for day in (today - DAY * n for n in range(reach + 1)):
            if day < raw_from.get(source.id, datetime.min):
                break
            if verified.get((source.id, day.date()), datetime.min) < limit:
                days.add(day)
    if not days and rescans_due:
        days.add(today)
    return sorted(days)


#: Per source and day: the oldest of its tables' newest proofs.
_VERIFIED = """
SELECT source_id, "day", min(newest) FROM (
    SELECT source_id, src_table, entity, "day", max(verified_at) AS newest FROM meta.reconciliation GROUP BY ALL
) GROUP BY ALL
"""


@without_pandas()
def reconcile(pipe: Pipeline, day: date) -> Reconciled:
    """Compare one UTC day of every source with the store, repair it, and refresh the core rows of what changed.

    Rows that belong to no day are compared along with a day when their own proof is older than ``reconcile_hours``, and
    large tables without id and ``updated_at`` when it is older than an hour (E-608).

    Raises:
        ProductError: A source could not be compared; the others were, and what was repaired stays.
    """
    from monitoring_pipelines.source.reconcile import reconcile_day, reconcile_undated, reconcile_whole

    began = time.monotonic()
    done = Reconciled()
    errors: list[ProductError] = []
    undated_due, rescans_due = _due_as_a_whole(pipe)
    for source in pipe.sources:
        arguments = (pipe.settings, source, pipe.warehouse, pipe.clock)
        try:
            results = reconcile_day(*arguments, day, log=pipe.log)
            if source.id in undated_due:
                results += reconcile_undated(*arguments, log=pipe.log)
            if source.id in rescans_due:
                results += reconcile_whole(*arguments, *rescans_due[source.id], log=pipe.log)
        except ProductError as error:
            pipe.log.error(f"{source.id}: {error.message}")
            errors.append(error)
            continue
        for result in results:
            pipe.log.info(str(result))
        done.results += results
        if sum(result.source_rows for result in results if result.day):
            _extend_origin(pipe, source.id, day)
    refresh_core(pipe)
    done.seconds = time.monotonic() - began
    if errors:
        raise errors[0]
    return done


def _due_as_a_whole(pipe: Pipeline) -> tuple[set[str], dict[str, tuple[set[str], datetime]]]:
    """Sources whose undated rows were not compared within ``reconcile_hours``, and tables whose rescan is due."""
    limit = pipe.clock.now() - timedelta(hours=pipe.settings.extract.reconcile_hours)
    everyone = {source.id for source in pipe.sources}
    try:
        with pipe.warehouse.reader("reconciliation state") as con:
            rows = con.execute(_VERIFIED).fetchall()
            rescans = _rescans_due(pipe, con)
    except WarehouseMissing:
        return everyone, {}
    return everyone - {source_id for source_id, day, at in rows if day is None and at >= limit}, rescans


def _rescans_due(pipe: Pipeline, con: duckdb.DuckDBPyConnection) -> dict[str, tuple[set[str], datetime]]:
    """Large tables with neither row id nor ``updated_at`` that were not compared whole for an hour (E-608).

    Half of ``RESCAN_ROWS`` counts as large, because the tail decides by the server's estimate.

    Returns:
        Per source the tables, and the instant from which the store has its rows.
    """
    from monitoring_pipelines.source.tail import RESCAN_ROWS

    now = pipe.clock.now()
    since = now - (now - datetime.min) % DAY - DAY * pipe.settings.stats.backfill_days
    due: dict[str, tuple[set[str], datetime]] = {}
    for source_id, table, entity, raw_from in con.execute(_RESCANS, {"limit": now - HOUR}).fetchall():
        count = f'SELECT count(*) FROM raw."{entity}" WHERE source_id = ? AND src_table = ?'
        rows = con.execute(count, [source_id, table]).fetchone() or (0,)
        if rows[0] > RESCAN_ROWS // 2:
            due.setdefault(source_id, (set(), max(since, raw_from or since)))[0].add(table)
    return due


#: Tables read whole or by creation time only, whose comparison as a whole is older than the limit.
_RESCANS = """
SELECT mark.source_id, mark.src_table, mark.entity, any_value(state.raw_from)
FROM meta.extract_mark AS mark
LEFT JOIN meta.source_state AS state USING (source_id)
LEFT JOIN meta.reconciliation AS proof
    ON mark.source_id = proof.source_id AND mark.src_table = proof.src_table AND mark.entity = proof.entity
    AND proof."day" IS NULL
WHERE mark.strategy = 'rescan'
GROUP BY ALL
HAVING coalesce(max(proof.verified_at), TIMESTAMP '1970-01-01') < $limit
"""


def _extend_origin(pipe: Pipeline, source_id: str, day: date) -> None:
    """History that was loaded on request counts, also when it is older than ``backfill_days`` (M-802)."""
    from monitoring_pipelines.warehouse.windows import extend_origin

    with pipe.warehouse.writer("origin") as con:
        extend_origin(con, source_id, datetime(day.year, day.month, day.day), pipe.clock.now())
