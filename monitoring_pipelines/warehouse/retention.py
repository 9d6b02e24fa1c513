"""Removing what is older than its limit, in slices short enough for ticks to run in between (E-901, E-902).

What belongs here: which raw rows, interval rows and statistics may go, and recording how far raw rows still reach.
What does not: files of the published copy (they follow through ``publish``) and compaction (``maintenance``).

Raw rows of a task go together, or a late event would be read without its start. ``meta.source_state.raw_from`` moves in
the transaction that removes rows: buckets before it are frozen, because they can no longer be recomputed (M-803).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.warehouse import counters
from monitoring_pipelines.warehouse.connect import Warehouse, transaction
from monitoring_pipelines.warehouse.publish import mark_for_publish
from monitoring_pipelines.warehouse.serving import SERVED, TASK, mark, remember_runs

if TYPE_CHECKING:
    import duckdb

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Events removed in one transaction, so that it stays short on busy platforms.
SLICE_EVENTS = 60_000
#: Tasks in these states wait or run, however old they are.
_OPEN_TASK = "'created', 'queued', 'running'"
_TASK_TIME = "coalesce(greatest(created_at, queued_at, started_at, ended_at), first_seen_at)"
_RUN_TIME = "coalesce(greatest(scheduled_at, started_at, ended_at), first_seen_at)"
_OUTPUT_TIME = "coalesce(created_at, first_seen_at)"
#: Tables whose rows stand alone: name -> (time of a row, condition that keeps a row).
_SINGLE_ROWS = {
    "raw.process_sample": ('"at"', "false"),
    "raw.probe_result": ('"at"', "false"),
    "raw.ingest_counter": ('"at"', "false"),
    "raw.job_run": (_RUN_TIME, "outcome = 'running'"),
    "raw.notification_attempt": ('"at"', "false"),
    "raw.notification": ("coalesce(greatest(created_at, sent_at), first_seen_at)", "state IN ('pending', 'failed')"),
    "raw.anomaly": ('greatest("at", first_seen_at)', "false"),
}
#: Rows that belong to one task: name -> time after which the task is still alive.
_TASK_ROWS = {
    "raw.task": _TASK_TIME,
    "raw.task_event": '"at"',
    "raw.task_output": _OUTPUT_TIME,
    "core.task_attempt": "greatest(started_at, ended_at)",
    "core.task_instant": '"at"',
    "core.task_wait": "to_at",
    "core.task_status": "coalesce(ended_at, started_at, created_at, TIMESTAMP '1970-01-01')",
    "core.task_result": "effective_end",
    "core.output_instant": '"at"',
    "core.task_anomaly": "coalesce(\"at\", TIMESTAMP '1970-01-01')",
}
_GRAINS = {"stat_minute": "minute_days", "stat_hour": "hour_days", "stat_date": "day_days"}


class Limits(Protocol):
    """Days that rows are kept; the configuration's ``retention`` block has this shape."""

    @property
    def raw_days(self) -> int: ...  # noqa: D102
    @property
    def minute_days(self) -> int: ...  # noqa: D102
    @property
    def hour_days(self) -> int: ...  # noqa: D102
    @property
    def day_days(self) -> int: ...  # noqa: D102


@dataclass
class RetentionReport:
    """What one run removed.

    Attributes:
        removed: Rows by (table, source_id); source_id is ``*`` for statistics and logs.
        raw_from: By source: the oldest instant for which raw rows are complete now.
        postponed: By source: why rows older than the limit are still there.
        finished: False when the time budget ended first; the next run goes on.
    """

    removed: dict[tuple[str, str], int] = field(default_factory=dict)
    raw_from: dict[str, datetime] = field(default_factory=dict)
    postponed: dict[str, str] = field(default_factory=dict)
    finished: bool = True

    @property
    def rows(self) -> int:
        """All rows removed."""
        return sum(self.removed.values())

    def add(self, table: str, source_id: str, rows: int) -> None:
        """Count removed rows."""
        if rows:
            self.removed[table, source_id] = self.removed.get((table, source_id), 0) + rows


def apply_retention(
    warehouse: Warehouse,
    limits: Limits,
    clock: Clock,
    *,
    protect: Mapping[str, Collection[str]] | None = None,
    budget_s: float = 600.0,
) -> RetentionReport:
    """Remove rows older than their limits. Opens the warehouse once per slice, so that ticks run in between.

    Args:
        warehouse: Must not be open in this thread.
        limits: Days to keep raw rows and each grain of statistics.
        clock: The time "older" is measured from.
        protect: Task keys by source that open alerts or repair plans refer to.
        budget_s: No new slice begins after this many seconds.

    Returns:
        What was removed, and what had to stay although it is old enough.
    """
    report = RetentionReport()
    deadline = time.monotonic() + budget_s
    with warehouse.reader("retention") as con:
        sources = [row[0] for row in con.execute("SELECT source_id FROM meta.source_state ORDER BY ALL").fetchall()]
    for source_id in sources:
        kept = (protect or {}).get(source_id, ())
        more = True
        while more and time.monotonic() < deadline:
            with warehouse.writer("retention") as con:
                more = prune_raw_slice(con, source_id, limits, clock.now(), report, kept)
        report.finished &= not more
    more = True
    while more and time.monotonic() < deadline:
        with warehouse.writer("retention") as con:
            more = prune_statistics_slice(con, limits, clock.now(), report)
    report.finished &= not more
    with warehouse.writer("retention") as con:
        _record(con, report, clock.now())
    return report


def prune_raw_slice(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    limits: Limits,
    now: datetime,
    report: RetentionReport,
    protect: Collection[str] = (),
) -> bool:
    """Remove the oldest hour, or part of a busy hour, of raw rows of one source in one transaction (E-901).

    Rows stay whose day is not closed and computed or is dirty, and rows of tasks and workers that are still open or
    wait for recomputation.

    Returns:
        Whether another slice may have something to do.
    """
    with transaction(con):
        limit = _raw_limit(con, source_id, limits.raw_days, now, report)
        row = con.execute("SELECT raw_from FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
        known = row[0] if row else None
        if limit is None or (known is not None and known > limit):
            return False
        end = limit
        oldest = _oldest(con, source_id, known)
        if oldest is not None:
            # What an earlier run had to keep is tried again together with the next hour.
            end = min(limit, _slice_end(con, source_id, oldest))
        _prune_tasks(con, source_id, end, protect, report)
        _prune_workers(con, source_id, end, report)
        for table, (instant, keep) in _SINGLE_ROWS.items():
            removed = f"{instant} < $end AND NOT ({keep})"
            if table == "raw.job_run":
                remember_runs(con, source_id, removed, end)
            elif table == "raw.anomaly":
                counters.remember(
                    con,
                    f"SELECT '{counters.ANOMALIES}', source_id, [kind], sum(count)::DECIMAL(38,6), NULL::TIMESTAMP "
                    f"FROM raw.anomaly WHERE source_id = $s AND {removed} GROUP BY source_id, kind",
                    {"s": source_id, "end": end},
                )
            report.add(table, source_id, _delete(con, table, removed, source_id, end))
        con.execute("UPDATE meta.source_state SET raw_from = ? WHERE source_id = ?", [end, source_id])
        report.raw_from[source_id] = end
    return end < limit


def prune_statistics_slice(
    con: duckdb.DuckDBPyConnection, limits: Limits, now: datetime, report: RetentionReport
) -> bool:
    """Remove the oldest day of statistics rows older than their grain's limit, in one transaction (E-902).

    Returns:
        Whether another slice may have something to do.
    """
    dirty = con.execute("SELECT min(hour) FROM meta.dirty_hour").fetchone()
    first_dirty = _day(dirty[0]) if dirty and dirty[0] else None
    with transaction(con):
        for table, column in _statistics(con):
            limit = _day(now) - DAY * int(getattr(limits, _GRAINS[column]))
            limit = min(limit, first_dirty or limit)
            oldest = con.execute(f'SELECT min("{column}")::TIMESTAMP FROM {table}').fetchone()
            if not oldest or oldest[0] is None or oldest[0] >= limit:
                continue
            end = min(limit, _day(oldest[0]) + DAY)
            counters.remember_days(con, table, end)
            buckets = con.execute(f'DELETE FROM {table} WHERE "{column}" < ? RETURNING "{column}"::TIMESTAMP', [end])
            gone = [row[0] for row in buckets.fetchall()]
            mark_for_publish(con, table, gone, now)
            report.add(table, "*", len(gone))
            return True
        for table, column, days in (
            ("meta.window_run", "computed_at", limits.minute_days),
            ("meta.reconciliation", "verified_at", limits.hour_days),
        ):
            report.add(table, "*", _count(con, f"DELETE FROM {table} WHERE {column} < ?", now - DAY * days))
    return False


def _raw_limit(
    con: duckdb.DuckDBPyConnection, source_id: str, raw_days: int, now: datetime, report: RetentionReport
) -> datetime | None:
    """Raw rows before this start of a day may go; None when nothing may."""
    wanted = _day(now) - DAY * raw_days
    row = con.execute("SELECT closed_through, as_of FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
    reasons = {"its minutes are not closed": row[0] if row else None}
    if reasons["its minutes are not closed"] is None:
        report.postponed[source_id] = "nothing of it is closed yet"
        return None
    if _exists(con, "meta.window_progress"):
        reasons["its statistics are not computed"] = _value(
            con, "SELECT min(computed_through) FROM meta.window_progress WHERE source_id = ?", source_id
        )
    if _exists(con, "meta.dirty_day"):
        reasons["a day waits to be recomputed"] = _value(
            con, 'SELECT min("day") FROM meta.dirty_day WHERE source_id = ?', source_id
        )
    reasons["an hour waits to be recomputed"] = _value(
        con, "SELECT min(hour) FROM meta.dirty_hour WHERE source_id = ?", source_id
    )
    reasons["a worker waits to be recomputed"] = _value(
        con, "SELECT min(since) FROM meta.dirty_worker WHERE source_id = ?", source_id
    )
    reasons["a task waits to be recomputed"] = _oldest_dirty_task(con, source_id)
    limit = wanted
    report.postponed.pop(source_id, None)
    for reason, instant in reasons.items():
        if instant is not None and _day(instant) < limit:
            limit = _day(instant)
            report.postponed[source_id] = f"{limit:%Y-%m-%d}: {reason}"
    return limit


def _oldest_dirty_task(con: duckdb.DuckDBPyConnection, source_id: str) -> datetime | None:
    """Earliest stored instant of tasks that wait for recomputation; their days may become dirty."""
    if not _value(con, "SELECT count(*) FROM meta.dirty_task WHERE source_id = ?", source_id):
        return None
    waiting = "SELECT task_key FROM meta.dirty_task WHERE source_id = $s"
    row = con.execute(
        "SELECT least("
        "(SELECT min(least(created_at, queued_at, started_at, ended_at)) FROM raw.task "
        f" WHERE source_id = $s AND task_key IN ({waiting})), "
        f'(SELECT min("at") FROM raw.task_event WHERE source_id = $s AND task_key IN ({waiting})))',
        {"s": source_id},
    ).fetchone()
    return row[0] if row else None


def _oldest(con: duckdb.DuckDBPyConnection, source_id: str, known: datetime | None) -> datetime | None:
    """Earliest instant at or after ``known`` for which there are raw rows."""
    times = {"raw.task": _TASK_TIME, "raw.task_event": '"at"', "raw.task_output": _OUTPUT_TIME}
    times |= {"raw.worker_snapshot": '"at"', "raw.worker_event": '"at"'}
    times |= {table: instant for table, (instant, _) in _SINGLE_ROWS.items()}
    parts = [
        f"SELECT min({instant}) AS t FROM {table} WHERE source_id = $s AND ($k IS NULL OR {instant} >= $k)"
        for table, instant in times.items()
    ]
    row = con.execute(f"SELECT min(t) FROM ({' UNION ALL '.join(parts)})", {"s": source_id, "k": known}).fetchone()
    return row[0] if row else None


def _slice_end(con: duckdb.DuckDBPyConnection, source_id: str, oldest: datetime) -> datetime:
    """End of the slice that begins with ``oldest``: its hour, or a part of it when many events lie in it."""
    start = oldest.replace(minute=0, second=0, microsecond=0)
    for length in (HOUR, HOUR / 2, HOUR / 4, HOUR / 12):
        end = start + length * ((oldest - start) // length + 1)
        row = con.execute(
            'SELECT count(*) FROM raw.task_event WHERE source_id = ? AND "at" >= ? AND "at" < ?',
            [source_id, oldest, end],
        ).fetchone()
        if not row or row[0] <= SLICE_EVENTS:
            break
    return end


def _prune_tasks(
    con: duckdb.DuckDBPyConnection, source_id: str, end: datetime, protect: Collection[str], report: RetentionReport
) -> None:
    """Remove all rows of every task whose last sign of life is before ``end`` and which is not open."""
    arguments = {"s": source_id, "end": end}
    tables = {name: instant for name, instant in _TASK_ROWS.items() if _exists(con, name)}
    raw = {name: instant for name, instant in tables.items() if name.startswith("raw.")}
    old = " UNION ".join(
        f"SELECT task_key, task_hash FROM {name} WHERE source_id = $s AND {instant} < $end"
        for name, instant in raw.items()
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE prune_old AS {old}", arguments)
    by_hash = (
        "source_id = $s AND task_hash IN (SELECT task_hash FROM prune_old) "
        "AND task_key IN (SELECT task_key FROM prune_old)"
    )
    alive = [f"SELECT task_key FROM {name} WHERE {by_hash} AND {instant} >= $end" for name, instant in raw.items()]
    alive.append(f"SELECT task_key FROM raw.task WHERE {by_hash} AND status IN ({_OPEN_TASK})")
    alive.append("SELECT task_key FROM meta.dirty_task WHERE source_id = $s")
    alive.append("SELECT unnest($protect::VARCHAR[])")
    for name, until in (("core.task_attempt", "ended_at"), ("core.task_wait", "to_at")):
        if name in tables:
            alive.append(f"SELECT task_key FROM {name} WHERE ({until} IS NULL OR {until} >= $end) AND {by_hash}")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE prune_task AS SELECT DISTINCT task_key, task_hash FROM prune_old "
        f"WHERE task_key NOT IN ({' UNION ALL '.join(alive)})",
        arguments | {"protect": list(protect)},
    )
    for name, instant in tables.items():
        which = "task_hash IN (SELECT task_hash FROM prune_task) AND task_key IN (SELECT task_key FROM prune_task)"
        report.add(name, source_id, _delete(con, name, f"{instant} < $end AND {which}", source_id, end))


def _prune_workers(con: duckdb.DuckDBPyConnection, source_id: str, end: datetime, report: RetentionReport) -> None:
    """Remove rows of ended workers; of open ones only samples, and never the first, which may be their start."""
    known = "SELECT worker_key FROM raw.worker WHERE source_id = $s AND (deleted_at IS NULL OR deleted_at >= $end)"
    if _exists(con, "core.worker_life"):
        known = "SELECT worker_key FROM core.worker_life WHERE source_id = $s AND (end_at IS NULL OR end_at >= $end)"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE prune_open_worker AS {known} "
        "UNION SELECT worker_key FROM meta.dirty_worker WHERE source_id = $s",
        {"s": source_id, "end": end},
    )
    ended = "worker_key NOT IN (SELECT worker_key FROM prune_open_worker)"
    con.execute(
        'CREATE OR REPLACE TEMP TABLE prune_first_sample AS SELECT worker_key, min("at") AS "at" '
        'FROM raw.worker_snapshot WHERE source_id = $s AND "at" < $end '
        "AND worker_key IN (SELECT worker_key FROM prune_open_worker) GROUP BY worker_key",
        {"s": source_id, "end": end},
    )
    rules = {
        "raw.worker_event": f'"at" < $end AND {ended}',
        "raw.worker_snapshot": (
            '"at" < $end AND (worker_key, "at") NOT IN (SELECT (worker_key, "at") FROM prune_first_sample)'
        ),
        "raw.worker": f"deleted_at < $end AND {ended} AND worker_key NOT IN "
        '(SELECT worker_key FROM raw.worker_snapshot WHERE source_id = $s AND "at" >= $end)',
        "core.worker_interval": f"to_at < $end AND {ended}",
        "core.worker_life": f"end_at < $end AND {ended}",
        "core.worker_evidence": f"last_at < $end AND {ended}",
        "core.worker_offline": f"offline_at < $end AND {ended}",
        "core.worker_anomaly": f'"at" < $end AND {ended}',
    }
    for table, condition in rules.items():
        if _exists(con, table):
            report.add(table, source_id, _delete(con, table, condition, source_id, end))
    superseded = (
        "valid_from < $end AND valid_from < (SELECT max(later.valid_from) FROM raw.worker_concurrency AS later "
        "WHERE later.source_id = $s AND later.worker_key = worker_concurrency.worker_key AND later.valid_from <= $end)"
    )
    report.add("raw.worker_concurrency", source_id, _delete(con, "raw.worker_concurrency", superseded, source_id, end))


def _record(con: duckdb.DuckDBPyConnection, report: RetentionReport, now: datetime) -> None:
    rows = [
        [table, source_id, report.raw_from.get(source_id), count, now]
        for (table, source_id), count in sorted(report.removed.items())
    ]
    if rows:
        with transaction(con):
            con.executemany("INSERT INTO meta.retention_run VALUES (?, ?, ?, ?, ?)", rows)


def _statistics(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """(table, bucket column) of every statistics table."""
    return [
        (f"mart.{table}", column)
        for table, column in con.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'mart' "
            "AND column_name IN ('stat_minute', 'stat_hour', 'stat_date') ORDER BY ALL"
        ).fetchall()
    ]


#: Tables whose rows are shown in the files of ``core.task``, and the instant that chooses the file.
_TASK_FILES = {
    "raw.task": "coalesce(created_at, first_seen_at, started_at, ended_at)",
    "core.task_status": "coalesce(created_at, started_at, ended_at)",
}


def _delete(con: duckdb.DuckDBPyConnection, table: str, condition: str, source_id: str, end: datetime) -> int:
    at = _TASK_FILES.get(table, SERVED[table].at if table in SERVED else None)
    if at is not None:
        chosen = f"SELECT {at} FROM {table} WHERE source_id = $s AND {condition}"
        mark(con, TASK if table in _TASK_FILES else table, chosen, end, {"s": source_id, "end": end})
    row = con.execute(
        f"DELETE FROM {table} WHERE source_id = $s AND {condition}",
        {"s": source_id, "end": end},
    ).fetchone()
    return int(row[0]) if row else 0


def _count(con: duckdb.DuckDBPyConnection, sql: str, value: object) -> int:
    row = con.execute(sql, [value]).fetchone()
    return int(row[0]) if row else 0


def _value(con: duckdb.DuckDBPyConnection, sql: str, source_id: str) -> datetime | None:
    row = con.execute(sql, [source_id]).fetchone()
    return row[0] if row else None


def _exists(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    schema, table = name.split(".")
    found = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, table]
    ).fetchone()
    return bool(found and found[0])


def _day(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)
