"""Results of tasks: what the finished ones left behind, for the statistics of outputs (M §7.1).

What belongs here: the outputs of claimed tasks, ``core.task_result`` and ``core.output_instant``, outputs inserted by
repairs. What does not: claiming tasks (``core_refresh``), validity and natural keys (``source.convert``).

Outputs of a task are looked for among rows stored since the task was first seen, which storage can skip to. Outputs
that came before their task are remembered with the instant they came at, so that this misses none.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.core_tables import Change, mark_hours, replace_rows
from monitoring_pipelines.warehouse.families import OUTPUT
from monitoring_pipelines.warehouse.schema import transaction

if TYPE_CHECKING:
    import duckdb

#: An output of these origins was not created by the application (R-412).
NOT_BY_THE_APP = ("repair", "placeholder")
LIVE = "NOT is_deleted AND coalesce(deleted_reason, '') NOT IN ('soft', 'hard')"


def valid_output_sql(alias: str, least_bytes: int | None) -> str:
    """Condition under which an output row is valid (E-102): not soft-deleted and, where configured, large enough.

    Args:
        alias: Alias of the row.
        least_bytes: ``min_output_bytes`` of the source; None: any size, also an unknown one.
    """
    large = "" if least_bytes is None else f" AND coalesce({alias}.size_bytes >= {least_bytes}, false)"
    return f"NOT {alias}.is_deleted{large}"


def revalidate_outputs(con: duckdb.DuckDBPyConnection, source_id: str, least_bytes: int | None) -> int:
    """Judge stored outputs anew when ``min_output_bytes`` is not what it was in the last cycle (E-102).

    The rows are as they were at the source, so no comparison would read them again. Their tasks become dirty.

    Args:
        con: Read-write connection in the transaction that writes ``meta.source_setting`` afterwards.
        source_id: The source.
        least_bytes: The limit now.

    Returns:
        How many outputs changed.
    """
    known = con.execute("SELECT min_output_bytes FROM meta.source_setting WHERE source_id = ?", [source_id]).fetchone()
    if known is None or known[0] == least_bytes:
        return 0
    changed = f"FROM raw.task_output AS o WHERE o.source_id = $s AND o.valid IS DISTINCT FROM ({valid_output_sql('o', least_bytes)})"
    con.execute(
        f"INSERT INTO meta.dirty_task (source_id, task_key, marked_at) SELECT $s, o.task_key, min(o.changed_at) {changed} "
        "GROUP BY o.task_key",
        {"s": source_id},
    )
    found = con.execute(
        f"UPDATE raw.task_output AS o SET valid = ({valid_output_sql('o', least_bytes)}) "
        f"WHERE o.source_id = $s AND o.valid IS DISTINCT FROM ({valid_output_sql('o', least_bytes)})",
        {"s": source_id},
    ).fetchone()
    return int(found[0]) if found else 0


def is_active(con: duckdb.DuckDBPyConnection, source_id: str) -> bool:
    """Whether outputs of the source are mapped, or were."""
    row = con.execute(
        "SELECT count(*) FROM meta.family_source WHERE source_id = ? AND family = ?", [source_id, OUTPUT]
    ).fetchone()
    return bool(row and row[0])


def refresh_results(
    con: duckdb.DuckDBPyConnection, source_id: str, queries: dict[str, str], mine: str
) -> tuple[dict[str, Change], int]:
    """Recompute results and output instants of the tasks in ``claim_task``; the caller holds the transaction.

    Args:
        con: Connection on which the task steps of ``core_refresh`` have run, ``step_task_status`` included.
        source_id: The source.
        queries: Text of the models ``task_result`` and ``output_instant``.
        mine: Condition that selects rows of the claimed tasks.

    Returns:
        Changes by table, and the number of hours marked.
    """
    known = _bound(con, _KNOWN, source_id)
    _scope_outputs(con, _bound(con, f"{_KNOWN} UNION ALL {_MARKED}", source_id), source_id)
    changes: dict[str, Change] = {}
    for table in ("task_result", "output_instant"):
        con.execute(f"CREATE OR REPLACE TEMP TABLE step_{table} AS {queries[table]}")
        changes[f"core.{table}"] = replace_rows(con, f"core.{table}", f"step_{table}", mine, f"known_at >= {known}")
    _remember_unplaced(con, source_id)
    return changes, mark_hours(con, ["task_result", "output_instant"], "output", OUTPUT)


#: Since when anything of the claimed tasks is stored.
_KNOWN = "SELECT min(first_seen_at) AS t FROM scope_task UNION ALL SELECT min(first_seen_at) FROM scope_event"
#: Since when outputs of the claimed tasks may be stored that came before them.
_MARKED = (
    "SELECT min(marked_at) FROM meta.dirty_task WHERE source_id = $s UNION ALL "
    "SELECT min(u.since) FROM core.output_unplaced AS u SEMI JOIN claim_task AS c "
    "ON u.task_hash = c.task_hash AND u.task_key = c.task_key WHERE u.source_id = $s"
)


def _bound(con: duckdb.DuckDBPyConnection, instants: str, source_id: str) -> str:
    """The earliest of the instants as a constant, by which DuckDB skips storage."""
    values = {"s": source_id} if "$s" in instants else {}
    row = con.execute(f"SELECT min(t) FROM ({instants})", values).fetchone()
    bound = row[0] if row and row[0] is not None else datetime(1970, 1, 1)
    return f"TIMESTAMP '{bound.isoformat(sep=' ')}'"


def _scope_outputs(con: duckdb.DuckDBPyConnection, bound: str, source_id: str) -> None:
    """``scope_output``: live outputs of the claimed tasks that are not in the future (E-306)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE scope_output AS SELECT o.output_key, o.task_key, o.task_hash, o.natural_key, "
        "o.created_at, o.origin, o.valid, o.changed_at FROM raw.task_output AS o SEMI JOIN claim_task AS c "
        "ON o.task_hash = c.task_hash AND o.task_key = c.task_key CROSS JOIN claim_setting AS s "
        f"WHERE o.source_id = '{source_id}' AND o.changed_at >= {bound} AND {LIVE} "
        "AND (o.created_at IS NULL OR o.created_at <= s.horizon)"
    )


def _remember_unplaced(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """Outputs whose task is not known yet, and since when they are stored."""
    con.execute(
        "DELETE FROM core.output_unplaced AS u USING claim_task AS c WHERE u.source_id = ? "
        "AND u.task_hash = c.task_hash AND u.task_key = c.task_key",
        [source_id],
    )
    con.execute(
        "INSERT INTO core.output_unplaced (source_id, task_key, task_hash, since) "
        "SELECT ?, c.task_key, c.task_hash, min(o.changed_at) FROM scope_output AS o INNER JOIN claim_task AS c "
        "ON o.task_hash = c.task_hash AND o.task_key = c.task_key "
        "WHERE c.tid NOT IN (SELECT tid FROM step_task_subject) GROUP BY c.task_key, c.task_hash",
        [source_id],
    )


def record_repaired(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    output_keys: Iterable[str],
    now: datetime,
    origin: str = "repair",
) -> int:
    """Say that these outputs were inserted by a repair (R-412), before or after they are read into the store.

    Their tasks are recomputed with the next cycle. Safe to repeat.

    Args:
        con: Read-write connection, no open transaction.
        source_id: The source.
        output_keys: Keys of the inserted rows, as the mapping of ``task_output`` gives them (text).
        now: Naive UTC instant.
        origin: ``repair``, or ``placeholder`` for rows that stand for no file (E-102).

    Returns:
        How many were not known yet.
    """
    return _set_origin(con, source_id, list(output_keys), now, origin)


def forget_repaired(con: duckdb.DuckDBPyConnection, source_id: str, output_keys: Iterable[str], now: datetime) -> int:
    """Take ``record_repaired`` back for rows that a rollback removed; how many were known.

    A key that the source uses again later belongs to the application.
    """
    return _set_origin(con, source_id, list(output_keys), now, None)


def output_hashes(con: duckdb.DuckDBPyConnection, source_id: str, output_keys: Iterable[str]) -> list[int]:
    """``key_hash`` of the stored outputs with these keys."""
    rows = con.execute(
        "SELECT key_hash FROM raw.task_output WHERE key_hash IN "
        "(SELECT md5_number_lower(concat_ws(chr(31), $s, k)) FROM (SELECT unnest($k::VARCHAR[]) AS k))",
        {"s": source_id, "k": list(output_keys)},
    ).fetchall()
    return [key_hash for (key_hash,) in rows]


def _set_origin(
    con: duckdb.DuckDBPyConnection, source_id: str, keys: list[str], now: datetime, origin: str | None
) -> int:
    known = "SELECT output_key FROM meta.repaired_output WHERE source_id = $s"
    with transaction(con):
        con.execute(
            "CREATE OR REPLACE TEMP TABLE repaired_key AS SELECT unnest($k::VARCHAR[]) AS output_key", {"k": keys}
        )
        if origin is None:
            found = con.execute(
                "DELETE FROM meta.repaired_output WHERE source_id = $s AND output_key IN (SELECT output_key FROM repaired_key)",
                {"s": source_id},
            ).fetchone()
        else:
            found = con.execute(
                "INSERT INTO meta.repaired_output SELECT DISTINCT $s, output_key, $o, $now::TIMESTAMP FROM repaired_key "
                f"WHERE output_key NOT IN ({known})",
                {"s": source_id, "o": origin, "now": now},
            ).fetchone()
        hashes = "SELECT md5_number_lower(concat_ws(chr(31), $s, output_key)) FROM repaired_key"
        con.execute(
            "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) SELECT DISTINCT source_id, task_key, "
            f"least(changed_at, $now::TIMESTAMP) FROM raw.task_output WHERE source_id = $s AND key_hash IN ({hashes})",
            {"s": source_id, "now": now},
        )
        con.execute(
            "UPDATE raw.task_output SET origin = $o WHERE source_id = $s AND origin <> 'inline' "
            f"AND key_hash IN ({hashes}) AND output_key IN (SELECT output_key FROM repaired_key)",
            {"s": source_id, "o": origin or "app"},
        )
    return int(found[0]) if found else 0
