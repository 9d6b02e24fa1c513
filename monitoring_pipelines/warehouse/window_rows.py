"""Writing the rows of one window: comparing new with stored rows, and storing only what differs.

What belongs here: the one path by which rows of statistics tables change (M-804 to M-806). What does not: which windows
are due, marks and progress (``windows``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.warehouse import counters, open_spans
from monitoring_pipelines.warehouse.families import ACTIVE
from monitoring_pipelines.warehouse.publish import mark_for_publish
from monitoring_pipelines.warehouse.sql_models import Model, install_macros, window_parameters

if TYPE_CHECKING:
    import duckdb

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEP = {"minute": MINUTE, "hour": HOUR, "day": DAY}


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


def write_window(
    con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime, now: datetime, source_id: str | None
) -> WindowResult:
    """Compute the rows of a window and make the table equal to them; the caller holds the transaction."""
    began = time.perf_counter()
    step = STEP[model.grain or ""]
    aligned(start, step), aligned(end, step)
    wanted, frozen = _sources(con, model.family or "", start, source_id)
    if not wanted:
        return WindowResult(model.name, source_id, start, end, 0, 0, 0, 0, 0, 0, 0.0, frozen=tuple(frozen))
    install_macros(con, model.sql)
    open_spans.tell(con)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE window_new AS SELECT * FROM (\n{model.sql}\n) "
        f"WHERE source_id IN ({_literals(wanted)})",
        window_parameters(model.sql, start, end),
    )
    if not _any_row(con, model, start, end, wanted):
        return WindowResult(model.name, source_id, start, end, 0, 0, 0, 0, 0, 0, 0.0, frozen=tuple(frozen))
    _keep_first(con, model, start, end)
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
        counters.add(con, counters.RESTATED, "", (model.grain or "",), restated)
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


def _any_row(
    con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime, sources: Sequence[str]
) -> bool:
    """Whether there is anything to compare: rows computed now, or rows stored before."""
    row = con.execute(
        f"SELECT EXISTS (SELECT 1 FROM window_new) OR EXISTS (SELECT 1 FROM {model.name} "
        f'WHERE "{model.bucket}" >= ? AND "{model.bucket}" < ? AND source_id IN ({_literals(sources)}))',
        [start, end],
    ).fetchone()
    return bool(row and row[0])


def _keep_first(con: duckdb.DuckDBPyConnection, model: Model, start: datetime, end: datetime) -> None:
    """Columns that tell what was known when the row first closed keep their first value."""
    kept: Sequence[str] = model.meta.get("keep_first", ())
    if not kept:
        return
    same = " AND ".join(f'n."{name}" = o."{name}"' for name in model.key)
    values = ", ".join(f'"{name}" = o."{name}"' for name in kept)
    con.execute(
        f"UPDATE window_new AS n SET {values} FROM {model.name} AS o "
        f'WHERE {same} AND o."{model.bucket}" >= ? AND o."{model.bucket}" < ? AND o.state = \'closed\'',
        [start, end],
    )


def _sources(
    con: duckdb.DuckDBPyConnection, family: str, start: datetime, source_id: str | None
) -> tuple[list[str], list[str]]:
    """(sources to compute, sources whose raw rows no longer reach back to ``start``, M-803)."""
    rows = con.execute(
        f"SELECT pair.source_id, coalesce(state.raw_from > ?, false) FROM {ACTIVE} AS pair "
        "INNER JOIN meta.source_state AS state ON state.source_id = pair.source_id "
        "WHERE pair.family = ? AND (? IS NULL OR pair.source_id = ?) ORDER BY pair.source_id",
        [start, family, source_id, source_id],
    ).fetchall()
    return [name for name, gone in rows if not gone], [name for name, gone in rows if gone]


def floor(instant: datetime, step: timedelta) -> datetime:
    """The latest multiple of ``step`` since the epoch that is not after ``instant``."""
    epoch = datetime(1970, 1, 1)
    return epoch + (instant - epoch) // step * step


def aligned(instant: datetime, step: timedelta) -> datetime:
    """The instant itself; WindowError if it is not the start of a bucket of this length."""
    if floor(instant, step) != instant:
        raise WindowError(f"{instant.isoformat()} is not the start of a bucket of {step}", "windows are whole buckets")
    return instant


def _literals(names: Sequence[str]) -> str:
    """Source ids as SQL text; an empty list matches nothing."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names) or "NULL"


def hours_of(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
    """(hour, from, to) for every hour that overlaps ``[start, end)``."""
    hour = floor(start, HOUR)
    while hour < end:
        yield hour, max(hour, start), min(hour + HOUR, end)
        hour += HOUR
