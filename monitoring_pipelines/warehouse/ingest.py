"""Storing typed rows: the one path by which rows of a source enter, change or leave the raw tables.

What belongs here: upsert by key, row versions, dirty marks, anomalies, deletions. What does not: reading and typing
rows (``source``), what only some entities need (``entity_rules``), and transactions: the caller opens one, so that rows,
marks and dirty keys are committed together (E-602).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.entities import Entity, entities, raw_columns
from monitoring_pipelines.warehouse import family_marks

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.source.convert import Staged

#: Facts about "now" (E-111) and the product's own columns: they are stored, but do not make a row another version.
NOT_HASHED = {
    "task": {"status_seen_at", "effective_end"},
    "worker": {"life_no", "status", "current_jobs", "last_heartbeat_at", "last_task_at", "failure_type", "failure_reason"},
    "worker_snapshot": {"origin", "polled_status", "heartbeat_at"},
    "task_output": {"origin"},
}  # fmt: skip
TASK_ENTITIES = ("task", "task_event", "task_output")
WORKER_ENTITIES = ("worker", "worker_event", "worker_snapshot")
#: What the comparison of versions needs of a stored row. Fetching whole rows costs ten times as much.
_COMPARED = (
    "row_id", "src_table", "first_seen_at", "changed_at", "deleted_at", "row_hash", "key_hash", "src_digest", "task_key",
    "worker_key", "status", "status_seen_at", "at", "scheduled_at", "started_at", "ended_at",
)  # fmt: skip
#: Rows of one DuckDB row group, the unit a scan can skip; beyond so many separate places one scan is cheaper.
_ROW_GROUP = 122_880
_MOST_PLACES = 24


@dataclass
class BatchResult:
    """What a batch changed. ``rejected`` rows have no key; they are kept as anomalies only. ``pruned`` rows were left
    out because retention has removed their time from the store."""

    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    pruned: int = 0

    def add(self, other: BatchResult) -> None:
        """Sum up."""
        for name in ("rows", "inserted", "updated", "unchanged", "rejected", "pruned"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def hash_sql(columns: Sequence[str]) -> str:
    """DuckDB expression of the 64-bit look-up hash over ``columns``; stable across versions of DuckDB."""
    return f"md5_number_lower(concat_ws(chr(31), {', '.join(columns)}))"


def key_text_sql(entity: Entity) -> str:
    """DuckDB expression of the key as text, for anomalies and pending instants."""
    return f"concat_ws(chr(31), {', '.join(_quoted(name) for name in entity.key)})"


def key_hash_sql(entity: Entity) -> str:
    """DuckDB expression of ``key_hash``."""
    return hash_sql(["source_id", *(_quoted(name) for name in entity.key)])


def row_hash_sql(entity: Entity) -> str:
    """DuckDB expression of the version of a row (E-603): NULL and empty text differ."""
    skipped = NOT_HASHED.get(entity.name, set())
    values = ", ".join(
        f"coalesce({_quoted(c.name)}::VARCHAR, chr(30))" for c in entity.columns if c.name not in skipped
    )
    return f"md5(concat_ws(chr(31), {values}))"


def apply_batch(
    con: duckdb.DuckDBPyConnection, staged: Staged, now: datetime, raw_from: datetime | None = None
) -> BatchResult:
    """Upsert the staged rows by entity key and mark what depends on them as dirty (E-602, E-603).

    Feeding a batch twice changes nothing, and a version read in an older snapshot never replaces a newer one: cycles
    and reconciliation may commit in any order. (Reading a row unchanged is not stored: if it changed and changed back
    meanwhile, a late commit of the version between stays until the next reading.) The caller holds a transaction.

    Args:
        con: Writer connection that has the temporary table ``staged.relation``, which is used up.
        staged: Typed rows of one entity; ``read_at`` is stored as first seen / changed.
        now: Naive UTC instant of writing: marks, and ``read_at`` if that is not known.
        raw_from: The table was read again from its beginning: rows before this instant that the store does not have
            were removed by retention (E-901) and are not taken in again.
    """
    from monitoring_pipelines.warehouse import entity_rules, serving

    entity = entities()[staged.entity]
    read_at = staged.read_at or now
    result = BatchResult(rows=staged.rows)
    _reject(con, staged, now, result)
    _newest(con, staged, entity)
    _match(con, staged, entity, read_at)
    if raw_from is not None and entity.time_column is not None:
        result.pruned = _leave_out(con, entity, raw_from)
    entity_rules.prepare(con, staged, now)
    _write(con, entity, read_at, result)
    _record_anomalies(con, staged, now)
    _mark_dirty(con, entity, staged.source_id, now, read_at)
    serving.mark_rows(con, staged.entity, now)
    entity_rules.follow(con, staged, now)
    return result


def mark_deleted(
    con: duckdb.DuckDBPyConnection,
    entity: str,
    source_id: str,
    src_table: str,
    keys: Iterable[int],
    reason: str,
    now: datetime,
) -> int:
    """Mark rows the source no longer has (E-610). They stay and keep counting in statistics.

    Args:
        con: Writer connection inside a transaction.
        entity: Unified name.
        source_id: The source.
        src_table: Table the rows came from.
        keys: ``key_hash`` of the rows.
        reason: ``hard`` or ``retention``.
        now: Naive UTC instant they were found missing, stored as ``deleted_at``; rows changed later are left alone.

    Returns:
        Number of rows marked now.
    """
    from monitoring_pipelines.warehouse import serving

    con.execute("CREATE OR REPLACE TEMP TABLE gone_key AS SELECT unnest(?::UBIGINT[]) AS key_hash", [list(keys)])
    gone = (
        "source_id = ? AND src_table = ? AND key_hash IN (SELECT key_hash FROM gone_key) "
        "AND coalesce(deleted_reason, 'soft') = 'soft' AND changed_at <= ?"
    )
    if entity == "task_output":
        mark_tasks_of_outputs(con, gone, [source_id, src_table, now])
    rows = con.execute(
        f'UPDATE raw."{entity}" SET deleted_at = ?, deleted_reason = ? WHERE {gone}',
        [now, reason, source_id, src_table, now],
    ).fetchall()
    serving.mark_keys(con, entity, now)
    return int(rows[0][0]) if rows else 0


def mark_tasks_of_outputs(con: duckdb.DuckDBPyConnection, condition: str, values: list[Any]) -> None:
    """Mark the tasks of stored outputs as dirty: their completeness follows (M-601)."""
    con.execute(
        "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) "
        f"SELECT DISTINCT source_id, task_key, changed_at FROM raw.task_output WHERE {condition}",
        values,
    )


def mark_hour(
    con: duckdb.DuckDBPyConnection, source_id: str, select: str, now: datetime, reason: str, family: str = "endpoint"
) -> None:
    """Mark the closed hours of the instants that ``select`` yields; open ones are computed anyway (M-803)."""
    con.execute(
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) "
        "SELECT DISTINCT ?, ?, date_trunc('hour', i.t), ?::TIMESTAMP, ? "
        f"FROM ({select}) AS i(t) INNER JOIN meta.source_state AS s ON s.source_id = ? WHERE i.t < s.closed_through",
        [source_id, family, now, reason, source_id],
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _reject(con: duckdb.DuckDBPyConnection, staged: Staged, now: datetime, result: BatchResult) -> None:
    """Rows without a key cannot be stored; each is counted as ``bad_value`` of its row id (E-007)."""
    entity = entities()[staged.entity]
    missing = " OR ".join(f"{_quoted(name)} IS NULL" for name in entity.key)
    rows = con.execute(f'SELECT count(*) FROM "{staged.relation}" WHERE {missing}').fetchone()
    result.rejected = rows[0] if rows else 0
    if not result.rejected:
        return
    con.execute(
        "INSERT INTO raw.anomaly SELECT ?, 'bad_value', ?, 'row ' || coalesce(row_id::VARCHAR, '?'), NULL, "
        f"'key is missing', ?, count(*) FROM \"{staged.relation}\" AS t WHERE ({missing}) AND NOT EXISTS "
        "(SELECT 1 FROM raw.anomaly AS a WHERE a.source_id = ? AND a.kind = 'bad_value' AND a.entity = ? "
        "AND a.\"key\" = 'row ' || coalesce(t.row_id::VARCHAR, '?')) GROUP BY ALL",
        [staged.source_id, staged.entity, now, staged.source_id, staged.entity],
    )
    con.execute(f'DELETE FROM "{staged.relation}" WHERE {missing}')


def _newest(con: duckdb.DuckDBPyConnection, staged: Staged, entity: Entity) -> None:
    """Temp table ``incoming``: one row per key. Of repeated immutable rows the first id counts, else the newest."""
    order = '"__mark" DESC NULLS LAST, row_id DESC NULLS LAST' if entity.mutable else "row_id NULLS LAST"
    repeated = con.execute(f'SELECT count(*) > count(DISTINCT key_hash) FROM "{staged.relation}"').fetchone()
    con.execute("DROP TABLE IF EXISTS incoming")
    if repeated == (False,):  # copying the rows would cost as much as storing them
        con.execute(f'ALTER TABLE "{staged.relation}" RENAME TO incoming')
        return
    con.execute(
        f'CREATE TEMP TABLE incoming AS SELECT * FROM "{staged.relation}" '
        f"QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY {order}, row_hash) = 1"
    )


def _match(con: duckdb.DuckDBPyConnection, staged: Staged, entity: Entity, read_at: datetime) -> None:
    """Temp table ``stored``: the versions the store has of the incoming keys; what is no news leaves ``incoming``.

    Rows of immutable entities with unique keys never sit at another id than the incoming one; constants on the id let
    the scan skip history.
    """
    # Nothing but the hash: it holds the source, whose column would cost as much again over all stored rows.
    where = "r.key_hash IN (SELECT key_hash FROM incoming)"
    if staged.unique_key and not entity.mutable:
        row = con.execute("SELECT min(row_id), max(row_id) FROM incoming HAVING count(*) = count(row_id)").fetchone()
        if row is not None and row[0] is not None:
            where += f" AND r.row_id BETWEEN {int(row[0])} AND {int(row[1])}"
    con.execute(
        f'CREATE OR REPLACE TEMP TABLE stored_id AS SELECT r.rowid AS rid FROM raw."{entity.name}" AS r WHERE {where}'
    )
    names = [name for name, _ in raw_columns(entity)]
    if entity.name != "worker":
        kept = ("source_id", *_COMPARED, *entity.key, *family_marks.COMPARED.get(entity.name, ()))
        names = [name for name in names if name in kept]
    listed = ", ".join(f"r.{_quoted(name)}" for name in names)
    same = " AND ".join(f"r.{_quoted(name)} = i.{_quoted(name)}" for name in ("source_id", *entity.key))
    parts = " UNION ALL ".join(
        f'SELECT r.rowid AS rid, {listed} FROM raw."{entity.name}" AS r WHERE {place}' for place in _places(con)
    )
    newest_life = "QUALIFY r.life_no = max(r.life_no) OVER (PARTITION BY r.key_hash)"
    # Fetched first: joined at once, the planner reads all rows of the table for it.
    con.execute(f"CREATE OR REPLACE TEMP TABLE stored_row AS {parts}")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE stored AS SELECT r.* FROM stored_row AS r INNER JOIN incoming AS i "
        f"ON r.key_hash = i.key_hash AND {same} {newest_life if entity.name == 'worker' else ''}"
    )
    con.execute(
        "DELETE FROM incoming USING stored AS s WHERE incoming.key_hash = s.key_hash "
        "AND greatest(s.changed_at, s.deleted_at) > ?",
        [read_at],
    )
    if not entity.mutable:
        # An immutable row that is already stored stays as it was first read; the first id wins (M-202).
        con.execute(
            "DELETE FROM incoming USING stored AS s WHERE incoming.key_hash = s.key_hash AND s.deleted_at IS NULL "
            "AND s.row_id < incoming.row_id"
        )
    con.execute("DELETE FROM stored WHERE key_hash NOT IN (SELECT key_hash FROM incoming)")


def _places(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Conditions that together select the rows ``stored_id``, cut so that untouched row groups are not read."""
    chosen = "r.rowid IN (SELECT rid FROM stored_id)"
    places: list[list[int]] = []
    for (group,) in con.execute(f"SELECT DISTINCT rid // {_ROW_GROUP} AS g FROM stored_id ORDER BY g").fetchall():
        if places and group == places[-1][1] + 1:
            places[-1][1] = group
        else:
            places.append([group, group])
    if not places or len(places) > _MOST_PLACES:
        return [chosen if places else "false"]
    return [f"r.rowid BETWEEN {a * _ROW_GROUP} AND {(b + 1) * _ROW_GROUP - 1} AND {chosen}" for a, b in places]


def _leave_out(con: duckdb.DuckDBPyConnection, entity: Entity, raw_from: datetime) -> int:
    """Drop incoming rows before ``raw_from`` of which the store has no version; how many."""
    rows = con.execute(
        f'DELETE FROM incoming WHERE "{entity.time_column}" < ? AND key_hash NOT IN (SELECT key_hash FROM stored)',
        [raw_from],
    ).fetchall()
    return int(rows[0][0]) if rows else 0


def _write(con: duckdb.DuckDBPyConnection, entity: Entity, now: datetime, result: BatchResult) -> None:
    """Replace stored rows by other versions; ``changed`` keeps which keys have a new version."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE changed AS SELECT i.key_hash, s.rid, s.first_seen_at, s.changed_at, "
        "s.rid IS NULL AS is_new, coalesce(s.row_hash <> i.row_hash OR s.deleted_at IS NOT NULL "
        'OR s.src_table <> i.src_table, true) AS is_version, coalesce(i."__inside", true) AS inside '
        "FROM incoming AS i LEFT JOIN stored AS s ON s.key_hash = i.key_hash "
        "WHERE s.rid IS NULL OR s.row_hash IS DISTINCT FROM i.row_hash OR s.src_digest IS DISTINCT FROM i.src_digest "
        "OR s.deleted_at IS NOT NULL OR s.row_id IS DISTINCT FROM i.row_id OR s.src_table <> i.src_table "
        'OR NOT coalesce(i."__inside", true)'
    )
    counts = con.execute(
        "SELECT count(*) FILTER (is_new AND inside), count(*) FILTER (NOT is_new AND is_version) FROM changed"
    ).fetchone()
    result.inserted, result.updated = counts or (0, 0)
    result.unchanged = result.rows - result.rejected - result.pruned - result.inserted - result.updated
    # A row outside the mapping's `where` does not exist: unknown ones are not stored, known ones are gone (E-611).
    if entity.name == "task_output":
        mark_tasks_of_outputs(con, "rowid IN (SELECT rid FROM changed WHERE NOT inside AND rid IS NOT NULL)", [])
    con.execute(
        f"UPDATE raw.\"{entity.name}\" SET deleted_at = ?, deleted_reason = 'hard' WHERE rowid IN "
        "(SELECT rid FROM changed WHERE NOT inside AND rid IS NOT NULL) AND deleted_at IS NULL",
        [now],
    )
    con.execute("DELETE FROM changed WHERE NOT inside")
    con.execute(f'DELETE FROM raw."{entity.name}" WHERE rowid IN (SELECT rid FROM changed WHERE rid IS NOT NULL)')
    made = {
        "first_seen_at": "coalesce(c.first_seen_at, $now::TIMESTAMP)",
        "changed_at": "CASE WHEN c.is_version THEN $now::TIMESTAMP ELSE c.changed_at END",
        "deleted_at": "NULL",
        "deleted_reason": "CASE WHEN i.\"__deleted\" THEN 'soft' END",
    }
    columns = [name for name, _ in raw_columns(entity)]
    values = ", ".join(made.get(name, f"i.{_quoted(name)}") for name in columns)
    con.execute(
        f'INSERT INTO raw."{entity.name}" ({", ".join(map(_quoted, columns))}) SELECT {values} '
        "FROM incoming AS i INNER JOIN changed AS c ON c.key_hash = i.key_hash ORDER BY i.row_id",
        {"now": now},
    )


def _record_anomalies(con: duckdb.DuckDBPyConnection, staged: Staged, now: datetime) -> None:
    """One row per (kind, key); the count grows only with a new version of the row, not with reading it again."""
    con.execute(
        'CREATE OR REPLACE TEMP TABLE found_anomaly AS SELECT d.kind, i."__key" AS k, any_value(d.detail) AS detail, '
        f"any_value({_instant_sql(staged.entity)}) AS t FROM incoming AS i INNER JOIN changed AS c ON c.key_hash = "
        'i.key_hash AND (c.is_version OR c.is_new), unnest(i."__details") AS u(d) GROUP BY ALL'
    )
    store_anomalies(con, staged.source_id, staged.entity, now)


def store_anomalies(con: duckdb.DuckDBPyConnection, source_id: str, entity: str, now: datetime) -> None:
    """Upsert the temporary table ``found_anomaly(kind, k, detail, t)`` into ``raw.anomaly`` (E-007)."""
    count, dated, low, high = con.execute("SELECT count(*), count(t), min(t), max(t) FROM found_anomaly").fetchone() or (
        0, 0, None, None,
    )  # fmt: skip
    if not count:
        return
    same = 'a.source_id = ? AND a.entity = ? AND a.kind = f.kind AND a."key" = f.k'
    if dated == count and not entities()[entity].mutable:
        # The instant of an immutable row does not move: older lines need not be searched.
        same += f" AND a.\"at\" BETWEEN TIMESTAMP '{low}' AND TIMESTAMP '{high}'"
    con.execute(
        f"UPDATE raw.anomaly AS a SET count = a.count + 1, detail = f.detail FROM found_anomaly AS f WHERE {same}",
        [source_id, entity],
    )
    con.execute(
        "INSERT INTO raw.anomaly SELECT ?, f.kind, ?, f.k, f.t, f.detail, ?::TIMESTAMP, 1 FROM found_anomaly AS f "
        f"WHERE NOT EXISTS (SELECT 1 FROM raw.anomaly AS a WHERE {same})",
        [source_id, entity, now, source_id, entity],
    )
    mark_hour(con, source_id, "SELECT t FROM found_anomaly WHERE t IS NOT NULL", now, "anomaly")


def _instant_sql(entity: str) -> str:
    column = entities()[entity].time_column
    return f'i."{column}"' if column else "NULL::TIMESTAMP"


def _mark_dirty(
    con: duckdb.DuckDBPyConnection, entity: Entity, source_id: str, now: datetime, read_at: datetime
) -> None:
    """Keys whose derived rows follow the changed ones, old and new versions alike; rows still in the future wait."""
    versions = (
        "(SELECT {0} FROM incoming AS v INNER JOIN changed AS c ON c.key_hash = v.key_hash AND c.is_version UNION "
        "SELECT {0} FROM stored AS v INNER JOIN changed AS c ON c.rid = v.rid AND c.is_version)"
    )
    if entity.name in TASK_ENTITIES:
        # Marks of outputs also say since when rows may be stored that the task's result does not know yet.
        con.execute(
            "INSERT INTO meta.dirty_task SELECT ?, d.task_key, ?::TIMESTAMP FROM "
            f"{versions.format('v.task_key')} AS d WHERE d.task_key IS NOT NULL",
            [source_id, min(now, read_at)],
        )
    if entity.name in WORKER_ENTITIES:
        since = 'v."at"' if entity.name != "worker" else "least(v.ready_at, v.created_at, v.terminated_at)"
        con.execute(
            "INSERT INTO meta.dirty_worker SELECT ?, d.worker_key, min(d.t), ?::TIMESTAMP FROM "
            f"{versions.format(f'v.worker_key, {since} AS t')} AS d WHERE d.worker_key IS NOT NULL GROUP BY d.worker_key",
            [source_id, now],
        )
    family_marks.mark_changed(con, entity.name, source_id, now, versions)
    # A late instant of a worker gives its minute a row, even where it changes no life (M-110 b).
    if entity.name in ("worker_event", "worker_snapshot"):
        instants = versions.format('v."at" AS t')
        mark_hour(con, source_id, f"SELECT d.t FROM {instants} AS d", now, entity.name.removeprefix("worker_"))
    elif entity.name == "worker":
        # Only what is new: a worker may be older than the history.
        moved = ", ".join(
            f"CASE WHEN i.{name} IS DISTINCT FROM s.{name} THEN {side}.{name} END"
            for name in ("created_at", "ready_at", "terminated_at")
            for side in ("i", "s")
        )
        facts = (
            f"(SELECT unnest([{moved}]) AS t FROM incoming AS i INNER JOIN changed AS c ON c.key_hash = i.key_hash "
            "AND c.is_version LEFT JOIN stored AS s ON c.rid = s.rid)"
        )
        mark_hour(con, source_id, f"SELECT d.t FROM {facts} AS d WHERE d.t IS NOT NULL", now, "worker")
    con.execute(
        'INSERT INTO meta.pending_instant SELECT ?, ?, i."__key", u.due FROM incoming AS i INNER JOIN changed AS c '
        'ON c.key_hash = i.key_hash AND c.is_version, unnest(i."__due") AS u(due)',
        [source_id, entity.name],
    )
