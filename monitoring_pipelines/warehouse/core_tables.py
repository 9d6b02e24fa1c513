"""Tables of the core layer, and writing them so that only differences are stored and passed on.

What belongs here: their DDL, replacing the rows of claimed keys by difference, hours a difference touches, anomalies.
What does not: which keys are claimed and in which order (``core_refresh``), how rows are derived (``dbt_like_sql/core``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_pipelines.entities import entities, raw_columns
from monitoring_pipelines.warehouse import open_spans

if TYPE_CHECKING:
    import duckdb

#: Every task with its status; consumers read this and not ``raw.task``.
TASK_VIEW = "core.task"
CORE_DDL: dict[str, str] = {
    "core.task_attempt": (
        "source_id VARCHAR, task_key VARCHAR, attempt_no BIGINT, endpoint VARCHAR, worker_key VARCHAR, "
        "enqueued_at TIMESTAMP, started_at TIMESTAMP, ended_at TIMESTAMP, outcome VARCHAR, end_source VARCHAR, "
        "counted BOOLEAN, reversed BOOLEAN, queue_wait_ms DECIMAL(20,3), execution_ms DECIMAL(20,3), "
        "failed_execution_ms DECIMAL(20,3), total_ms DECIMAL(20,3), late_event_count BIGINT, "
        "executor_ended_at TIMESTAMP, dangling BOOLEAN, timeout_at TIMESTAMP, task_hash UBIGINT"
    ),
    "core.task_instant": (
        'source_id VARCHAR, task_key VARCHAR, endpoint VARCHAR, "at" TIMESTAMP, kind VARCHAR, event_key VARCHAR, '
        "total_ms DECIMAL(20,3), task_hash UBIGINT"
    ),
    "core.task_wait": (
        "source_id VARCHAR, task_key VARCHAR, endpoint VARCHAR, from_at TIMESTAMP, to_at TIMESTAMP, task_hash UBIGINT"
    ),
    # Only tasks whose status is not their row's; the view core.task has all of them.
    "core.task_status": (
        "source_id VARCHAR, task_key VARCHAR, endpoint VARCHAR, worker_key VARCHAR, status VARCHAR, "
        "created_at TIMESTAMP, started_at TIMESTAMP, ended_at TIMESTAMP, has_row BOOLEAN, row_created_at TIMESTAMP, "
        "row_effective_end TIMESTAMP, task_hash UBIGINT"
    ),
    # What raw.anomaly holds of tasks and workers, by owner, so that an anomaly that no longer holds can be withdrawn.
    "core.task_anomaly": (
        'source_id VARCHAR, task_key VARCHAR, kind VARCHAR, entity VARCHAR, "key" VARCHAR, "at" TIMESTAMP, '
        "detail VARCHAR, task_hash UBIGINT"
    ),
    "core.worker_anomaly": (
        'source_id VARCHAR, worker_key VARCHAR, kind VARCHAR, entity VARCHAR, "key" VARCHAR, "at" TIMESTAMP, '
        "detail VARCHAR"
    ),
    "core.snapshot_anomaly": (
        'source_id VARCHAR, worker_key VARCHAR, kind VARCHAR, entity VARCHAR, "key" VARCHAR, "at" TIMESTAMP, '
        "detail VARCHAR"
    ),
    "core.task_result": (
        "source_id VARCHAR, task_key VARCHAR, endpoint VARCHAR, status VARCHAR, effective_end TIMESTAMP, "
        "has_end BOOLEAN, is_expected BOOLEAN, outputs BIGINT, distinct_outputs BIGINT, invalid_outputs BIGINT, "
        "app_outputs BIGINT, delay_us BIGINT, known_at TIMESTAMP, task_hash UBIGINT"
    ),
    "core.output_instant": (
        'source_id VARCHAR, output_key VARCHAR, task_key VARCHAR, endpoint VARCHAR, "at" TIMESTAMP, origin VARCHAR, '
        "known_at TIMESTAMP, task_hash UBIGINT"
    ),
    # Outputs that came before their task, and since when they are stored.
    "core.output_unplaced": "source_id VARCHAR, task_key VARCHAR, task_hash UBIGINT, since TIMESTAMP",
    # Ten-minute stretches of workers whose samples must be compared with their attempts again (M-211).
    "core.dirty_stretch": "source_id VARCHAR, worker_key VARCHAR, from_at TIMESTAMP",
    "core.worker_life": (
        "source_id VARCHAR, worker_key VARCHAR, life_no BIGINT, endpoint VARCHAR, start_at TIMESTAMP, "
        "end_at TIMESTAMP, start_source VARCHAR, end_source VARCHAR, created_at TIMESTAMP, terminated_at TIMESTAMP, "
        "lost_at TIMESTAMP, cold_start_ms DECIMAL(20,3)"
    ),
    "core.worker_interval": (
        "source_id VARCHAR, worker_key VARCHAR, life_no BIGINT, endpoint VARCHAR, state VARCHAR, from_at TIMESTAMP, "
        "to_at TIMESTAMP, evidence VARCHAR, quality VARCHAR"
    ),
    # Evidence of life merged into spans (M-304, M-305), extended by new rows only.
    "core.worker_evidence": (
        "source_id VARCHAR, worker_key VARCHAR, kind VARCHAR, first_at TIMESTAMP, last_at TIMESTAMP, "
        "first_sample_at TIMESTAMP, last_sample_at TIMESTAMP, last_snapshot_at TIMESTAMP, has_poll BOOLEAN, "
        "endpoint VARCHAR, first_snapshot_at TIMESTAMP"
    ),
    # Offline events and the first evidence after each (M-302).
    "core.worker_offline": ("source_id VARCHAR, worker_key VARCHAR, offline_at TIMESTAMP, next_at TIMESTAMP"),
}


@dataclass(frozen=True)
class Change:
    """How many rows of a table a refresh removed and added; a changed row counts in both."""

    removed: int = 0
    added: int = 0

    def __add__(self, other: Change) -> Change:
        return Change(self.removed + other.removed, self.added + other.added)

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def ensure_core(con: duckdb.DuckDBPyConnection) -> None:
    """Create the core tables, or add the columns an older file lacks. Safe to repeat."""
    con.execute("CREATE SCHEMA IF NOT EXISTS core")
    stored: dict[str, dict[str, None]] = {}
    rows = con.execute(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = 'core' ORDER BY table_oid, column_index"
    ).fetchall()
    for table, column in rows:
        stored.setdefault(f"core.{table}", {})[column] = None
    for name in CORE_DDL:
        if name not in stored:
            con.execute(f"CREATE TABLE IF NOT EXISTS {name} ({CORE_DDL[name]})")
            continue
        for column, kind in _typed_columns(name):
            if column not in stored[name]:
                con.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" {kind}')
    if [name for name, _ in raw_columns(entities()["task"])] != list(stored.get(TASK_VIEW, ())):
        con.execute(_task_view())


def _task_view() -> str:
    """``core.task``: every task as ``raw.task`` has it, with the status its attempts decided, and tasks known by their
    events only (E-100, E-203, M-206). Columns are named, so that the view survives a column added to ``raw.task``.
    """
    names = [name for name, _ in raw_columns(entities()["task"])]
    final = "('succeeded', 'failed', 'timed_out', 'cancelled')"
    ended = "CASE WHEN s.task_key IS NULL THEN t.ended_at ELSE s.ended_at END"
    decided = {
        "status": "coalesce(s.status, t.status)",
        "ended_at": ended,
        "effective_end": f"CASE WHEN s.task_key IS NULL THEN t.effective_end WHEN s.status IN {final} "
        "THEN coalesce(s.ended_at, t.created_at) END",
    }
    by_events = {name: f's."{name}"' for name in ("source_id", "task_key", "endpoint", "worker_key", "status")}
    by_events |= {name: f's."{name}"' for name in ("created_at", "started_at", "ended_at", "task_hash")}
    by_events |= {
        "effective_end": f"CASE WHEN s.status IN {final} THEN coalesce(s.ended_at, s.created_at) END",
        "output_expected": "true", "is_deleted": "false", "key_hash": "s.task_hash",
    }  # fmt: skip
    rows = ", ".join(f'{decided.get(name, _quoted_of("t", name))} AS "{name}"' for name in names)
    events = ", ".join(f'{by_events.get(name, "NULL")} AS "{name}"' for name in names)
    return (
        f"CREATE OR REPLACE VIEW {TASK_VIEW} AS SELECT {rows} FROM raw.task AS t LEFT JOIN core.task_status AS s "
        "ON t.key_hash = s.task_hash AND t.source_id = s.source_id AND t.task_key = s.task_key AND s.has_row "
        f"UNION ALL SELECT {events} FROM core.task_status AS s WHERE NOT s.has_row"
    )


def _quoted_of(table: str, name: str) -> str:
    return f'{table}."{name}"'


def columns(table: str) -> list[str]:
    """Column names of a core table, in order."""
    return [name for name, _ in _typed_columns(table)]


def _typed_columns(table: str) -> list[tuple[str, str]]:
    pairs = (word.strip().split(" ", 1) for word in CORE_DDL[table].split(", "))
    return [(name.strip('"'), kind) for name, kind in pairs]


def replace_rows(con: duckdb.DuckDBPyConnection, table: str, new: str, old: str, scope: str = "true") -> Change:
    """Make the stored rows of the claimed keys equal to the computed ones, touching only those that differ.

    Leaves the differences in the temp tables ``gone_<table>`` and ``come_<table>`` for ``mark_hours``.

    Args:
        con: Inside a transaction.
        table: ``core.<name>``.
        new: Temp table or query with the computed rows, at least the table's columns.
        old: Condition that selects the stored rows of the claimed keys.
        scope: A condition with constants that holds for all of them, so that storage can be skipped.
    """
    short = table.split(".")[1]
    names = ", ".join(f'"{name}"' for name in columns(table))
    gone = _fill(con, f"gone_{short}", f"SELECT rowid AS rid, {names} FROM {table} WHERE {scope} AND {old}")
    come = _fill(con, f"come_{short}", f"SELECT {names} FROM {new}")
    if gone:
        gone, come = _cancel_equal(con, short, names)
    if gone:
        con.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT rid FROM gone_{short})")
    if come:
        con.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM come_{short}")
        if table in open_spans.SPANS:
            open_spans.reach_back(con, table, f"come_{short}")
    return Change(gone, come)


def _cancel_equal(con: duckdb.DuckDBPyConnection, short: str, names: str) -> tuple[int, int]:
    """Drop rows from both sides that are equal in all columns, copy by copy; how many are left on each.

    One aggregate over both: numbering the copies of each side by a window cost several times as much.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE unequal AS SELECT {names}, list(rid) FILTER (rid IS NOT NULL) AS rids, "
        f"count(*) - count(rid) AS wanted FROM (SELECT rid, {names} FROM gone_{short} "
        f"UNION ALL SELECT NULL, {names} FROM come_{short}) GROUP BY {names} HAVING count(*) <> 2 * count(rid)"
    )
    gone = _fill(con, f"gone_{short}", f"SELECT unnest(rids[wanted + 1:]) AS rid, {names} FROM unequal")
    copies = "unnest(range(wanted - coalesce(len(rids), 0)))"
    come = _fill(con, f"come_{short}", f"SELECT {names} FROM (SELECT *, {copies} FROM unequal)")
    return gone, come


def _fill(con: duckdb.DuckDBPyConnection, table: str, select: str) -> int:
    """Make a temp table of a query; the number of its rows."""
    row = con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}").fetchone()
    return int(row[0]) if row else 0


# Per table: columns that must agree for an old and a new row to be versions of one span, its begin and its end.
# Of such a pair only the time between both ends is touched; other rows are touched from begin to end.
_SPANS = {
    "task_attempt": (
        ("task_key", "attempt_no", "started_at", "endpoint", "worker_key", "reversed", "enqueued_at", "queue_wait_ms"),
        "started_at", "ended_at",
    ),
    "task_wait": (("task_key", "endpoint", "from_at"), "from_at", "to_at"),
    "worker_interval": (
        ("worker_key", "life_no", "endpoint", "state", "from_at", "evidence", "quality"), "from_at", "to_at",
    ),
}  # fmt: skip
_INSTANTS = {
    "task_instant": ('"at"',),
    "task_result": ("effective_end",),
    "output_instant": ('"at"',),
    "task_anomaly": ('"at"',),
    "worker_anomaly": ('"at"',),
    "snapshot_anomaly": ('"at"',),
    "worker_life": ("start_at", "end_at", "created_at", "terminated_at", "lost_at"),
}


#: A slot of snapshots belongs to the minute of its start and reaches into later ones unless slots divide minutes (M-316).
SLOT_REACH = "CASE WHEN 60000000 % s.interval_us = 0 THEN INTERVAL 0 SECOND ELSE to_microseconds(s.interval_us) END"


def mark_hours(con: duckdb.DuckDBPyConnection, tables: list[str], reason: str, family: str = "endpoint") -> int:
    """Mark the minutes touched by the differences ``replace_rows`` left, by hour, up to now (E-603, M-803).

    Minutes that are not closed need no mark: they are computed when they close.

    Returns:
        Number of marks that were needed.
    """
    parts = []
    for short in tables:
        if short in _SPANS:
            keys, begin, end = _SPANS[short]
            same = " AND ".join(f"g.{name} IS NOT DISTINCT FROM c.{name}" for name in keys)
            parts.append(
                f"SELECT CASE WHEN g.{begin} IS NOT NULL AND c.{begin} IS NOT NULL "
                f"THEN least(coalesce(g.{end}, s.as_of), coalesce(c.{end}, s.as_of)) "
                f"ELSE least(coalesce(g.{begin}, c.{begin}), coalesce(g.{end}, c.{end})) END AS from_at, "
                f"greatest(CASE WHEN g.{begin} IS NOT NULL THEN coalesce(g.{end}, s.as_of) END, "
                f"CASE WHEN c.{begin} IS NOT NULL THEN coalesce(c.{end}, s.as_of) END) AS to_at "
                f"FROM gone_{short} AS g FULL JOIN come_{short} AS c ON {same} CROSS JOIN claim_setting AS s"
            )
        else:
            for column in _INSTANTS[short]:
                for side in ("gone", "come"):
                    parts.append(f"SELECT {column} AS from_at, {column} AS to_at FROM {side}_{short}")
    row = con.execute(
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason, from_at, to_at) "
        "SELECT s.source_id, $family, h.hour, s.as_of, $reason, h.from_at, h.to_at FROM ("
        "SELECT hour, min(greatest(from_at, hour)) AS from_at, max(least(to_at, hour + INTERVAL 1 HOUR)) AS to_at "
        "FROM (SELECT from_at, to_at, "
        "unnest(generate_series(date_trunc('hour', from_at), to_at - INTERVAL 1 MINUTE, INTERVAL 1 HOUR)) AS hour "
        f"FROM (SELECT DISTINCT date_trunc('minute', from_at - {SLOT_REACH}) AS from_at, "
        "date_trunc('minute', greatest(from_at, least(to_at, s.as_of))) + INTERVAL 1 MINUTE AS to_at FROM ("
        + " UNION ALL ".join(parts)
        + ") CROSS JOIN claim_setting AS s WHERE from_at <= s.as_of AND to_at IS NOT NULL)) GROUP BY hour"
        ") AS h CROSS JOIN claim_setting AS s "
        "LEFT JOIN meta.source_state AS state ON state.source_id = s.source_id "
        "WHERE (state.closed_through IS NULL OR h.from_at < state.closed_through) "
        "AND NOT EXISTS (SELECT 1 FROM meta.dirty_hour AS d WHERE d.source_id = s.source_id "
        "AND d.family = $family AND d.hour = h.hour AND coalesce(d.from_at, d.hour) <= h.from_at "
        "AND coalesce(d.to_at, d.hour + INTERVAL 1 HOUR) >= h.to_at)",
        {"reason": reason, "family": family},
    ).fetchone()
    return int(row[0]) if row else 0


def publish_anomalies(con: duckdb.DuckDBPyConnection, short: str) -> None:
    """Bring ``raw.anomaly`` in line with the differences of a core anomaly table (E-007).

    An anomaly that still holds keeps ``first_seen_at`` and its count; one that no longer holds is withdrawn, so that
    statistics do not depend on the order in which rows came (M-805).
    """
    same = 'a.source_id = x.source_id AND a.kind = x.kind AND a.entity = x.entity AND a."key" = x."key"'
    con.execute(
        f"DELETE FROM raw.anomaly AS a WHERE EXISTS (SELECT 1 FROM gone_{short} AS x WHERE {same}) "
        f"AND NOT EXISTS (SELECT 1 FROM core.{short} AS x WHERE {same})"
    )
    con.execute(f'UPDATE raw.anomaly AS a SET "at" = x."at", detail = x.detail FROM come_{short} AS x WHERE {same}')
    con.execute(
        'INSERT INTO raw.anomaly (source_id, kind, entity, "key", "at", detail, first_seen_at, count) '
        'SELECT x.source_id, x.kind, x.entity, x."key", min(x."at"), min(x.detail), any_value(s.as_of), 1 '
        f"FROM come_{short} AS x CROSS JOIN claim_setting AS s "
        f"WHERE NOT EXISTS (SELECT 1 FROM raw.anomaly AS a WHERE {same}) "
        'GROUP BY x.source_id, x.kind, x.entity, x."key"'
    )
