"""Which rows a refresh of the core reads: steps, scopes and the hot window of claimed tasks.

What belongs here: running a step's SQL, views and temp tables over raw rows. What does not: what is claimed and what
becomes of it (``core_workers``, ``core_tasks``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse import open_spans
from monitoring_pipelines.warehouse.sql_models import sql_root

if TYPE_CHECKING:
    import duckdb

#: Up to this many claimed tasks, rows are first looked for in a hot window; above, one pass over everything is cheaper.
HOT_CLAIMS = 50_000
#: Hot windows, tried in this order. Clocks of one task's events may disagree; a task counts as wholly inside a window
#: only well inside it.
HOT_WINDOWS = (timedelta(hours=2), timedelta(hours=6))
HOT_MARGIN = timedelta(hours=1)
HASH = "md5_number_lower(concat_ws(chr(31), source_id, task_key))"
#: The reserved word is always quoted.
AT = '"at"'
SUBMITTED = 'min("at")'


@cache
def sql(name: str) -> str:
    """Text of ``core/steps/<name>.sql`` or, for a model, ``core/<name>.sql``."""
    folder = sql_root() / "core"
    path = folder / "steps" / f"{name}.sql"
    return (path if path.exists() else folder / f"{name}.sql").read_text(encoding="utf-8")


def step(con: duckdb.DuckDBPyConnection, name: str, source_id: str) -> None:
    """Compute one step into the temp table ``step_<name>``."""
    text = sql(name)
    parameters: dict[str, Any] = {"source_id": source_id} if "$source_id" in text else {}
    con.execute(f"CREATE OR REPLACE TEMP TABLE step_{name} AS {text}", parameters)


def value(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> Any:
    """The first value of a query; None if it has no row."""
    row = con.execute(sql, parameters or []).fetchone()
    return row[0] if row else None


def prepare(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """``claim_setting``: one row with the source's settings in exact units, and now."""
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE claim_setting AS
        SELECT
            s.source_id,
            t.as_of,
            to_microseconds(cast(coalesce(s.future_tolerance_s, 5) * 1000000 AS BIGINT)) AS future_tolerance,
            t.as_of + to_microseconds(cast(coalesce(s.future_tolerance_s, 5) * 1000000 AS BIGINT)) AS horizon,
            to_microseconds(cast(coalesce(s.clock_skew_max_s, 300) * 1000000 AS BIGINT)) AS skew,
            cast(coalesce(s.max_duration_h, 168) * 3600000000 AS BIGINT) AS max_us,
            cast(coalesce(s.snapshot_tolerance_s, 180) * 1000000 AS BIGINT) AS tolerance_us,
            cast(coalesce(s.snapshot_interval_s, 60) * 1000000 AS BIGINT) AS interval_us,
            s.timeout_mode,
            s.timeout_limit_s,
            coalesce(s.has_task, false) AS has_task,
            coalesce(s.has_task_event, false) AS has_event,
            coalesce(s.has_worker_snapshot, false) AS has_snapshot,
            coalesce(s.status_derived, false) AS status_derived,
            coalesce(s.has_task_event, false) OR coalesce(s.has_task_times, false) AS has_attempts
        FROM meta.source_setting AS s
        INNER JOIN meta.source_state AS t ON s.source_id = t.source_id
        WHERE s.source_id = ?
        """,
        [source_id],
    )


def scope(con: duckdb.DuckDBPyConnection, name: str, table: str, source_id: str, condition: str) -> None:
    """A temp view of the rows a step may read. Constants in it let DuckDB skip storage."""
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {table} WHERE source_id = '{source_id}' AND {condition}"
    )


def not_before(column: str, instant: datetime | None) -> str:
    """A condition with a constant, by which DuckDB skips storage; ``column`` is a quoted name or an expression."""
    return "true" if instant is None else f"{column} >= TIMESTAMP '{instant.isoformat(sep=' ')}'"


def attempts_since(con: duckdb.DuckDBPyConnection, instant: datetime) -> str:
    """A query of the attempts that are open or ended since then: two reads, because storage skips nothing for both."""
    return (
        f"(SELECT * FROM core.task_attempt WHERE {not_before('ended_at', instant)} "
        f"UNION ALL SELECT * FROM core.task_attempt WHERE ended_at IS NULL AND {open_spans.since(con, 'core.task_attempt')})"
    )


def scope_by_claim(
    con: duckdb.DuckDBPyConnection, name: str, table: str, hash_column: str, claim: str, since: datetime,
    time_column: str,
) -> None:  # fmt: skip
    """A view of the claimed tasks' rows; few rows are fetched once, because several steps read them."""
    rows, count = rows_of_claim(con, table, hash_column, claim, since, time_column, "r.*")
    if count <= HOT_CLAIMS:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name}_found AS {rows}")
        rows = f"SELECT * FROM {name}_found"
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows}")


def rows_of_claim(
    con: duckdb.DuckDBPyConnection, table: str, hash_column: str, claim: str, since: datetime, time_column: str,
    columns: str,
) -> tuple[str, int]:  # fmt: skip
    """A query of the claimed tasks' rows (``r``; the claim is ``c``), and how many tasks are claimed.

    Rows of recent tasks are looked for ``since`` the hot window began, those of others anywhere.
    """
    parts = []
    total = 0
    for cold, bound in (("NOT c.is_cold", since), ("c.is_cold", None)):
        if count := int(value(con, f"SELECT count(*) FROM {claim} AS c WHERE {cold}")):
            total += count
            parts.append(
                f"SELECT {columns} FROM {table} AS r INNER JOIN {claim} AS c ON r.{hash_column} = c.task_hash "
                f"AND r.source_id = c.source_id AND r.task_key = c.task_key AND {cold} "
                f"WHERE {not_before(f'r.{time_column}', bound)}"
            )
    empty = f"SELECT {columns} FROM {table} AS r, {claim} AS c WHERE false"
    return " UNION ALL ".join(parts) or empty, total


def judge_cold(con: duckdb.DuckDBPyConnection, claim: str, source_id: str, as_of: datetime) -> datetime:
    """Clear ``is_cold`` for tasks that were submitted well inside a hot window: everything about them lies in it.

    A task whose row lacks its time, or an event of which was corrected, may have rows anywhere and stays cold.

    Returns:
        Where the hot window begins.
    """
    if int(value(con, f"SELECT count(*) FROM {claim}")) <= HOT_CLAIMS:
        for window in HOT_WINDOWS:
            _clear_cold(con, claim, source_id, as_of - window)
            if not value(con, f"SELECT count(*) FROM {claim} WHERE is_cold"):
                return as_of - window
    return as_of - HOT_WINDOWS[-1]


def _clear_cold(con: duckdb.DuckDBPyConnection, claim: str, source_id: str, since: datetime) -> None:
    inside = since + HOT_MARGIN
    hot = not_before(AT, since)
    con.execute(
        f"UPDATE {claim} SET is_cold = false WHERE is_cold AND task_hash IN ("
        f"SELECT e.task_hash FROM raw.task_event AS e SEMI JOIN {claim} AS c ON e.task_hash = c.task_hash "
        f"WHERE e.source_id = '{source_id}' AND {hot} "
        f"GROUP BY e.task_hash HAVING bool_or(e.event_type = 'created') AND {not_before(SUBMITTED, inside)} "
        "AND NOT coalesce(bool_or(e.changed_at > e.first_seen_at), false)) "
        f"AND (NOT (SELECT has_task FROM claim_setting) OR task_hash IN ("
        f"SELECT t.key_hash FROM raw.task AS t SEMI JOIN {claim} AS c ON t.key_hash = c.task_hash "
        f"WHERE t.source_id = '{source_id}' AND {not_before('created_at', inside)}))"
    )
