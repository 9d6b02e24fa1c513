"""Moving statistics windows: what is due, and computing it.

What belongs here: due hours and days of every family, marks and progress. What does not: the numbers
(``dbt_like_sql/mart``), closed times (``closing``), comparing and writing rows (``window_rows``), publishing, schedules.

The last minute, a late row's hour, a repaired day and a year's backfill take the same path; only the window differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.closing import Closing, close_minutes, extend_origin, raise_late
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.families import ACTIVE, ENDPOINT, FAMILIES, OUTPUT
from monitoring_pipelines.warehouse.publish import mark_for_publish
from monitoring_pipelines.warehouse.schema import transaction
from monitoring_pipelines.warehouse.sql_models import Model, ensure_table, install_macros, load_model, stale_models
from monitoring_pipelines.warehouse.window_rows import (
    DAY,
    HOUR,
    MINUTE,
    STEP,
    WindowError,
    WindowResult,
    aligned,
    floor,
    hours_of,
    write_window,
)

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "DAY", "HOUR", "MINUTE", "Closing", "DueDay", "DueHour", "DueWork", "WindowError", "WindowResult", "close_minutes",
    "due_work", "extend_origin", "prepare", "refresh_day", "refresh_due", "refresh_hours", "refresh_window",
]  # fmt: skip

#: Hours computed in one transaction: enough for speed, few enough for memory (0.8 GB at 1.1 M attempts a day).
CHUNK_HOURS = 6
#: Columns of every statistics table that describe the row's history, not its bucket (M-803, M-804).
HISTORY = (
    ("revision", "BIGINT"),
    ("first_closed_at", "TIMESTAMP"),
    ("restated_at", "TIMESTAMP"),
    ("frozen", "BOOLEAN"),
)
#: Up to where minutes of a family are closed; ``state`` and ``pair`` are the source's state and the (source, family).
_CLOSED = (
    f"CASE WHEN pair.family = '{OUTPUT}' THEN least(state.closed_through, state.output_closed_through) "
    "ELSE state.closed_through END"
)


@dataclass(frozen=True)
class DueHour:
    """Minutes ``[start, end)`` of one hour that must be computed; ``dirty`` if rows changed behind them (M-803)."""

    source_id: str
    hour: datetime
    start: datetime
    end: datetime
    dirty: bool = False
    family: str = ENDPOINT


@dataclass(frozen=True)
class DueDay:
    """A day whose hours changed or were completed since it was computed."""

    source_id: str
    day: datetime
    family: str = ENDPOINT


@dataclass(frozen=True)
class DueWork:
    """Everything that must be computed, oldest first (M-802)."""

    hours: tuple[DueHour, ...] = ()
    days: tuple[DueDay, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hours or self.days)


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Create or extend the tables of all families, and the core tables they read.

    Raises:
        ModelError: A stored column has another type than the model now yields.
    """
    stale = stale_models(con, [model for name in FAMILIES for model in _models(name)], HISTORY)
    if stale:
        ensure_core(con)
    for model in stale:
        ensure_table(con, model, HISTORY)


def _models(family: str) -> tuple[Model, Model, Model]:
    """The minute, hour and day models of a family."""
    if family not in FAMILIES:
        raise WindowError(f"there is no statistics family {family!r}", f"known: {', '.join(FAMILIES)}")
    minute, hour, day = (load_model(FAMILIES[family].table(grain)) for grain in STEP)
    return minute, hour, day


def due_work(con: duckdb.DuckDBPyConnection, now: datetime) -> DueWork:
    """Hours and days that must be computed: dirty ones, newly closed minutes, and gaps left by downtime (M-802, M-803).

    Of a dirty hour the marked minutes are due, as far as they are closed, and the minutes since the stored progress.

    Args:
        con: Read-write connection (missing tables are created).
        now: Naive UTC instant; hours and days after it are never due.
    """
    prepare(con)
    rows = con.execute(
        f"SELECT pair.source_id, pair.family, state.origin, least({_CLOSED}, ?), "
        "  coalesce(progress.computed_through, state.origin), coalesce(setting.snapshot_interval_s, 60) "
        f"FROM {ACTIVE} AS pair INNER JOIN meta.source_state AS state ON state.source_id = pair.source_id "
        "LEFT JOIN meta.window_progress AS progress "
        "  ON progress.source_id = pair.source_id AND progress.family = pair.family "
        "LEFT JOIN meta.source_setting AS setting ON setting.source_id = pair.source_id "
        "WHERE state.closed_through IS NOT NULL AND state.origin IS NOT NULL ORDER BY ALL",
        [now],
    ).fetchall()
    marks = _dirty_minutes(con)
    hours: dict[tuple[str, str, datetime], DueHour] = {}
    for source_id, family, origin, closed, progress, slot_s in rows:
        if family not in FAMILIES:
            continue
        for hour, start, end in hours_of(max(origin, _behind(family, progress, closed, slot_s)), closed):
            hours[source_id, family, hour] = DueHour(source_id, hour, start, end, family=family)
        for hour, first, last in marks.get((source_id, family), ()):
            if first >= closed or hour < floor(origin, HOUR):
                continue
            gap = hours.get((source_id, family, hour))
            start, end = max(first, origin), min(last, closed)
            start, end = (min(start, gap.start), max(end, gap.end)) if gap else (start, end)
            hours[source_id, family, hour] = DueHour(source_id, hour, start, end, dirty=True, family=family)
    days = con.execute('SELECT DISTINCT source_id, "day", family FROM meta.dirty_day ORDER BY ALL').fetchall()
    return DueWork(
        tuple(sorted(hours.values(), key=lambda due: (due.hour, due.source_id))),
        tuple(sorted((DueDay(*row) for row in days if row[2] in FAMILIES), key=lambda due: (due.day, due.source_id))),
    )


def _behind(family: str, progress: datetime, closed: datetime, slot_s: float) -> datetime:
    """Where computing goes on. A slot that crosses minutes belongs to that of its start and gets its sample later (M-316)."""
    if family != ENDPOINT or 60 % slot_s == 0 or progress >= closed:
        return progress
    return progress - MINUTE * math.ceil(slot_s / 60)


def refresh_due(
    con: duckdb.DuckDBPyConnection,
    due: Sequence[DueHour],
    now: datetime,
    chunk_hours: int = CHUNK_HOURS,
) -> list[WindowResult]:
    """Compute the given due minutes and their hours, adjacent ones of a source and family together, oldest first."""
    results = []
    for family in FAMILIES:
        for source_id, start, end in _merged((item for item in due if item.family == family), chunk_hours):
            results += _refresh_minutes(con, family, start, end, now, source_id)
    return results


def refresh_hours(
    con: duckdb.DuckDBPyConnection,
    hours: Iterable[datetime],
    now: datetime,
    source_id: str | None = None,
    family: str = ENDPOINT,
) -> list[WindowResult]:
    """Compute whole hours: their minute rows, then their hour rows. Each chunk is one transaction (M-806).

    Args:
        con: Read-write connection, no open transaction.
        hours: Starts of UTC hours, in any order; contiguous ones are computed together.
        now: Naive UTC instant, stored as ``restated_at`` and ``first_closed_at``.
        source_id: Only this source; None: all.
        family: The group of statistics.

    Returns:
        One result per table and chunk.
    """
    prepare(con)
    due = [DueHour(source_id or "", hour, hour, hour + HOUR) for hour in sorted({aligned(h, HOUR) for h in hours})]
    results = []
    for _, start, end in _merged(due):
        results += _refresh_minutes(con, family, start, end, now, source_id)
    return results


def refresh_day(
    con: duckdb.DuckDBPyConnection,
    day: datetime,
    now: datetime,
    source_id: str | None = None,
    family: str = ENDPOINT,
) -> WindowResult:
    """Compute one UTC day from its hours and its raw rows, in one transaction (M-803, M-808).

    Args:
        con: Read-write connection, no open transaction.
        day: Start of the UTC day.
        now: Naive UTC instant.
        source_id: Only this source; None: all.
        family: The group of statistics.
    """
    prepare(con)
    model = _models(family)[2]
    start = aligned(day, DAY)
    with transaction(con):
        result = write_window(con, model, start, start + DAY, now, source_id)
        con.execute(
            'DELETE FROM meta.dirty_day WHERE family = ? AND "day" = ? AND (? IS NULL OR source_id = ?)',
            [family, start, source_id, source_id],
        )
    return result


def refresh_window(
    con: duckdb.DuckDBPyConnection,
    model: Model | str,
    start: datetime,
    end: datetime,
    now: datetime,
    source_id: str | None = None,
) -> WindowResult:
    """Compute one window of one table in one transaction, without touching dirty marks or progress.

    Raises:
        WindowError: Start or end lie between two buckets of the model.
        duckdb.Error: A query failed; nothing was written (M-806).
    """
    found = load_model(model) if isinstance(model, str) else model
    ensure_table(con, found, HISTORY)
    with transaction(con):
        return write_window(con, found, start, end, now, source_id)


def _refresh_minutes(
    con: duckdb.DuckDBPyConnection, family: str, start: datetime, end: datetime, now: datetime, source_id: str | None
) -> list[WindowResult]:
    """Minute rows of ``[start, end)`` and rows of the hours touched, marks and progress, in one transaction."""
    models = minute, hour, _ = _models(family)
    first, last = floor(start, HOUR), floor(end - MINUTE, HOUR) + HOUR
    for model in (minute, hour):
        install_macros(con, model.sql, remember=True)
    with transaction(con):
        _freeze(con, family, models, first, last, now, source_id)
        results = [
            write_window(con, minute, start, end, now, source_id),
            write_window(con, hour, first, last, now, source_id),
        ]
        changed = {(name, floor(bucket, HOUR)) for result in results for name, bucket in result.changed}
        _advance(con, family, start, end, now, source_id, changed)
    return results


def _freeze(
    con: duckdb.DuckDBPyConnection,
    family: str,
    models: Sequence[Model],
    start: datetime,
    end: datetime,
    now: datetime,
    source_id: str | None,
) -> None:
    """Dirty hours without raw rows: keep the stored rows, mark them and raise ``late_beyond_retention`` (M-803)."""
    late = con.execute(
        "SELECT DISTINCT dirty.source_id, dirty.hour FROM meta.dirty_hour AS dirty "
        "INNER JOIN meta.source_state AS state USING (source_id) WHERE dirty.family = ? AND dirty.hour >= ? "
        "AND dirty.hour < ? AND dirty.hour < state.raw_from AND (? IS NULL OR source_id = ?) ORDER BY ALL",
        [family, start, end, source_id, source_id],
    ).fetchall()
    for name, hour in late:
        for model in models:
            length = max(STEP[model.grain or ""], HOUR)
            con.execute(
                f"UPDATE {model.name} SET frozen = true WHERE source_id = ? AND NOT coalesce(frozen, false) "
                f'AND "{model.bucket}" >= ? AND "{model.bucket}" < ?',
                [name, floor(hour, length), floor(hour, length) + length],
            )
            mark_for_publish(con, model.name, [floor(hour, length)], now)
        raise_late(con, name, family, hour, now)


def _advance(
    con: duckdb.DuckDBPyConnection,
    family: str,
    start: datetime,
    end: datetime,
    now: datetime,
    source_id: str | None,
    changed: set[tuple[str, datetime]],
) -> None:
    """Remove the marks of hours now computed, mark their days, and store how far the minutes reach."""
    states = con.execute(
        f"SELECT pair.source_id, {_CLOSED}, coalesce(progress.computed_through, state.origin), "
        f"progress.source_id IS NULL FROM {ACTIVE} AS pair "
        "INNER JOIN meta.source_state AS state ON state.source_id = pair.source_id "
        "LEFT JOIN meta.window_progress AS progress "
        "ON progress.source_id = pair.source_id AND progress.family = pair.family "
        "WHERE pair.family = ? AND state.closed_through IS NOT NULL AND state.origin IS NOT NULL "
        "AND (? IS NULL OR pair.source_id = ?)",
        [family, source_id, source_id],
    ).fetchall()
    for name, closed, progress, is_first in states:
        reached = max(progress, min(end, closed)) if start <= progress else progress
        if is_first:
            con.execute("INSERT INTO meta.window_progress VALUES (?, ?, ?)", [name, family, reached])
        elif reached > progress:
            con.execute(
                "UPDATE meta.window_progress SET computed_through = ? WHERE source_id = ? AND family = ?",
                [reached, name, family],
            )
        con.execute(
            "DELETE FROM meta.dirty_hour WHERE source_id = ? AND family = ? AND coalesce(from_at, hour) >= ? "
            "AND hour < ? AND least(coalesce(to_at, hour + INTERVAL 1 HOUR), ?) <= ?",
            [name, family, start, end, closed, end],
        )
        days = {
            floor(hour, DAY)
            for hour, _, _ in hours_of(start, min(end, closed))
            if hour + HOUR <= closed and ((name, hour) in changed or progress < hour + HOUR <= reached)
        }
        _mark_days(con, name, family, days, now)


def _mark_days(con: duckdb.DuckDBPyConnection, source_id: str, family: str, days: set[datetime], now: datetime) -> None:
    for day in sorted(days):
        con.execute(
            "INSERT INTO meta.dirty_day SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM meta.dirty_day "
            'WHERE source_id = ? AND family = ? AND "day" = ?)',
            [source_id, family, day, now, source_id, family, day],
        )


def _dirty_minutes(
    con: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, str], list[tuple[datetime, datetime, datetime]]]:
    """(hour, first marked minute, end of the last one) by source and family, oldest first."""
    marks: dict[tuple[str, str], list[tuple[datetime, datetime, datetime]]] = {}
    for source_id, family, hour, first, last in con.execute(
        "SELECT source_id, family, hour, min(coalesce(from_at, hour)), max(coalesce(to_at, hour + INTERVAL 1 HOUR)) "
        "FROM meta.dirty_hour GROUP BY source_id, family, hour ORDER BY hour"
    ).fetchall():
        marks.setdefault((source_id, family), []).append((hour, first, last))
    return marks


def _merged(due: Iterable[DueHour], chunk_hours: int = CHUNK_HOURS) -> Iterator[tuple[str, datetime, datetime]]:
    """Adjacent minutes of a source as one window, at most ``chunk_hours`` long; oldest first."""
    by_source: dict[str, list[list[datetime]]] = {}
    for item in sorted(due, key=lambda d: (d.start, d.source_id)):
        windows = by_source.setdefault(item.source_id, [])
        if windows and windows[-1][1] == item.start and item.end - floor(windows[-1][0], HOUR) <= chunk_hours * HOUR:
            windows[-1][1] = item.end
        else:
            windows.append([item.start, item.end])
    flat = [(window[0], source_id, window[1]) for source_id, windows in by_source.items() for window in windows]
    for start, source_id, end in sorted(flat):
        yield source_id, start, end
