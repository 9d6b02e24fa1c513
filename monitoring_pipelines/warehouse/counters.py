"""Counters over the warehouse that never fall: what rows that are gone had added to them (S-303).

What belongs here: the amounts that stored rows do not tell, or no longer, and adding to them in the transaction that
removes or replaces those rows. What does not: removing rows (``retention``), names and labels of families (``metrics``).

``meta.counter_past`` has two kinds of counters. Of most it holds what retention removed; whoever reads adds what is there.
Rows before ``until`` are all in it, so that a day that is computed again after its row was removed is not counted twice, and
neither is one whose published file is not rewritten yet. ``late_events`` and ``restated`` it holds whole: their rows change
and vanish in more ways than by retention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

TABLE = "meta.counter_past"
#: Counters and their labels: of rows of ``raw.anomaly`` the kind, of marks that were dropped the table they were of.
ANOMALIES, EXTRACT_ROWS = "anomalies", "extract_rows"
#: Counters that are held whole: late events (no label), and restated rows by grain (of no source).
LATE_EVENTS, RESTATED = "late_events", "restated"
_GRAINS = {"stat_minute": "minute", "stat_hour": "hour", "stat_date": "day"}


@dataclass(frozen=True)
class Days:
    """Columns of a daily table that are summed over all time by ``keys``; the labels are the keys and the column."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    where: str = "true"


#: Daily tables that counters are summed from, which are their names too.
DAYS = {
    "mart.endpoint_daily_stats": Days(
        ("endpoint",),
        ("tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "tasks_cancelled", "tasks_retried"),
    ),
    "mart.output_daily_stats": Days((), ("outputs_created", "outputs_created_repair")),
    "mart.ingest_daily_stats": Days(("process_id", "series"), ("increase",), "series <> '*'"),
    "mart.notification_daily_stats": Days(("channel",), ("attempts_ok", "attempts_failed"), "source_id <> '_self'"),
}


def remember(con: duckdb.DuckDBPyConnection, select: str, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Add what rows that are about to go tell; call it in the transaction that removes them.

    Args:
        con: Read-write connection.
        select: Yields counter, source_id, labels, amount and until; each counter, source and labels once.
        values: Its parameters.
    """
    columns = "counter, source_id, labels, amount, until"
    con.execute(f"CREATE OR REPLACE TEMP TABLE counter_more AS SELECT * FROM ({select}) AS m({columns})", values)
    if not con.execute("SELECT 1 FROM counter_more LIMIT 1").fetchall():
        return
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE counter_sum AS SELECT counter, source_id, labels, sum(amount), max(until) FROM ("
        f"SELECT * FROM counter_more UNION ALL SELECT {columns} FROM {TABLE} "
        "SEMI JOIN counter_more USING (counter, source_id, labels)) GROUP BY counter, source_id, labels"
    )
    same = "(counter, source_id, labels)"
    con.execute(f"DELETE FROM {TABLE} WHERE {same} IN (SELECT {same} FROM counter_more)")
    con.execute(f"INSERT INTO {TABLE} ({columns}) SELECT * FROM counter_sum")


def remember_days(con: duckdb.DuckDBPyConnection, table: str, end: datetime) -> None:
    """Add the days of ``table`` before ``end``, the start of a day; call it in the transaction that removes them."""
    days = DAYS.get(table)
    if days is None:
        return
    keys = ", ".join(("source_id", *days.keys))
    labels = "".join(f"{key}, " for key in days.keys)
    selects = [
        f"SELECT '{table}', source_id, [{labels}'{column}'], sum({column})::DECIMAL(38,6), $end::TIMESTAMP FROM going "
        f"GROUP BY {keys}"
        for column in days.columns
    ]
    remember(
        con,
        f"WITH going AS MATERIALIZED (SELECT * FROM {table} "
        f"LEFT JOIN (SELECT source_id, max(until) AS until FROM {TABLE} WHERE counter = '{table}' GROUP BY source_id) "
        f"USING (source_id) WHERE stat_date < $end AND {days.where} AND (until IS NULL OR stat_date >= until)) "
        + " UNION ALL ".join(selects),
        {"end": end},
    )


def add(con: duckdb.DuckDBPyConnection, counter: str, source_id: str, labels: Sequence[str], amount: int) -> None:
    """Add to a counter that is held whole; call it in the transaction that changes what it counts."""
    if not amount:
        return
    known = con.execute(
        f"UPDATE {TABLE} SET amount = amount + ? WHERE counter = ? AND source_id = ? AND labels = ?::VARCHAR[]",
        [amount, counter, source_id, list(labels)],
    ).fetchone()
    if not known or not known[0]:
        con.execute(
            f"INSERT INTO {TABLE} VALUES (?, ?, ?::VARCHAR[], ?, NULL)", [counter, source_id, list(labels), amount]
        )


def count_late_events(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """Add the late events that the differences of ``core.task_attempt`` left by ``replace_rows`` brought (M-205)."""
    row = con.execute(
        "SELECT (SELECT coalesce(sum(late_event_count), 0) FROM come_task_attempt) "
        "- (SELECT coalesce(sum(late_event_count), 0) FROM gone_task_attempt)"
    ).fetchone()
    add(con, LATE_EVENTS, source_id, (), int(row[0]) if row else 0)


def begin(con: duckdb.DuckDBPyConnection) -> None:
    """Fill the counters that are held whole from the rows of a store that did not have the table."""
    columns: dict[str, set[str]] = {}
    for schema, table, column in con.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE schema_name IN ('core', 'mart')"
    ).fetchall():
        columns.setdefault(f"{schema}.{table}", set()).add(column)
    if "late_event_count" in columns.get("core.task_attempt", ()):
        remember(
            con,
            f"SELECT '{LATE_EVENTS}', source_id, []::VARCHAR[], sum(late_event_count)::DECIMAL(38,6), NULL::TIMESTAMP "
            "FROM core.task_attempt GROUP BY source_id",
            [],
        )
    for table, names in columns.items():
        grain = next((grain for column, grain in _GRAINS.items() if column in names), None)
        if table.startswith("mart.") and grain and "revision" in names:
            row = con.execute(f"SELECT coalesce(sum(revision - 1), 0)::BIGINT FROM {table}").fetchone()
            add(con, RESTATED, "", (grain,), row[0] if row else 0)
