"""What only some entities need when their rows are stored: worker lives, registrations, virtual outputs, derived status.

What belongs here: E-103, E-111 to E-115, E-402, E-503, over the temporary tables ``incoming``, ``stored`` and ``changed``
of ``ingest``. What does not: the upsert itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse import family_marks

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.source.convert import Staged

#: First known value wins, or the earliest one (E-111).
_EARLIEST = ("created_at", "pod_created_at", "pod_started_at", "ready_at")
_FIRST = ("terminated_at", "cold_start_ms")


def prepare(con: duckdb.DuckDBPyConnection, staged: Staged, now: datetime) -> None:
    """Complete ``incoming`` from what the store already knows, before versions are compared."""
    if staged.entity == "task":
        con.execute(
            "UPDATE incoming SET status_seen_at = s.status_seen_at FROM stored AS s WHERE incoming.key_hash = s.key_hash "
            "AND incoming.status = s.status AND s.status_seen_at IS NOT NULL"
        )
        if staged.derive_outputs:
            con.execute(
                "UPDATE incoming SET status = d.status, ended_at = d.ended_at, effective_end = d.ended_at "
                f"FROM ({_derived('SELECT task_hash FROM incoming')}) AS d WHERE incoming.task_hash = d.task_hash"
            )
    elif staged.entity == "task_output":
        con.execute(
            "UPDATE incoming SET origin = r.origin FROM meta.repaired_output AS r "
            "WHERE r.source_id = ? AND r.output_key = incoming.output_key",
            [staged.source_id],
        )
    elif staged.entity == "worker":
        _worker_lives(con, staged.source_id)
    elif staged.entity == "worker_snapshot":
        con.execute(
            "UPDATE incoming SET endpoint = w.endpoint FROM (SELECT worker_key, arg_max(endpoint, life_no) AS endpoint "
            "FROM raw.worker WHERE source_id = ? GROUP BY worker_key) AS w "
            "WHERE incoming.endpoint IS NULL AND incoming.worker_key = w.worker_key",
            [staged.source_id],
        )


def follow(con: duckdb.DuckDBPyConnection, staged: Staged, now: datetime) -> None:
    """Rows that follow from the ones just written."""
    if staged.entity == "task":
        if staged.inline_outputs:
            _inline_outputs(con, now, staged.inline_valid)
    elif staged.entity == "task_output":
        if staged.derive_outputs:
            _derive_status(con, staged.source_id, now)
    elif staged.entity == "worker":
        _concurrency(con, staged.source_id, now)
        _registered_lives(con, staged.source_id, now, "i.terminated_at IS NOT NULL")
    elif staged.entity == "job":
        family_marks.remember_limits(con, staged.source_id, now)
    elif staged.entity == "worker_event":
        _registered_lives(con, staged.source_id, now, "i.event_type = 'registered'")
    elif staged.entity == "endpoint":
        _registrations(con, staged.source_id, now)
    elif staged.entity == "worker_snapshot":
        _duplicate_snapshots(con, staged.source_id, now)
    if staged.entity in ("task", "worker", "endpoint"):
        _case_variants(con, staged.source_id, staged.entity, now)


# -- workers ----------------------------------------------------------------------------------------------------------


def _worker_lives(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """A worker with a known end that becomes ready again, or changes its endpoint, begins another life (E-113).

    A source row may go on showing facts of an earlier life: what is not later than that life's end is not taken over.
    """
    con.execute("UPDATE incoming SET terminated_at = NULL WHERE terminated_at < ready_at")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE new_life AS SELECT i.key_hash FROM incoming AS i INNER JOIN stored AS s "
        "ON s.key_hash = i.key_hash WHERE coalesce(i.ready_at > s.terminated_at, false) OR i.endpoint <> s.endpoint"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE life_bound AS SELECT w.key_hash, max(w.terminated_at) AS bound FROM raw.worker AS w "
        "INNER JOIN stored AS s ON s.key_hash = w.key_hash WHERE w.source_id = ? AND (w.life_no < s.life_no "
        "OR w.key_hash IN (SELECT key_hash FROM new_life)) GROUP BY w.key_hash",
        [source_id],
    )
    for name in (*_EARLIEST, "terminated_at"):
        con.execute(
            f"UPDATE incoming SET {name} = NULL FROM life_bound AS b WHERE b.key_hash = incoming.key_hash "
            f"AND incoming.{name} <= b.bound"
        )
    con.execute(
        "UPDATE incoming SET cold_start_ms = NULL FROM life_bound AS b WHERE b.key_hash = incoming.key_hash "
        "AND b.bound IS NOT NULL AND coalesce(incoming.ready_at, incoming.pod_created_at, incoming.created_at) IS NULL"
    )
    _close_lives(con, "SELECT rid FROM stored WHERE key_hash IN (SELECT key_hash FROM new_life)")
    con.execute(
        "UPDATE incoming SET life_no = s.life_no + 1 FROM stored AS s WHERE s.key_hash = incoming.key_hash "
        "AND s.key_hash IN (SELECT key_hash FROM new_life)"
    )
    con.execute("DELETE FROM stored WHERE key_hash IN (SELECT key_hash FROM new_life)")
    kept = [f"{name} = least(incoming.{name}, s.{name})" for name in _EARLIEST]
    kept += [f"{name} = coalesce(s.{name}, incoming.{name})" for name in _FIRST]
    con.execute(
        f"UPDATE incoming SET life_no = s.life_no, {', '.join(kept)} FROM stored AS s WHERE s.key_hash = incoming.key_hash"
    )
    con.execute("UPDATE incoming SET life_no = coalesce(life_no, 1)")


def _close_lives(con: duckdb.DuckDBPyConnection, rids: str) -> None:
    """The source row now speaks for a later life; its facts stay (E-112)."""
    con.execute(
        "UPDATE raw.worker SET deleted_at = coalesce(deleted_at, changed_at), deleted_reason = 'hard' "
        f"WHERE rowid IN ({rids})"
    )


def _registered_lives(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime, which: str) -> None:
    """A worker that registered after its known end began another life, though its row does not say so (E-113).

    ``which`` chooses the changed rows ``i`` whose workers are looked at; all others were looked at before.
    """
    con.execute(
        "CREATE OR REPLACE TEMP TABLE ended AS SELECT rowid AS rid, * FROM raw.worker WHERE source_id = ? "
        "AND worker_key IN (SELECT i.worker_key FROM incoming AS i INNER JOIN changed AS c ON c.key_hash = i.key_hash "
        f"WHERE c.is_version AND {which}) QUALIFY life_no = max(life_no) OVER (PARTITION BY key_hash)",
        [source_id],
    )
    first = con.execute("SELECT min(terminated_at) FROM ended").fetchone()
    if first is None or first[0] is None:
        return
    con.execute(
        'CREATE OR REPLACE TEMP TABLE born AS SELECT n.rid, min(e."at") AS since FROM ended AS n INNER JOIN '
        'raw.worker_event AS e ON e.worker_key = n.worker_key AND e."at" > n.terminated_at WHERE e.source_id = ? '
        'AND e.event_type = \'registered\' AND e."at" > ?::TIMESTAMP AND e."at" <= ?::TIMESTAMP GROUP BY n.rid',
        [source_id, first[0], now],
    )
    found = con.execute("SELECT count(*) FROM born").fetchone()
    if not found or not found[0]:
        return
    _close_lives(con, "SELECT rid FROM born")
    unknown = ", ".join(
        f"NULL AS {name}"
        for name in (
            *_EARLIEST,
            *_FIRST,
            "current_jobs",
            "last_heartbeat_at",
            "last_task_at",
            "failure_type",
            "failure_reason",
        )
    )
    con.execute(
        f"INSERT INTO raw.worker BY NAME SELECT n.* EXCLUDE (rid) REPLACE ({unknown}, n.life_no + 1 AS life_no, "
        "'unknown' AS status, $now::TIMESTAMP AS first_seen_at, $now::TIMESTAMP AS changed_at, NULL AS deleted_at, "
        "NULL AS deleted_reason) FROM ended AS n INNER JOIN born AS b ON b.rid = n.rid",
        {"now": now},
    )
    con.execute(
        "INSERT INTO meta.dirty_worker SELECT n.source_id, n.worker_key, b.since, ?::TIMESTAMP FROM ended AS n "
        "INNER JOIN born AS b ON b.rid = n.rid",
        [now],
    )


def _concurrency(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    """The first value holds from the beginning of the life, another one from when it was first seen (E-112)."""
    from monitoring_pipelines.warehouse.ingest import mark_hour

    known = (
        "(SELECT worker_key, arg_max(concurrency, valid_from) AS concurrency FROM raw.worker_concurrency "
        "WHERE source_id = ? GROUP BY worker_key)"
    )
    if con.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'core' AND table_name = 'worker_life'"
    ).fetchall():
        # Minutes of a worker that was known by its evidence only were computed with one slot.
        mark_hour(
            con, source_id,
            "SELECT unnest(generate_series(date_trunc('hour', l.start_at), coalesce(least(l.end_at, s.closed_through), "
            "l.start_at), INTERVAL 1 HOUR)) FROM incoming AS i "
            f"INNER JOIN core.worker_life AS l ON l.source_id = '{source_id}' AND l.worker_key = i.worker_key "
            f"INNER JOIN meta.source_state AS s ON s.source_id = l.source_id WHERE i.concurrency <> 1 "
            f"AND i.worker_key NOT IN (SELECT worker_key FROM raw.worker_concurrency WHERE source_id = '{source_id}')",
            now, "concurrency",
        )  # fmt: skip
    con.execute(
        "INSERT INTO raw.worker_concurrency SELECT ?, i.worker_key, CASE WHEN k.worker_key IS NULL "
        "THEN coalesce(least(i.created_at, i.ready_at), ?::TIMESTAMP) ELSE ?::TIMESTAMP END, i.concurrency "
        f"FROM incoming AS i LEFT JOIN {known} AS k ON k.worker_key = i.worker_key "
        "WHERE i.concurrency IS NOT NULL AND k.concurrency IS DISTINCT FROM i.concurrency",
        [source_id, now, now, source_id],
    )


def _duplicate_snapshots(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    """Two snapshots of one worker and instant: the lowest row id counts, the others are anomalies (E-115)."""
    from monitoring_pipelines.warehouse.ingest import store_anomalies

    row = con.execute('SELECT min("at") FROM incoming INNER JOIN changed USING (key_hash) WHERE is_version').fetchone()
    if row is None or row[0] is None:
        return
    con.execute(
        "CREATE OR REPLACE TEMP TABLE found_anomaly AS SELECT 'duplicate_snapshot' AS kind, v.snapshot_key AS k, "
        'v.worker_key AS detail, v."at" AS t FROM (SELECT *, row_number() OVER (PARTITION BY worker_key, "at" ORDER BY '
        'row_id NULLS LAST, snapshot_key) AS n FROM raw.worker_snapshot WHERE source_id = ? AND "at" >= ?::TIMESTAMP '
        "AND origin = 'source') AS v WHERE v.n > 1 AND v.key_hash IN (SELECT key_hash FROM changed WHERE is_version)",
        [source_id, row[0]],
    )
    store_anomalies(con, source_id, "worker_snapshot", now)


def write_polls(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime) -> int:
    """One snapshot of origin ``poll`` per worker with its polled status and heartbeat (E-114).

    Returns:
        Rows written.
    """
    rows = con.execute(
        'INSERT INTO raw.worker_snapshot (source_id, snapshot_key, worker_key, endpoint, "at", origin, polled_status, '
        "heartbeat_at, src_table, first_seen_at, changed_at, anomalies, key_hash) "
        "SELECT w.source_id, k, w.worker_key, w.endpoint, $at::TIMESTAMP, 'poll', w.status, w.last_heartbeat_at, "
        "w.src_table, $at::TIMESTAMP, $at::TIMESTAMP, [], md5_number_lower(concat_ws(chr(31), w.source_id, k)) FROM "
        "(SELECT *, 'poll ' || worker_key || ' ' || ($at::TIMESTAMP)::VARCHAR AS k FROM raw.worker "
        "WHERE source_id = $source AND deleted_at IS NULL AND NOT (status = 'offline' AND terminated_at IS NOT NULL)) AS w",
        {"source": source_id, "at": as_of},
    ).fetchall()
    con.execute(
        "INSERT INTO meta.dirty_worker SELECT source_id, worker_key, ?::TIMESTAMP, ?::TIMESTAMP FROM raw.worker_snapshot "
        "WHERE source_id = ? AND \"at\" = ?::TIMESTAMP AND origin = 'poll'",
        [as_of, as_of, source_id, as_of],
    )
    return int(rows[0][0]) if rows else 0


# -- endpoints --------------------------------------------------------------------------------------------------------


def _registrations(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    """Registration ends when ``deleted`` is first seen, and a later other status begins another one."""
    from monitoring_pipelines.warehouse.ingest import mark_hour

    con.execute(
        "CREATE OR REPLACE TEMP TABLE registration AS SELECT i.endpoint, i.registered_at, "
        "CASE WHEN lower(i.status) = 'deleted' THEN coalesce(i.unregistered_at, $now::TIMESTAMP) ELSE i.unregistered_at END "
        "AS unregistered_at, r.endpoint IS NOT NULL AS is_known, r.registered_at AS old_from, r.unregistered_at AS old_to "
        "FROM incoming AS i LEFT JOIN (SELECT * FROM raw.endpoint_registration WHERE source_id = $source QUALIFY "
        "row_number() OVER (PARTITION BY endpoint ORDER BY registered_at DESC NULLS LAST) = 1) AS r ON r.endpoint = i.endpoint",
        {"now": now, "source": source_id},
    )
    con.execute(
        "UPDATE raw.endpoint_registration AS r SET unregistered_at = n.unregistered_at FROM registration AS n "
        "WHERE r.source_id = ? AND r.endpoint = n.endpoint AND r.registered_at IS NOT DISTINCT FROM n.old_from "
        "AND n.is_known AND n.old_to IS NULL AND n.unregistered_at IS NOT NULL",
        [source_id],
    )
    con.execute(
        "INSERT INTO raw.endpoint_registration SELECT ?, endpoint, CASE WHEN is_known THEN ?::TIMESTAMP ELSE registered_at END, "
        "unregistered_at FROM registration WHERE NOT is_known OR (old_to IS NOT NULL AND unregistered_at IS NULL)",
        [source_id, now],
    )
    # A registration that reaches back gives its endpoint rows in hours that are already closed (M-110 d).
    mark_hour(
        con, source_id,
        "SELECT unnest(generate_series(date_trunc('hour', greatest(n.registered_at, s.origin)), s.closed_through, "
        "INTERVAL 1 HOUR)) FROM registration AS n INNER JOIN meta.source_state AS s ON s.source_id = "
        f"'{source_id}' WHERE NOT n.is_known AND s.origin IS NOT NULL AND s.closed_through IS NOT NULL",
        now, "registration",
    )  # fmt: skip


def _case_variants(con: duckdb.DuckDBPyConnection, source_id: str, entity: str, now: datetime) -> None:
    """Endpoints that differ only by case are two endpoints, and worth a look (E-402)."""
    from monitoring_pipelines.warehouse.ingest import store_anomalies

    con.execute(
        "CREATE OR REPLACE TEMP TABLE new_endpoint AS SELECT DISTINCT endpoint FROM incoming WHERE endpoint IS NOT NULL "
        "AND endpoint NOT IN (SELECT endpoint FROM meta.known_endpoint WHERE source_id = ?)",
        [source_id],
    )
    found = con.execute("SELECT count(*) FROM new_endpoint").fetchone()
    if not found or not found[0]:
        return
    con.execute("INSERT INTO meta.known_endpoint SELECT ?, endpoint, ? FROM new_endpoint", [source_id, now])
    con.execute(
        "CREATE OR REPLACE TEMP TABLE found_anomaly AS SELECT 'case_variant_endpoint' AS kind, n.endpoint AS k, "
        "any_value(k.endpoint) AS detail, NULL::TIMESTAMP AS t FROM new_endpoint AS n INNER JOIN meta.known_endpoint AS k "
        "ON k.source_id = ? AND lower(k.endpoint) = lower(n.endpoint) AND k.endpoint <> n.endpoint GROUP BY n.endpoint",
        [source_id],
    )
    store_anomalies(con, source_id, entity, now)


# -- outputs ----------------------------------------------------------------------------------------------------------


def _inline_outputs(con: duckdb.DuckDBPyConnection, now: datetime, valid: bool) -> None:
    """One virtual output per task whose result stands on the task row itself (E-103)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE inline_output AS SELECT i.source_id, 'inline ' || i.task_key AS output_key, i.task_key, "
        'i.task_hash, i.src_table, coalesce(i.ended_at, i.updated_at, i.created_at) AS created_at, i."__inline" AS wanted, '
        "md5_number_lower(concat_ws(chr(31), i.source_id, 'inline ' || i.task_key)) AS key_hash "
        "FROM incoming AS i INNER JOIN changed AS c ON c.key_hash = i.key_hash"
    )
    # One look over stored outputs; the rest follows from what it finds. A new task has none, and those of a known one came
    # with it or later (an hour for a clock of ours that was set back): older row groups are not read.
    row = con.execute("SELECT min(first_seen_at) - INTERVAL 1 HOUR FROM changed WHERE NOT is_new").fetchone()
    since = f"o.first_seen_at >= TIMESTAMP '{row[0]}'" if row and row[0] is not None else "false"
    con.execute(
        "CREATE OR REPLACE TEMP TABLE stored_inline AS SELECT o.rowid AS rid, o.key_hash, o.origin, o.valid, o.created_at "
        f"FROM raw.task_output AS o WHERE {since} AND o.key_hash IN (SELECT key_hash FROM inline_output)"
    )
    con.execute("DELETE FROM stored_inline WHERE origin IS DISTINCT FROM 'inline'")
    con.execute(
        "DELETE FROM inline_output AS n USING stored_inline AS o WHERE o.key_hash = n.key_hash "
        f"AND n.wanted AND o.valid = {valid} AND o.created_at IS NOT DISTINCT FROM n.created_at"
    )
    con.execute(
        "DELETE FROM raw.task_output WHERE rowid IN (SELECT o.rid FROM stored_inline AS o "
        "WHERE o.key_hash IN (SELECT key_hash FROM inline_output))"
    )
    con.execute(
        "INSERT INTO raw.task_output (source_id, output_key, task_key, created_at, is_deleted, origin, valid, natural_key, "
        "src_table, first_seen_at, changed_at, anomalies, key_hash, task_hash) SELECT source_id, output_key, task_key, "
        f"created_at, false, 'inline', {valid}, sha256(task_key || chr(31) || chr(31)), src_table, $now::TIMESTAMP, "
        "$now::TIMESTAMP, [], key_hash, task_hash FROM inline_output WHERE wanted",
        {"now": now},
    )


def _derived(tasks: str) -> str:
    """Status and end of tasks by their first valid output (E-503); ``tasks`` selects ``task_hash``.

    An output that vanished from the source was there: statistics of a closed bucket stand (E-610, M-805).
    """
    return (
        "SELECT t.task_hash, CASE WHEN o.task_hash IS NULL THEN 'created' ELSE 'succeeded' END AS status, o.ended_at "
        f"FROM ({tasks}) AS t(task_hash) LEFT JOIN (SELECT task_hash, min(created_at) AS ended_at FROM raw.task_output "
        f"WHERE task_hash IN ({tasks}) AND valid AND NOT is_deleted GROUP BY task_hash) AS o "
        "ON o.task_hash = t.task_hash"
    )


def _derive_status(con: duckdb.DuckDBPyConnection, source_id: str, now: datetime) -> None:
    # An output that moved to another task, or left the mapping's `where`, is missed by the task it had before.
    con.execute(
        "CREATE OR REPLACE TEMP TABLE followed AS SELECT task_hash FROM incoming UNION "
        "SELECT md5_number_lower(concat_ws(chr(31), ?, task_key)) FROM stored",
        [source_id],
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE derived AS {_derived('SELECT task_hash FROM followed')}")
    differs = (
        "t.task_hash = d.task_hash AND t.source_id = ? AND "
        "(t.status IS DISTINCT FROM d.status OR t.ended_at IS DISTINCT FROM d.ended_at)"
    )
    con.execute(
        "INSERT INTO meta.dirty_task SELECT t.source_id, t.task_key, ?::TIMESTAMP FROM raw.task AS t INNER JOIN derived AS d "
        f"ON {differs}",
        [now, source_id],
    )
    con.execute(
        "UPDATE raw.task AS t SET status = d.status, ended_at = d.ended_at, effective_end = d.ended_at, "
        f"status_seen_at = ?::TIMESTAMP, changed_at = ?::TIMESTAMP FROM derived AS d WHERE {differs}",
        [now, now, source_id],
    )
