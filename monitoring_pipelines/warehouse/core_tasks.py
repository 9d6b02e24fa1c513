"""The task part of a core refresh: attempts, instants, waits, results and anomalies of the tasks that changed (M-2xx).

What belongs here: claiming tasks in chunks, storing what their steps computed. What does not: the derivations
themselves (``dbt_like_sql/core``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse import counters
from monitoring_pipelines.warehouse.core_claims import (
    AT,
    HASH,
    judge_cold,
    not_before,
    prepare,
    rows_of_claim,
    sql,
    step,
    value,
)
from monitoring_pipelines.warehouse.core_tables import mark_hours, publish_anomalies, replace_rows
from monitoring_pipelines.warehouse.output_refresh import is_active, refresh_results

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.warehouse.core_refresh import CoreResult

TASK_STEPS = ("task_subject", "task_input", "task_role", "task_resolved", "task_anomaly")
#: Columns of raw rows that the steps of tasks read.
_TASK_COLUMNS = (
    "endpoint", "status", "worker_key", "created_at", "queued_at", "started_at", "ended_at", "updated_at",
    "status_seen_at", "first_seen_at", "deadline_at", "is_deleted", "output_expected", "effective_end",
)  # fmt: skip
_EVENT_COLUMNS = (
    "event_key", "event_type", "at", "row_id", "src_table", "worker_key", "endpoint", "src_queue_wait_ms", "first_seen_at",
)  # fmt: skip


def refresh_tasks(
    con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime, since: datetime, limit: int
) -> int:
    """One transaction: attempts, instants, waits and anomalies of up to ``limit`` dirty tasks; how many there were.

    ``since`` is where the hot window of the tasks in ``claim_dirty`` begins.
    """
    prepare(con, source_id)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE claim_task AS SELECT d.source_id, d.task_key, "
        f"{HASH.replace('source_id', 'd.source_id').replace('task_key', 'd.task_key')} AS task_hash, "
        "cast(row_number() OVER () AS INTEGER) AS tid, coalesce(c.is_cold, true) AS is_cold, c.is_cold IS NULL AS is_new "
        "FROM (SELECT DISTINCT source_id, task_key FROM meta.dirty_task WHERE source_id = ? LIMIT ?) AS d "
        "LEFT JOIN claim_dirty AS c ON d.source_id = c.source_id AND d.task_key = c.task_key",
        [source_id, limit],
    )
    count, unknown = con.execute("SELECT count(*), count(*) FILTER (is_new) FROM claim_task").fetchone() or (0, 0)
    if not count:
        return 0
    if unknown:
        since = min(since, judge_cold(con, "claim_task", source_id, as_of))
    everything = not unknown and count == value(con, "SELECT count(*) FROM claim_dirty")
    _scope_chunk(con, since, everything=everything)
    for name in ("task_row", "task_event"):
        step(con, name, source_id)
    _scope_idle(con, source_id)
    for name in TASK_STEPS:
        step(con, name, source_id)
    _write_tasks(con, result, source_id, since)
    con.execute("INSERT INTO meta.publish_task SELECT task_hash FROM claim_task")
    con.execute(
        "DELETE FROM meta.dirty_task AS d WHERE source_id = ? AND task_key IN (SELECT task_key FROM claim_task)",
        [source_id],
    )
    result.tasks += int(count)
    return int(count)


def _scope_chunk(con: duckdb.DuckDBPyConnection, since: datetime, *, everything: bool) -> None:
    """``scope_task`` and ``scope_event``: rows of the claimed tasks with their ``tid``, fetched once for all steps.

    Args:
        con: Connection with ``claim_task``.
        since: Where the hot window begins.
        everything: The claim is all of ``claim_dirty``, whose rows may have been fetched.
    """
    for name, table, hash_column, time_column, columns in (
        ("task", "raw.task", "key_hash", "created_at", _TASK_COLUMNS),
        ("event", "raw.task_event", "task_hash", AT, _EVENT_COLUMNS),
    ):
        wanted = ", ".join(["c.tid", *(f'r."{column}"' for column in columns)])
        source = f"scope_claimed_{name}" if everything else table
        rows, _ = rows_of_claim(con, source, hash_column, "claim_task", since, time_column, wanted)
        con.execute(f"CREATE OR REPLACE TEMP TABLE scope_{name} AS {rows}")


def _scope_idle(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """``scope_idle``: idle snapshots that may close an attempt of the claimed tasks (M-210 c)."""
    earliest = value(
        con,
        'SELECT min("at") FROM (SELECT min("at") AS "at" FROM step_task_event WHERE class = \'S\' '
        "UNION ALL SELECT min(started_at) FROM step_task_row)",
    )
    condition = "false" if earliest is None else not_before('n."at"', earliest)
    con.execute(
        'CREATE OR REPLACE TEMP TABLE scope_idle AS SELECT worker_key, "at" FROM raw.worker_snapshot AS n '
        "CROSS JOIN claim_setting AS s "
        f"WHERE n.source_id = '{source_id}' AND {condition} AND n.is_idle "
        "AND n.origin IS DISTINCT FROM 'poll' AND n.\"at\" <= s.horizon AND n.worker_key IN ("
        "SELECT worker_key FROM step_task_event WHERE class = 'S' UNION SELECT worker_key FROM step_task_row)"
    )


def _write_tasks(con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, since: datetime) -> None:
    """Store what the task steps computed, by difference, mark the hours, and the workers whose attempts changed."""
    mine = (
        f"source_id = '{source_id}' AND task_hash IN (SELECT task_hash FROM claim_task) "
        "AND task_key IN (SELECT task_key FROM claim_task)"
    )
    recent = not value(con, "SELECT count(*) FROM claim_task WHERE is_cold")
    hot = since if recent else None
    for table, column in (("task_attempt", "started_at"), ("task_instant", AT), ("task_wait", "from_at")):
        change = replace_rows(con, f"core.{table}", f"({sql(table)})", mine, not_before(column, hot))
        result.add(f"core.{table}", change)
    counters.count_late_events(con, source_id)
    step(con, "task_status", source_id)
    result.add("core.task_status", replace_rows(con, "core.task_status", "step_task_status", mine))
    replace_rows(con, "core.task_anomaly", "step_task_anomaly", mine)
    publish_anomalies(con, "task_anomaly")
    result.dirty_hours += mark_hours(con, ["task_attempt", "task_instant", "task_wait", "task_anomaly"], "task")
    if is_active(con, source_id):
        queries = {name: sql(name) for name in ("task_result", "output_instant")}
        changes, marked = refresh_results(con, source_id, queries, mine)
        for table, change in changes.items():
            result.add(table, change)
        result.dirty_hours += marked
    con.execute(
        "INSERT INTO core.dirty_stretch SELECT DISTINCT s.source_id, a.worker_key, unnest(generate_series("
        "time_bucket(INTERVAL 10 MINUTE, a.started_at), least(coalesce(a.ended_at, s.as_of), s.as_of), INTERVAL 10 MINUTE)) "
        "FROM (SELECT worker_key, started_at, ended_at FROM gone_task_attempt UNION ALL "
        "SELECT worker_key, started_at, ended_at FROM come_task_attempt) AS a CROSS JOIN claim_setting AS s "
        "WHERE a.worker_key IS NOT NULL AND s.has_snapshot"
    )
    # Online time of workers without life facts rests on their attempts (M-303); nothing new is read for them.
    con.execute(
        "INSERT INTO meta.dirty_worker (source_id, worker_key, since, marked_at) "
        "SELECT DISTINCT s.source_id, a.worker_key, s.horizon, s.as_of FROM ("
        "SELECT worker_key FROM gone_task_attempt UNION SELECT worker_key FROM come_task_attempt) AS a "
        "CROSS JOIN claim_setting AS s WHERE a.worker_key IN ("
        "SELECT worker_key FROM core.worker_life WHERE source_id = s.source_id "
        "AND coalesce(start_source, '') NOT IN ('ready_at', 'registered'))"
    )
