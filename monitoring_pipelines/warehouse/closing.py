"""Closing minutes: up to where statistics may be computed, and where the history of a source begins.

What belongs here: closed times, origins, and saying that rows came too late. What does not: what is due and computing it
(``windows``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.families import ACTIVE
from monitoring_pipelines.warehouse.schema import transaction
from monitoring_pipelines.warehouse.window_rows import DAY, MINUTE, floor, hours_of

if TYPE_CHECKING:
    import duckdb


@dataclass
class Closing:
    """Closed minutes of one source before and after ``close_minutes``; ``before`` is None the first time."""

    source_id: str
    before: datetime | None
    after: datetime
    hours: list[datetime] = field(default_factory=list)


def close_minutes(con: duckdb.DuckDBPyConnection, now: datetime, backfill_days: int = 30) -> list[Closing]:
    """Advance ``closed_through`` of every source, and set or lower ``origin`` (M-801, M-802).

    A minute is closed when ``settle_s`` have passed since its end and an extraction of all inputs that began at or
    after its end has succeeded; for completeness it closes when ``checks.settle_s`` have passed as well (M-601). Closed
    times never go back.

    Args:
        con: Read-write connection, no open transaction.
        now: Naive UTC instant of the clock.
        backfill_days: How far back history is processed.

    Returns:
        The sources whose closed time moved, with the hours concerned, oldest first.
    """
    result = []
    with transaction(con):
        rows = con.execute(
            "SELECT state.source_id, state.as_of, state.closed_through, state.output_closed_through, state.origin, "
            "coalesce(setting.settle_s, 60), coalesce(setting.output_settle_s, 300) "
            "FROM meta.source_state AS state LEFT JOIN meta.source_setting AS setting USING (source_id) "
            "WHERE state.as_of IS NOT NULL ORDER BY ALL"
        ).fetchall()
        for source_id, as_of, before, output_before, origin, settle_s, output_settle_s in rows:
            after = floor(min(as_of, now - timedelta(seconds=settle_s)), MINUTE)
            after = max(after, before or after)
            output_after = min(after, floor(now - timedelta(seconds=output_settle_s), MINUTE))
            output_after = max(output_after, output_before or output_after)
            first = _origin(con, source_id, origin, after, now, backfill_days)
            _drop_too_old(con, source_id, first, now)
            con.execute(
                "UPDATE meta.source_state SET closed_through = ?, output_closed_through = ?, origin = ? "
                "WHERE source_id = ?",
                [after, output_after, first, source_id],
            )
            if before is None or after > before:
                hours = [hour for hour, _, _ in hours_of(before or first, after)]
                result.append(Closing(source_id, before, after, hours))
    return result


def extend_origin(con: duckdb.DuckDBPyConnection, source_id: str, first: datetime, now: datetime) -> None:
    """Let history of a source begin at an earlier day, and mark the hours in between as due (M-802)."""
    row = con.execute("SELECT origin FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
    day = floor(first, DAY)
    if row is None or row[0] is None or row[0] <= day:
        return
    con.execute("UPDATE meta.source_state SET origin = ? WHERE source_id = ?", [day, source_id])
    con.execute(
        "INSERT INTO meta.dirty_hour(source_id, family, hour, marked_at, reason) "
        f"SELECT a.source_id, a.family, r.hour, ?, 'origin' FROM {ACTIVE} AS a "
        "CROSS JOIN range(?::TIMESTAMP, ?::TIMESTAMP, INTERVAL 1 HOUR) AS r(hour) WHERE a.source_id = ?",
        [now, day, row[0], source_id],
    )


#: The earliest evidence of a source since ``$l``, of whatever family.
_EARLIEST = """
SELECT min(t) FROM (
    SELECT min("at") AS t FROM core.task_instant WHERE source_id = $s AND "at" >= $l
    UNION ALL SELECT min(started_at) FROM core.task_attempt WHERE source_id = $s AND started_at >= $l
    UNION ALL SELECT min(greatest(start_at, $l)) FROM core.worker_life WHERE source_id = $s
      AND start_at IS NOT NULL AND (end_at IS NULL OR end_at > $l)
    UNION ALL SELECT min(ended_at) FROM raw.job_run WHERE source_id = $s AND ended_at >= $l
    UNION ALL SELECT min(scheduled_at) FROM raw.job_run WHERE source_id = $s AND scheduled_at >= $l
    UNION ALL SELECT min("at") FROM raw.process_sample WHERE source_id = $s AND "at" >= $l
    UNION ALL SELECT min("at") FROM raw.ingest_counter WHERE source_id = $s AND "at" >= $l
    UNION ALL SELECT min(created_at) FROM raw.notification WHERE source_id = $s AND created_at >= $l
)
"""


def _origin(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    origin: datetime | None,
    closed: datetime,
    now: datetime,
    backfill_days: int,
) -> datetime:
    """First processed day: that of the earliest evidence within ``backfill_days``; older dirty hours lower it."""
    limit = floor(now, DAY) - DAY * backfill_days
    if origin is None:
        row = con.execute(_EARLIEST, {"s": source_id, "l": limit}).fetchone()
        earliest = row[0] if row and row[0] is not None else closed
        return floor(min(earliest, closed), DAY)
    row = con.execute(
        "SELECT min(hour) FROM meta.dirty_hour WHERE source_id = ? AND hour >= ? AND hour < ?",
        [source_id, limit, origin],
    ).fetchone()
    if row is None or row[0] is None:
        return origin
    extend_origin(con, source_id, row[0], now)
    return floor(row[0], DAY)


def _drop_too_old(con: duckdb.DuckDBPyConnection, source_id: str, origin: datetime, now: datetime) -> None:
    """Marks of hours before the first processed day that are too old to lower it: say so once and forget them.

    A task that has been waiting for years marks every hour of them: one anomaly tells of a whole stretch.
    """
    mark = "FROM meta.dirty_hour WHERE source_id = ? AND hour < date_trunc('hour', ?::TIMESTAMP)"
    rows = con.execute(
        "SELECT family, min(hour), max(hour) FROM (SELECT family, hour, "
        "hour - row_number() OVER (PARTITION BY family ORDER BY hour) * INTERVAL 1 HOUR AS stretch "
        f"FROM (SELECT DISTINCT family, hour {mark})) GROUP BY family, stretch ORDER BY ALL",
        [source_id, origin],
    ).fetchall()
    for family, first, last in rows:
        raise_late(con, source_id, family, first, now, last)
    if rows:
        con.execute(f"DELETE {mark}", [source_id, origin])


def raise_late(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    family: str,
    hour: datetime,
    now: datetime,
    last: datetime | None = None,
) -> None:
    """Store or count the anomaly ``late_beyond_retention`` of an hour, or of the hours up to ``last`` (M-803)."""
    key = [source_id, "late_beyond_retention", f"{family}_stats", f"{hour:%Y-%m-%dT%H}"]
    hours = "this hour" if last in (None, hour) else f"the hours up to {last:%Y-%m-%dT%H}"
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
        "VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
        [*key, hour, f"rows arrived after the raw rows of {hours} were removed", now],
    )
