"""The worker part of a core refresh: evidence, lives and online time of the workers that changed (M-301 to M-313).

What belongs here: claiming workers, storing what their steps computed, marking the tasks their ends decide about. What
does not: the derivations themselves (``dbt_like_sql/core``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.core_claims import (
    AT,
    HASH,
    attempts_since,
    judge_cold,
    not_before,
    prepare,
    scope,
    scope_by_claim,
    sql,
    step,
    value,
)
from monitoring_pipelines.warehouse.core_tables import mark_hours, publish_anomalies, replace_rows
from monitoring_pipelines.warehouse.serving import mark

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.warehouse.core_refresh import CoreResult

#: Workers are derived in parts of about this many snapshots and events, which take some 300 MB; less than ``RECENT``
#: is never counted, because no tick has that many.
EVIDENCE_ROWS = 4_000_000
RECENT = timedelta(days=1)
WORKER_STEPS = ("worker_task_event", "worker_offline_known", "worker_point", "worker_offline", "worker_span")


def refresh_workers(
    con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime, *, with_open: bool
) -> datetime:
    """One transaction: evidence, lives and online time of claimed workers; mark the tasks their ends decide about.

    Returns:
        Where the hot window of the dirty tasks begins.
    """
    prepare(con, source_id)
    since, parts = _claim_workers(con, source_id, as_of, with_open=with_open)
    count = int(value(con, "SELECT count(*) FROM claim_worker"))
    if count:
        _steps_in_parts(con, source_id, parts, WORKER_STEPS, ("worker_offline", "worker_span"))
        _write_workers(con, result, source_id, as_of, parts)
        _mark_tasks_of_workers(con, source_id, as_of)
        result.workers += count
    con.execute("DELETE FROM meta.dirty_worker WHERE source_id = ?", [source_id])
    return since


def _steps_in_parts(
    con: duckdb.DuckDBPyConnection, source_id: str, parts: int, names: Sequence[str], kept: Sequence[str]
) -> None:
    """Run steps that derive each worker by itself, for some workers at a time.

    Args:
        con: Connection with ``claim_worker``, which is the same afterwards.
        source_id: The source.
        parts: How often; 1 in every tick, more where the history of a first load would not fit into memory.
        names: Steps, in their order.
        kept: Those whose tables hold all claimed workers afterwards; the others are gone.
    """
    if parts == 1:
        for name in names:
            step(con, name, source_id)
        return
    con.execute("CREATE OR REPLACE TEMP TABLE claim_whole AS SELECT * FROM claim_worker")
    for part in range(parts):
        mine = f"SELECT * FROM claim_whole WHERE hash(worker_key) % {parts} = {part}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE claim_worker AS {mine}")
        for name in names:
            step(con, name, source_id)
        for name in kept:
            into = f"INSERT INTO whole_{name}" if part else f"CREATE OR REPLACE TEMP TABLE whole_{name} AS"
            con.execute(f"{into} SELECT * FROM step_{name}")
        for name in names:
            con.execute(f"DROP TABLE step_{name}")
    con.execute("CREATE OR REPLACE TEMP TABLE claim_worker AS SELECT * FROM claim_whole")
    for name in kept:
        con.execute(f"CREATE TEMP TABLE step_{name} AS SELECT * FROM whole_{name}")
        con.execute(f"DROP TABLE whole_{name}")


def _claim_workers(
    con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime, *, with_open: bool
) -> tuple[datetime, int]:
    """Temp table ``claim_worker``: marked workers, those that events of dirty tasks name, and open ones, whose silence
    is judged anew (M-302). Rows at or after ``since`` are read; without it only facts changed and nothing is read.

    Returns:
        Where the hot window of the dirty tasks begins, and in how many parts the workers are derived.
    """
    hot_since = scope_dirty_tasks(con, source_id, as_of)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE claim_worker AS "
        "SELECT source_id, worker_key, min(since) AS since FROM meta.dirty_worker "
        "WHERE source_id = ? AND worker_key <> '' GROUP BY source_id, worker_key",
        [source_id],
    )
    named = (
        "SELECT worker_key FROM scope_claimed_event WHERE event_type IN ('assigned', 'started', 'completed', 'failed') "
        "UNION SELECT worker_key FROM scope_claimed_task WHERE started_at IS NOT NULL"
    )
    if with_open:
        named += f" UNION SELECT worker_key FROM core.worker_life WHERE source_id = '{source_id}' AND end_at IS NULL"
    con.execute(
        f"INSERT INTO claim_worker SELECT ?, worker_key, NULL FROM ({named}) "
        "WHERE worker_key <> '' AND worker_key NOT IN (SELECT worker_key FROM claim_worker)",
        [source_id],
    )
    since = value(con, "SELECT min(since) FROM claim_worker WHERE since > TIMESTAMP '1970-01-01'")
    everything = value(con, "SELECT count(*) FROM claim_worker WHERE since <= TIMESTAMP '1970-01-01'")
    tolerance = timedelta(microseconds=2 * value(con, "SELECT tolerance_us FROM claim_setting"))
    bound = None if everything else (since or as_of) - tolerance
    for name, table in (
        ("scope_worker_snapshot", "raw.worker_snapshot"),
        ("scope_worker_event", "raw.worker_event"),
        ("scope_task_event", "raw.task_event"),
    ):
        scope(con, name, table, source_id, not_before(AT, bound))
    if bound is not None and bound > as_of - RECENT:
        return hot_since, 1
    rows = sum(
        int(value(con, f"SELECT count(*) FROM {name}")) for name in ("scope_worker_snapshot", "scope_task_event")
    )
    return hot_since, 1 + rows // EVIDENCE_ROWS


def scope_dirty_tasks(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime) -> datetime:
    """``scope_claimed_event`` and ``scope_claimed_task``: rows of all dirty tasks, for the evidence they give.

    Returns:
        Where their hot window begins.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE claim_dirty AS SELECT source_id, task_key, {HASH} AS task_hash, true AS is_cold "
        "FROM (SELECT DISTINCT source_id, task_key FROM meta.dirty_task WHERE source_id = ?)",
        [source_id],
    )
    since = judge_cold(con, "claim_dirty", source_id, as_of)
    scope_by_claim(con, "scope_claimed_event", "raw.task_event", "task_hash", "claim_dirty", since, AT)
    scope_by_claim(con, "scope_claimed_task", "raw.task", "key_hash", "claim_dirty", since, "created_at")
    return since


def _write_workers(
    con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime, parts: int
) -> None:
    """Store what the worker steps computed, by difference, and mark the hours that changed."""
    mine = f"source_id = '{source_id}' AND worker_key IN (SELECT worker_key FROM claim_worker)"
    reached = (
        f"source_id = '{source_id}' AND EXISTS (SELECT 1 FROM step_worker_span AS n WHERE n.worker_key = "
        "worker_evidence.worker_key AND n.kind = worker_evidence.kind AND n.first_at <= worker_evidence.first_at "
        "AND n.last_at >= worker_evidence.last_at)"
    )
    replace_rows(con, "core.worker_evidence", "step_worker_span", reached)
    replace_rows(con, "core.worker_offline", "step_worker_offline", mine)
    for name in ("worker_evidence", "worker_life_found", "worker_busy_cut", "worker_online", "worker_anomaly"):
        step(con, name, source_id)
    _steps_in_parts(con, source_id, parts, ("worker_busy",), ("worker_busy",))
    result.add("core.worker_life", replace_rows(con, "core.worker_life", f"({sql('worker_life')})", mine))
    result.add(
        "core.worker_interval",
        replace_rows(con, "core.worker_interval", f"({sql('worker_interval')})", f"{mine} AND {_BUSY_KEPT}"),
    )
    for side in ("gone", "come"):
        mark(con, "core.worker_interval", f"SELECT from_at FROM {side}_worker_interval", as_of)
    replace_rows(con, "core.worker_anomaly", "step_worker_anomaly", mine)
    publish_anomalies(con, "worker_anomaly")
    result.dirty_hours += mark_hours(con, ["worker_life", "worker_interval", "worker_anomaly"], "worker")
    con.execute(
        'INSERT INTO core.dirty_stretch SELECT DISTINCT n.source_id, n.worker_key, time_bucket(INTERVAL 10 MINUTE, n."at") '
        "FROM scope_worker_snapshot AS n INNER JOIN claim_worker AS c ON n.worker_key = c.worker_key "
        'CROSS JOIN claim_setting AS s WHERE n."at" >= c.since AND n."at" <= s.horizon '
        "AND n.origin IS DISTINCT FROM 'poll' AND n.is_idle IS NOT NULL AND s.has_attempts"
    )
    _mark_earlier_samples(con, source_id)


def _mark_earlier_samples(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """Samples of a worker are compared with attempts from its first attempt on: then the earlier ones are due (M-211)."""
    rows = con.execute(
        "SELECT worker_key, min(first_sample_at) FROM core.worker_evidence WHERE source_id = ? AND worker_key IN ("
        "SELECT worker_key FROM come_worker_evidence WHERE kind = 'start' "
        "EXCEPT SELECT worker_key FROM gone_worker_evidence WHERE kind = 'start') "
        "GROUP BY worker_key HAVING count(*) FILTER (kind = 'start') = 1 AND min(first_sample_at) IS NOT NULL",
        [source_id],
    ).fetchall()
    if rows:
        con.execute(
            'INSERT INTO core.dirty_stretch SELECT DISTINCT source_id, worker_key, time_bucket(INTERVAL 10 MINUTE, "at") '
            'FROM raw.worker_snapshot WHERE source_id = ? AND "at" >= ? AND list_contains(?, worker_key) '
            "AND origin IS DISTINCT FROM 'poll' AND is_idle IS NOT NULL "
            'AND "at" <= (SELECT horizon FROM claim_setting WHERE has_attempts)',
            [source_id, min(row[1] for row in rows), [row[0] for row in rows]],
        )


#: Busy pieces from samples are recomputed only as far back as new samples reach.
_BUSY_KEPT = (
    "NOT (state = 'busy' AND EXISTS (SELECT 1 FROM step_worker_busy_cut AS c WHERE c.worker_key = worker_interval.worker_key "
    "AND c.life_no = worker_interval.life_no AND worker_interval.from_at < c.cut_at))"
)


def _differing(one: str, other: str) -> str:
    """The instants at which a life began or ended, of two versions of it, where they differ: only those move attempts."""
    parts = []
    for instant in ("{}.start_at", "coalesce({}.start_at, {}.created_at, {}.terminated_at)", "{}.end_at"):
        a, b = instant.replace("{}", one), instant.replace("{}", other)
        parts.append(f"CASE WHEN {a} IS DISTINCT FROM {b} THEN [{a}, {b}] ELSE [] END")
    return " || ".join(parts)


def _mark_tasks_of_workers(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime) -> None:
    """Mark tasks whose attempts a changed life or a new idle snapshot may close (M-210 c, d; M-307)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE changed_worker AS SELECT worker_key, min(changed_at) AS changed_at FROM ("
        f"SELECT coalesce(g.worker_key, c.worker_key) AS worker_key, unnest({_differing('g', 'c')}) AS changed_at "
        "FROM gone_worker_life AS g FULL JOIN come_worker_life AS c ON g.worker_key = c.worker_key AND g.life_no = c.life_no "
        "UNION ALL SELECT worker_key, offline_at FROM gone_worker_offline "
        "UNION ALL SELECT worker_key, offline_at FROM come_worker_offline) "
        "WHERE changed_at IS NOT NULL GROUP BY worker_key"
    )
    _mark_attempts(
        con, source_id, as_of, "changed_worker", "changed_at", "a.ended_at IS NULL OR a.ended_at >= w.changed_at"
    )
    con.execute(
        'CREATE OR REPLACE TEMP TABLE idle_worker AS SELECT n.worker_key, n."at" AS idle_at '
        "FROM scope_worker_snapshot AS n INNER JOIN claim_worker AS c ON n.worker_key = c.worker_key "
        "CROSS JOIN claim_setting AS s WHERE n.is_idle AND n.origin IS DISTINCT FROM 'poll' "
        'AND n."at" >= c.since AND n."at" <= s.horizon'
    )
    _mark_attempts(
        con, source_id, as_of, "idle_worker", "idle_at",
        "a.dangling AND a.started_at + INTERVAL 1 SECOND <= w.idle_at AND (a.ended_at IS NULL OR a.ended_at > w.idle_at)",
    )  # fmt: skip


def _mark_attempts(
    con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime, table: str, column: str, condition: str
) -> None:
    earliest = value(con, f"SELECT min({column}) FROM {table}")
    if earliest is None:
        return
    con.execute(
        "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) SELECT DISTINCT a.source_id, a.task_key, ?::TIMESTAMP "
        f"FROM {attempts_since(con, earliest)} AS a INNER JOIN {table} AS w ON a.worker_key = w.worker_key AND ({condition}) "
        "WHERE a.source_id = ?",
        [as_of, source_id],
    )
