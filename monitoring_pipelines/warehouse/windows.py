"""Moving statistics windows: what is due, computing it, and writing only what changed.

What belongs here: closing minutes, due hours and days, the comparison of new with stored rows, revisions, progress.
What does not: the numbers (``dbt_like_sql/mart``), publishing, locks and schedules.

Every change of a statistics table goes through ``_write_window``: compute the rows of one window, compare them with the
stored ones, and delete and insert exactly what differs, in one transaction (M-804 to M-806). The last minute, a late
row's hour, a repaired day and a year's backfill take the same path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.warehouse.publish import mark_for_publish
from monitoring_pipelines.warehouse.schema import transaction
from monitoring_pipelines.warehouse.sql_models import (
    Model,
    ensure_table,
    install_macros,
    load_model,
    load_models,
    window_parameters,
)

if TYPE_CHECKING:
    import duckdb

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEP = {"minute": MINUTE, "hour": HOUR, "day": DAY}
ENDPOINT = "endpoint"
#: Hours computed in one transaction: enough for speed, few enough for memory (0.8 GB at 1.1 M attempts a day).
CHUNK_HOURS = 6
#: Columns of every statistics table that describe the row's history, not its bucket (M-803, M-804).
HISTORY = (
    ("revision", "BIGINT"),
    ("first_closed_at", "TIMESTAMP"),
    ("restated_at", "TIMESTAMP"),
    ("frozen", "BOOLEAN"),
)
#: Progress of every family: minutes computed without a gap since ``origin``, and days whose hours changed since.
_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS meta.window_progress(source_id VARCHAR, family VARCHAR, computed_through TIMESTAMP);
CREATE TABLE IF NOT EXISTS meta.dirty_day(source_id VARCHAR, family VARCHAR, "day" TIMESTAMP, marked_at TIMESTAMP);
"""


class WindowError(ProductError):
    """A window that cannot be computed as asked."""

    code = "window"


@dataclass(frozen=True)
class WindowResult:
    """What computing one window of one table changed.

    ``updated`` counts rows whose values changed, ``restated`` those of them that had been closed (M-804); ``changed``
    holds the (source_id, bucket) pairs with any difference; ``frozen`` the sources left out because their raw rows
    are gone (M-803).
    """

    table: str
    source_id: str | None
    start: datetime
    end: datetime
    rows: int
    inserted: int
    updated: int
    unchanged: int
    restated: int
    deleted: int
    seconds: float
    changed: frozenset[tuple[str, datetime]] = frozenset()
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class DueHour:
    """Minutes ``[start, end)`` of one hour that must be computed; ``dirty`` if rows changed behind them (M-803)."""

    source_id: str
    hour: datetime
    start: datetime
    end: datetime
    dirty: bool = False


@dataclass(frozen=True)
class DueDay:
    """A day whose hours changed or were completed since it was computed."""

    source_id: str
    day: datetime


@dataclass(frozen=True)
class DueWork:
    """Everything that must be computed, oldest first (M-802)."""

    hours: tuple[DueHour, ...] = ()
    days: tuple[DueDay, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hours or self.days)


@dataclass
class Closing:
    """Closed minutes of one source before and after ``close_minutes``; ``before`` is None the first time."""

    source_id: str
    before: datetime | None
    after: datetime
    hours: list[datetime] = field(default_factory=list)


def prepare(con: duckdb.DuckDBPyConnection, family: str = ENDPOINT) -> tuple[Model, Model, Model]:
    """Create or extend the tables of a family and the progress tables.

    Returns:
        The minute, hour and day models of the family.

    Raises:
        WindowError: The family lacks one of the three grains.
        ModelError: A stored column has another type than the model now yields.
    """
    con.execute(_BOOKKEEPING)
    by_grain = {model.grain: model for model in load_models().values() if model.family == family}
    if not by_grain.keys() >= STEP.keys():
        raise WindowError(f"no complete statistics family {family!r}", "it needs a minute, an hour and a day model")
    models = by_grain["minute"], by_grain["hour"], by_grain["day"]
    for model in models:
        ensure_table(con, model, HISTORY)
    return models


def close_minutes(con: duckdb.DuckDBPyConnection, now: datetime, backfill_days: int = 30) -> list[Closing]:
    """Advance ``closed_through`` of every source, and set or lower ``origin`` (M-801, M-802).

    A minute is closed when ``settle_s`` have passed since its end and an extraction of all inputs that began at or
    after its end has succeeded. ``closed_through`` never goes back.

    Args:
        con: Read-write connection, no open transaction.
        now: Naive UTC instant of the clock.
        backfill_days: How far back history is processed.

    Returns:
        The sources whose closed time moved, with the hours concerned, oldest first.
    """
    prepare(con)
    result = []
    with transaction(con):
        rows = con.execute(
            "SELECT state.source_id, state.as_of, state.closed_through, state.origin, coalesce(setting.settle_s, 60) "
            "FROM meta.source_state AS state LEFT JOIN meta.source_setting AS setting USING (source_id) "
            "WHERE state.as_of IS NOT NULL ORDER BY ALL"
        ).fetchall()
        for source_id, as_of, before, origin, settle_s in rows:
            after = _floor(min(as_of, now - timedelta(seconds=settle_s)), MINUTE)
            after = max(after, before or after)
            first = _origin(con, source_id, origin, after, now, backfill_days)
            _drop_too_old(con, source_id, first, now)
            con.execute(
                "UPDATE meta.source_state SET closed_through = ?, origin = ? WHERE source_id = ?",
                [after, first, source_id],
            )
            if before is None or after > before:
                hours = [hour for hour, _, _ in _hours(before or first, after)]
                result.append(Closing(source_id, before, after, hours))
    return result


def due_work(con: duckdb.DuckDBPyConnection, now: datetime, family: str = ENDPOINT) -> DueWork:
    """Hours and days that must be computed: dirty ones, newly closed minutes, and gaps left by downtime (M-802, M-803).

    Of a dirty hour the marked minutes are due, as far as they are closed, and the minutes since the stored progress.

    Args:
        con: Read-write connection (missing tables are created).
        now: Naive UTC instant; hours and days after it are never due.
        family: The group of statistics.
    """
    prepare(con, family)
    rows = con.execute(
        "SELECT state.source_id, state.origin, least(state.closed_through, ?), "
        "  coalesce(progress.computed_through, state.origin), coalesce(setting.snapshot_interval_s, 60) "
        "FROM meta.source_state AS state "
        "LEFT JOIN meta.window_progress AS progress "
        "  ON progress.source_id = state.source_id AND progress.family = ? "
        "LEFT JOIN meta.source_setting AS setting ON setting.source_id = state.source_id "
        "WHERE state.closed_through IS NOT NULL AND state.origin IS NOT NULL ORDER BY ALL",
        [now, family],
    ).fetchall()
    hours: dict[tuple[str, datetime], DueHour] = {}
    for source_id, origin, closed, progress, slot_s in rows:
        # A slot that crosses minutes belongs to the minute of its start and gets its sample later (M-316).
        behind = progress - MINUTE * (0 if 60 % slot_s == 0 or progress >= closed else math.ceil(slot_s / 60))
        for hour, start, end in _hours(max(origin, behind), closed):
            hours[source_id, hour] = DueHour(source_id, hour, start, end)
        for hour, start, end in _dirty_minutes(con, source_id, family, origin, closed):
            gap = hours.get((source_id, hour))
            first, last = (min(start, gap.start), max(end, gap.end)) if gap else (start, end)
            hours[source_id, hour] = DueHour(source_id, hour, first, last, dirty=True)
    days = con.execute(
        'SELECT DISTINCT source_id, "day" FROM meta.dirty_day WHERE family = ? ORDER BY "day", source_id', [family]
    ).fetchall()
    ordered = sorted(hours.values(), key=lambda due: (due.hour, due.source_id))
    return DueWork(tuple(ordered), tuple(DueDay(*row) for row in days))


def refresh_due(
    con: duckdb.DuckDBPyConnection,
    due: Sequence[DueHour],
    now: datetime,
    family: str = ENDPOINT,
    chunk_hours: int = CHUNK_HOURS,
) -> list[WindowResult]:
    """Compute the given due minutes and their hours, adjacent ones of a source together, oldest first."""
    results = []
    for source_id, start, end in _merged(due, chunk_hours):
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
    due = [DueHour(source_id or "", hour, hour, hour + HOUR) for hour in sorted({_aligned(h, HOUR) for h in hours})]
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
    model = prepare(con, family)[2]
    start = _aligned(day, DAY)
    with transaction(con):
        result = _write_window(con, model, start, start + DAY, now, source_id)
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
        return _write_window(con, found, start, end, now, source_id)


def extend_origin(con: duckdb.DuckDBPyConnection, source_id: str, first: datetime, now: datetime) -> None:
    """Let history of a source begin at an earlier day, and mark the hours in between as due (M-802)."""
    con.execute(_BOOKKEEPING)
    row = con.execute("SELECT origin FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
    day = _floor(first, DAY)
    if row is None or row[0] is None or row[0] <= day:
        return
    con.execute("UPDATE meta.source_state SET origin = ? WHERE source_id = ?", [day, source_id])
    con.execute(
        "INSERT INTO meta.dirty_hour(source_id, family, hour, marked_at, reason) "
        "SELECT ?, ?, hour, ?, 'origin' FROM range(?::TIMESTAMP, ?::TIMESTAMP, INTERVAL 1 HOUR) AS r(hour)",
        [source_id, ENDPOINT, now, day, row[0]],
    )


def _refresh_minutes(
    con: duckdb.DuckDBPyConnection, family: str, start: datetime, end: datetime, now: datetime, source_id: str | None
) -> list[WindowResult]:
    """Minute rows of ``[start, end)`` and rows of the hours touched, marks and progress, in one transaction."""
    models = minute, hour, _ = prepare(con, family)
    first, last = _floor(start, HOUR), _floor(end - MINUTE, HOUR) + HOUR
    with transaction(con):
        _freeze(con, family, models, first, last, now, source_id)
        results = [
            _write_window(con, minute, start, end, now, source_id),
            _write_window(con, hour, first, last, now, source_id),
        ]
        changed = {(name, _floor(bucket, HOUR)) for result in results for name, bucket in result.changed}
        _advance(con, family, start, end, now, source_id, changed)
    return results


def _write_window(
    con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime, now: datetime, source_id: str | None
) -> WindowResult:
    """Compute the rows of a window and make the table equal to them; the caller holds the transaction."""
    began = time.perf_counter()
    step = STEP[model.grain or ""]
    _aligned(start, step), _aligned(end, step)
    wanted, frozen = _sources(con, start, source_id)
    if not wanted:
        return WindowResult(model.name, source_id, start, end, 0, 0, 0, 0, 0, 0, 0.0, frozen=tuple(frozen))
    install_macros(con, model.sql)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE window_new AS SELECT * FROM (\n{model.sql}\n) "
        f"WHERE source_id IN ({_literals(wanted)})",
        window_parameters(model.sql, start, end),
    )
    _compare(con, model, start, end, wanted)
    counts = con.execute(
        "SELECT count(*) FILTER (WHERE NOT is_gone), count(*) FILTER (WHERE is_new), "
        "count(*) FILTER (WHERE differs), count(*) FILTER (WHERE was_closed AND differs), "
        "count(*) FILTER (WHERE is_gone) FROM window_difference"
    ).fetchone() or (0, 0, 0, 0, 0)
    rows, inserted, updated, restated, deleted = counts
    changed: frozenset[tuple[str, datetime]] = frozenset()
    if inserted or updated or deleted:
        _replace(con, model, start, end, now)
        changed = _changed(con, model)
        mark_for_publish(con, model.name, (bucket for _, bucket in changed), now)
    seconds = time.perf_counter() - began
    con.execute(
        "INSERT INTO meta.window_run(table_name, window_start, window_end, computed_at, rows, inserted, updated, "
        "unchanged, restated, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [model.name, start, end, now, rows, inserted, updated, rows - inserted - updated, restated, seconds],
    )
    return WindowResult(
        model.name, source_id, start, end, rows, inserted, updated, rows - inserted - updated, restated, deleted,
        seconds, changed, tuple(frozen),
    )  # fmt: skip


def _compare(
    con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime, sources: Sequence[str]
) -> None:
    """Fill ``window_difference``: one row per key, new, gone, different or equal in all value columns (M-804)."""
    columns = [row[0] for row in con.execute("DESCRIBE window_new").fetchall()]
    values = [name for name in columns if name not in model.key]
    keys = ", ".join(f'coalesce(n."{name}", o."{name}") AS "{name}"' for name in model.key)
    same = " AND ".join(f'n."{name}" = o."{name}"' for name in model.key)
    new, old = (", ".join(f'{side}."{name}"' for name in values) for side in ("n", "o"))
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE window_difference AS SELECT {keys}, "
        "o.source_id IS NULL AS is_new, n.source_id IS NULL AS is_gone, "
        f"o.source_id IS NOT NULL AND n.source_id IS NOT NULL AND row({new}) IS DISTINCT FROM row({old}) AS differs, "
        "coalesce(o.state = 'closed', false) AS was_closed, o.revision AS old_revision, "
        "o.first_closed_at AS old_first_closed_at "
        f'FROM window_new AS n FULL JOIN (SELECT * FROM {model.name} WHERE "{model.bucket}" >= ? '
        f'AND "{model.bucket}" < ? AND source_id IN ({_literals(sources)})) AS o ON {same}',
        [start, end],
    )


def _replace(con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime, now: datetime) -> None:
    """Delete what is gone or differs, insert what is new or differs, with its history columns."""
    same = " AND ".join(f't."{name}" = d."{name}"' for name in model.key)
    con.execute(
        f"DELETE FROM {model.name} AS t USING window_difference AS d "
        f'WHERE t."{model.bucket}" >= ? AND t."{model.bucket}" < ? AND {same} AND (d.is_gone OR d.differs)',
        [start, end],
    )
    keys = ", ".join(f'"{name}"' for name in model.key)
    con.execute(
        f"INSERT INTO {model.name} BY NAME SELECT n.*, "
        "CASE WHEN d.is_new THEN 1 WHEN d.was_closed THEN d.old_revision + 1 ELSE d.old_revision END AS revision, "
        "CASE WHEN n.state = 'closed' THEN coalesce(d.old_first_closed_at, ?) END AS first_closed_at, "
        "CASE WHEN d.was_closed THEN ?::TIMESTAMP END AS restated_at, false AS frozen "
        f"FROM window_new AS n INNER JOIN window_difference AS d USING ({keys}) WHERE d.is_new OR d.differs",
        [now, now],
    )


def _changed(con: duckdb.DuckDBPyConnection, model: Model) -> frozenset[tuple[str, datetime]]:
    rows = con.execute(
        f'SELECT DISTINCT source_id, "{model.bucket}"::TIMESTAMP FROM window_difference '
        "WHERE is_new OR is_gone OR differs"
    ).fetchall()
    return frozenset((source_id, bucket) for source_id, bucket in rows)


def _sources(con: duckdb.DuckDBPyConnection, start: datetime, source_id: str | None) -> tuple[list[str], list[str]]:
    """(sources to compute, sources whose raw rows no longer reach back to ``start``, M-803)."""
    rows = con.execute(
        "SELECT source_id, coalesce(raw_from > ?, false) FROM meta.source_state "
        "WHERE ? IS NULL OR source_id = ? ORDER BY source_id",
        [start, source_id, source_id],
    ).fetchall()
    return [name for name, gone in rows if not gone], [name for name, gone in rows if gone]


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
                [name, _floor(hour, length), _floor(hour, length) + length],
            )
            mark_for_publish(con, model.name, [_floor(hour, length)], now)
        _raise_late(con, name, family, hour, now)


def _raise_late(con: duckdb.DuckDBPyConnection, source_id: str, family: str, hour: datetime, now: datetime) -> None:
    key = [source_id, "late_beyond_retention", f"{family}_stats", f"{hour:%Y-%m-%dT%H}"]
    known = con.execute(
        'SELECT count(*) FROM raw.anomaly WHERE source_id = ? AND kind = ? AND entity = ? AND "key" = ?', key
    ).fetchone()
    if known and known[0]:
        con.execute(
            'UPDATE raw.anomaly SET count = count + 1 WHERE source_id = ? AND kind = ? AND entity = ? AND "key" = ?',
            key,
        )
        return
    con.execute(
        'INSERT INTO raw.anomaly(source_id, kind, entity, "key", "at", detail, first_seen_at, count) '
        "VALUES (?, ?, ?, ?, ?, 'rows arrived after the raw rows of this hour were removed', ?, 1)",
        [*key, hour, now],
    )


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
        "SELECT state.source_id, state.closed_through, coalesce(progress.computed_through, state.origin), "
        "progress.source_id IS NULL FROM meta.source_state AS state LEFT JOIN meta.window_progress AS progress "
        "ON progress.source_id = state.source_id AND progress.family = ? "
        "WHERE state.closed_through IS NOT NULL AND state.origin IS NOT NULL AND (? IS NULL OR state.source_id = ?)",
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
            _floor(hour, DAY)
            for hour, _, _ in _hours(start, min(end, closed))
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
    con: duckdb.DuckDBPyConnection, source_id: str, family: str, origin: datetime, closed: datetime
) -> list[tuple[datetime, datetime, datetime]]:
    """(hour, first marked minute, end of the last one), of what is closed; the rest is computed when it closes."""
    return con.execute(
        "SELECT hour, greatest(min(coalesce(from_at, hour)), $origin::TIMESTAMP), "
        "least(max(coalesce(to_at, hour + INTERVAL 1 HOUR)), $closed::TIMESTAMP) FROM meta.dirty_hour "
        "WHERE source_id = $source AND family = $family AND coalesce(from_at, hour) < $closed::TIMESTAMP "
        "AND hour >= date_trunc('hour', $origin::TIMESTAMP) GROUP BY hour ORDER BY hour",
        {"source": source_id, "family": family, "origin": origin, "closed": closed},
    ).fetchall()


def _origin(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    origin: datetime | None,
    closed: datetime,
    now: datetime,
    backfill_days: int,
) -> datetime:
    """First processed day: that of the earliest evidence within ``backfill_days``; older dirty hours lower it."""
    limit = _floor(now, DAY) - DAY * backfill_days
    if origin is None:
        row = con.execute(
            'SELECT min(t) FROM (SELECT min("at") AS t FROM core.task_instant WHERE source_id = $s AND "at" >= $l '
            "UNION ALL SELECT min(started_at) FROM core.task_attempt WHERE source_id = $s AND started_at >= $l "
            "UNION ALL SELECT min(greatest(start_at, $l)) FROM core.worker_life WHERE source_id = $s "
            "AND start_at IS NOT NULL AND (end_at IS NULL OR end_at > $l))",
            {"s": source_id, "l": limit},
        ).fetchone()
        earliest = row[0] if row and row[0] is not None else closed
        return _floor(min(earliest, closed), DAY)
    row = con.execute(
        "SELECT min(hour) FROM meta.dirty_hour WHERE source_id = ? AND family = ? AND hour >= ? AND hour < ?",
        [source_id, ENDPOINT, limit, origin],
    ).fetchone()
    if row is None or row[0] is None:
        return origin
    extend_origin(con, source_id, row[0], now)
    return _floor(row[0], DAY)


def _drop_too_old(con: duckdb.DuckDBPyConnection, source_id: str, origin: datetime, now: datetime) -> None:
    """Marks of hours before the first processed day that are too old to lower it: say so once and forget them."""
    mark = "FROM meta.dirty_hour WHERE source_id = ? AND family = ? AND hour < date_trunc('hour', ?::TIMESTAMP)"
    for (hour,) in con.execute(f"SELECT DISTINCT hour {mark} ORDER BY hour", [source_id, ENDPOINT, origin]).fetchall():
        _raise_late(con, source_id, ENDPOINT, hour, now)
    con.execute(f"DELETE {mark}", [source_id, ENDPOINT, origin])


def _hours(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
    """(hour, from, to) for every hour that overlaps ``[start, end)``."""
    hour = _floor(start, HOUR)
    while hour < end:
        yield hour, max(hour, start), min(hour + HOUR, end)
        hour += HOUR


def _merged(due: Iterable[DueHour], chunk_hours: int = CHUNK_HOURS) -> Iterator[tuple[str, datetime, datetime]]:
    """Adjacent minutes of a source as one window, at most ``chunk_hours`` long; oldest first."""
    by_source: dict[str, list[list[datetime]]] = {}
    for item in sorted(due, key=lambda d: (d.start, d.source_id)):
        windows = by_source.setdefault(item.source_id, [])
        if windows and windows[-1][1] == item.start and item.end - _floor(windows[-1][0], HOUR) <= chunk_hours * HOUR:
            windows[-1][1] = item.end
        else:
            windows.append([item.start, item.end])
    flat = [(window[0], source_id, window[1]) for source_id, windows in by_source.items() for window in windows]
    for start, source_id, end in sorted(flat):
        yield source_id, start, end


def _floor(instant: datetime, step: timedelta) -> datetime:
    """The latest multiple of ``step`` since the epoch that is not after ``instant``."""
    epoch = datetime(1970, 1, 1)
    return epoch + (instant - epoch) // step * step


def _aligned(instant: datetime, step: timedelta) -> datetime:
    if _floor(instant, step) != instant:
        raise WindowError(f"{instant.isoformat()} is not the start of a bucket of {step}", "windows are whole buckets")
    return instant


def _literals(names: Sequence[str]) -> str:
    """Source ids as SQL text; an empty list matches nothing."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names) or "NULL"
