"""Refreshing the core layer: attempts, instants, waits, worker lives and intervals of the keys that changed.

What belongs here: claiming dirty keys, running the SQL of ``dbt_like_sql/core`` for them, cascades between workers and
tasks, chunks and transactions. What does not: the derivations themselves, tables and differences (``core_tables``).

The result is a function of the stored rows and ``meta.source_state.as_of`` alone (M-805): neither the order in which
rows arrived nor how they were batched matters. Workers come first, because the end of a worker closes dangling attempts
(M-210 d); their evidence is read from raw rows, not from attempts, so there is no cycle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.core_tables import (
    Change,
    ensure_core,
    mark_hours,
    publish_anomalies,
    replace_rows,
)
from monitoring_pipelines.warehouse.family_marks import mark_due
from monitoring_pipelines.warehouse.output_refresh import is_active, refresh_results
from monitoring_pipelines.warehouse.schema import transaction
from monitoring_pipelines.warehouse.serving import mark
from monitoring_pipelines.warehouse.sql_models import sql_root

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

#: Tasks per transaction: bounds memory (about 1 KB a task) and the time the writer is held.
CHUNK_TASKS = 150_000
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
#: Cascades end by themselves (workers never depend on how attempts ended); more rounds than this is a defect.
MAX_ROUNDS = 20

#: Columns of raw rows that the steps of tasks read.
_TASK_COLUMNS = (
    "endpoint", "status", "worker_key", "created_at", "queued_at", "started_at", "ended_at", "updated_at",
    "status_seen_at", "first_seen_at", "deadline_at", "is_deleted", "output_expected",
)  # fmt: skip
_EVENT_COLUMNS = (
    "event_key", "event_type", "at", "row_id", "src_table", "worker_key", "endpoint", "src_queue_wait_ms", "first_seen_at",
)  # fmt: skip

WORKER_STEPS = ("worker_task_event", "worker_offline_known", "worker_point", "worker_offline", "worker_span")
TASK_STEPS = ("task_subject", "task_input", "task_role", "task_resolved", "task_anomaly")


@dataclass
class CoreResult:
    """What a refresh did.

    Attributes:
        tasks: Tasks recomputed (a task claimed twice counts twice).
        workers: Workers recomputed.
        dirty_hours: Hours newly marked for the statistics.
        changes: Rows removed and added per core table.
    """

    source_id: str
    as_of: datetime | None
    tasks: int = 0
    workers: int = 0
    dirty_hours: int = 0
    changes: dict[str, Change] = field(default_factory=dict)

    def add(self, table: str, change: Change) -> None:
        """Count a change of ``core.<table>``."""
        self.changes[table] = self.changes.get(table, Change()) + change

    def table_metadata(self, table: str) -> dict[str, int]:
        """Figures of one table for the asset that stands for it."""
        change = self.changes.get(table, Change())
        return {
            "rows_removed": change.removed,
            "rows_added": change.added,
            "tasks": self.tasks,
            "workers": self.workers,
        }


def refresh_core(con: duckdb.DuckDBPyConnection, source_id: str, *, chunk_tasks: int = CHUNK_TASKS) -> CoreResult:
    """Recompute core rows of all dirty keys of a source and mark the hours that changed.

    Each step is one transaction: the rows of its keys, the hours they touch and the removal of the keys from the dirty
    tables commit together, so a crash repeats a step and never loses one. Running twice changes nothing.

    Args:
        con: Read-write connection outside a transaction.
        source_id: The source; it needs rows in ``meta.source_state`` and ``meta.source_setting``.
        chunk_tasks: Tasks per transaction.

    Returns:
        What was done; nothing if the source has no successful extraction yet.

    Raises:
        RuntimeError: Keys keep getting dirty, which would be a defect.
    """
    ensure_core(con)
    # The planner takes many filters for few rows, and a nested loop for "as of" joins of few rows.
    con.execute("SET asof_loop_join_threshold = 0")
    as_of = _as_of(con, source_id)
    result = CoreResult(source_id, as_of)
    if as_of is None:
        return result
    with transaction(con):
        _prepare(con, source_id)
        _wake(con, source_id)
    first = True
    for _ in range(MAX_ROUNDS):
        if not first and not _dirty(con, source_id):
            with transaction(con):
                _compare_samples(con, result, source_id)
            return result
        with transaction(con):
            since = _refresh_workers(con, result, source_id, as_of, with_open=first)
        first = False
        while True:
            with transaction(con):
                done = _refresh_tasks(con, result, source_id, as_of, since, chunk_tasks)
            if not done:
                break
    raise RuntimeError(f"core keys of {source_id} do not settle")


@cache
def _sql(name: str) -> str:
    """Text of ``core/steps/<name>.sql`` or, for a model, ``core/<name>.sql``."""
    folder = sql_root() / "core"
    path = folder / "steps" / f"{name}.sql"
    return (path if path.exists() else folder / f"{name}.sql").read_text(encoding="utf-8")


def _step(con: duckdb.DuckDBPyConnection, name: str, source_id: str) -> None:
    """Compute one step into the temp table ``step_<name>``."""
    text = _sql(name)
    parameters: dict[str, Any] = {"source_id": source_id} if "$source_id" in text else {}
    con.execute(f"CREATE OR REPLACE TEMP TABLE step_{name} AS {text}", parameters)


def _as_of(con: duckdb.DuckDBPyConnection, source_id: str) -> datetime | None:
    row = con.execute("SELECT as_of FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
    known = con.execute("SELECT 1 FROM meta.source_setting WHERE source_id = ?", [source_id]).fetchone()
    return row[0] if row and known else None


def _value(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> Any:
    row = con.execute(sql, parameters or []).fetchone()
    return row[0] if row else None


def _prepare(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
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
            coalesce(s.has_task_event, false) OR coalesce(s.has_task_times, false) AS has_attempts
        FROM meta.source_setting AS s
        INNER JOIN meta.source_state AS t ON s.source_id = t.source_id
        WHERE s.source_id = ?
        """,
        [source_id],
    )


def _dirty(con: duckdb.DuckDBPyConnection, source_id: str) -> bool:
    return bool(
        _value(
            con,
            "SELECT EXISTS (SELECT 1 FROM meta.dirty_task WHERE source_id = $1) "
            "OR EXISTS (SELECT 1 FROM meta.dirty_worker WHERE source_id = $1)",
            [source_id],
        )
    )


def _wake(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """Mark keys that became due by time alone: future-dated rows (E-306) and derived timeouts (M-217)."""
    due = "FROM meta.pending_instant AS p, claim_setting AS s WHERE p.source_id = s.source_id AND p.due_at <= s.horizon"
    if _value(con, f"SELECT count(*) {due}"):
        keyed = (
            'SELECT p.entity, p."key", p.due_at, s.as_of, '
            f'md5_number_lower(concat_ws(chr(31), p.source_id, p."key")) AS key_hash {due}'
        )
        con.execute(f"CREATE OR REPLACE TEMP TABLE claim_due AS {keyed}")
        con.execute(
            "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) "
            "SELECT $s, d.\"key\", d.as_of FROM claim_due AS d WHERE d.entity = 'task' UNION ALL "
            "SELECT $s, e.task_key, d.as_of FROM claim_due AS d INNER JOIN raw.task_event AS e "
            "ON d.key_hash = e.key_hash AND e.source_id = $s AND d.\"key\" = e.event_key WHERE d.entity = 'task_event' "
            "UNION ALL SELECT $s, o.task_key, o.changed_at FROM claim_due AS d INNER JOIN raw.task_output AS o "
            "ON d.key_hash = o.key_hash AND o.source_id = $s AND d.\"key\" = o.output_key WHERE d.entity = 'task_output'",
            {"s": source_id},
        )
        for entity, key in (
            ("worker_event", "event_key"),
            ("worker_snapshot", "snapshot_key"),
            ("worker", "worker_key"),
        ):
            since = "d.due_at" if entity == "worker" else 'r."at"'
            con.execute(
                "INSERT INTO meta.dirty_worker (source_id, worker_key, since, marked_at) "
                f"SELECT $s, r.worker_key, {since}, d.as_of FROM claim_due AS d INNER JOIN raw.{entity} AS r "
                f"ON r.source_id = $s AND d.\"key\" = r.{key} WHERE d.entity = '{entity}'",
                {"s": source_id},
            )
        as_of = _value(con, "SELECT max(as_of) FROM claim_due WHERE entity = 'ingest_counter'")
        if as_of is not None:
            mark_due(con, source_id, as_of)
        con.execute(
            "DELETE FROM meta.pending_instant WHERE source_id = ? AND due_at <= (SELECT horizon FROM claim_setting) "
            "AND entity IN ('task', 'task_event', 'task_output', 'worker', 'worker_event', 'worker_snapshot', "
            "'ingest_counter')",
            [source_id],
        )
    con.execute(
        "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) "
        "SELECT DISTINCT a.source_id, a.task_key, s.as_of FROM core.task_attempt AS a, claim_setting AS s "
        "WHERE a.ended_at IS NULL AND a.source_id = ? AND s.as_of > a.timeout_at",
        [source_id],
    )


# --- workers ---------------------------------------------------------------------------------------------------------


def _refresh_workers(
    con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime, *, with_open: bool
) -> datetime:
    """One transaction: evidence, lives and online time of claimed workers; mark the tasks their ends decide about.

    Returns:
        Where the hot window of the dirty tasks begins.
    """
    _prepare(con, source_id)
    since = _claim_workers(con, source_id, as_of, with_open=with_open)
    count = int(_value(con, "SELECT count(*) FROM claim_worker"))
    if count:
        for name in WORKER_STEPS:
            _step(con, name, source_id)
        _write_workers(con, result, source_id, as_of)
        _mark_tasks_of_workers(con, source_id, as_of)
        result.workers += count
    con.execute("DELETE FROM meta.dirty_worker WHERE source_id = ?", [source_id])
    return since


def _claim_workers(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime, *, with_open: bool) -> datetime:
    """Temp table ``claim_worker``: marked workers, those that events of dirty tasks name, and open ones, whose silence
    is judged anew (M-302). Rows at or after ``since`` are read; without it only facts changed and nothing is read."""
    hot_since = _scope_dirty_tasks(con, source_id, as_of)
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
    since = _value(con, "SELECT min(since) FROM claim_worker WHERE since > TIMESTAMP '1970-01-01'")
    everything = _value(con, "SELECT count(*) FROM claim_worker WHERE since <= TIMESTAMP '1970-01-01'")
    tolerance = timedelta(microseconds=2 * _value(con, "SELECT tolerance_us FROM claim_setting"))
    bound = None if everything else (since or as_of) - tolerance
    for name, table in (
        ("scope_worker_snapshot", "raw.worker_snapshot"),
        ("scope_worker_event", "raw.worker_event"),
        ("scope_task_event", "raw.task_event"),
    ):
        _scope(con, name, table, source_id, _since(AT, bound))
    return hot_since


def _scope(con: duckdb.DuckDBPyConnection, name: str, table: str, source_id: str, condition: str) -> None:
    """A temp view of the rows a step may read. Constants in it let DuckDB skip storage."""
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {table} WHERE source_id = '{source_id}' AND {condition}"
    )


def _since(column: str, instant: datetime | None) -> str:
    """A condition with a constant, by which DuckDB skips storage; ``column`` is a quoted name or an expression."""
    return "true" if instant is None else f"{column} >= TIMESTAMP '{instant.isoformat(sep=' ')}'"


def _scope_dirty_tasks(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime) -> datetime:
    """``scope_claimed_event`` and ``scope_claimed_task``: rows of all dirty tasks, for the evidence they give.

    Returns:
        Where their hot window begins.
    """
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE claim_dirty AS SELECT source_id, task_key, {HASH} AS task_hash, true AS is_cold "
        "FROM (SELECT DISTINCT source_id, task_key FROM meta.dirty_task WHERE source_id = ?)",
        [source_id],
    )
    since = _judge_cold(con, "claim_dirty", source_id, as_of)
    _scope_by_claim(con, "scope_claimed_event", "raw.task_event", "task_hash", "claim_dirty", since, AT)
    _scope_by_claim(con, "scope_claimed_task", "raw.task", "key_hash", "claim_dirty", since, "created_at")
    return since


def _scope_by_claim(
    con: duckdb.DuckDBPyConnection, name: str, table: str, hash_column: str, claim: str, since: datetime,
    time_column: str,
) -> None:  # fmt: skip
    """A view of the claimed tasks' rows; few rows are fetched once, because several steps read them."""
    rows, count = _rows_of_claim(con, table, hash_column, claim, since, time_column, "r.*")
    if count <= HOT_CLAIMS:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name}_found AS {rows}")
        rows = f"SELECT * FROM {name}_found"
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows}")


def _rows_of_claim(
    con: duckdb.DuckDBPyConnection, table: str, hash_column: str, claim: str, since: datetime, time_column: str,
    columns: str,
) -> tuple[str, int]:  # fmt: skip
    """A query of the claimed tasks' rows (``r``; the claim is ``c``), and how many tasks are claimed.

    Rows of recent tasks are looked for ``since`` the hot window began, those of others anywhere.
    """
    parts = []
    total = 0
    for cold, bound in (("NOT c.is_cold", since), ("c.is_cold", None)):
        if count := int(_value(con, f"SELECT count(*) FROM {claim} AS c WHERE {cold}")):
            total += count
            parts.append(
                f"SELECT {columns} FROM {table} AS r INNER JOIN {claim} AS c ON r.{hash_column} = c.task_hash "
                f"AND r.source_id = c.source_id AND r.task_key = c.task_key AND {cold} "
                f"WHERE {_since(f'r.{time_column}', bound)}"
            )
    empty = f"SELECT {columns} FROM {table} AS r, {claim} AS c WHERE false"
    return " UNION ALL ".join(parts) or empty, total


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
        rows, _ = _rows_of_claim(con, source, hash_column, "claim_task", since, time_column, wanted)
        con.execute(f"CREATE OR REPLACE TEMP TABLE scope_{name} AS {rows}")


def _judge_cold(con: duckdb.DuckDBPyConnection, claim: str, source_id: str, as_of: datetime) -> datetime:
    """Clear ``is_cold`` for tasks that were submitted well inside a hot window: everything about them lies in it.

    A task whose row lacks its time, or an event of which was corrected, may have rows anywhere and stays cold.

    Returns:
        Where the hot window begins.
    """
    if int(_value(con, f"SELECT count(*) FROM {claim}")) <= HOT_CLAIMS:
        for window in HOT_WINDOWS:
            _clear_cold(con, claim, source_id, as_of - window)
            if not _value(con, f"SELECT count(*) FROM {claim} WHERE is_cold"):
                return as_of - window
    return as_of - HOT_WINDOWS[-1]


def _clear_cold(con: duckdb.DuckDBPyConnection, claim: str, source_id: str, since: datetime) -> None:
    inside = since + HOT_MARGIN
    hot = _since(AT, since)
    con.execute(
        f"UPDATE {claim} SET is_cold = false WHERE is_cold AND task_hash IN ("
        f"SELECT e.task_hash FROM raw.task_event AS e SEMI JOIN {claim} AS c ON e.task_hash = c.task_hash "
        f"WHERE e.source_id = '{source_id}' AND {hot} "
        f"GROUP BY e.task_hash HAVING bool_or(e.event_type = 'created') AND {_since(SUBMITTED, inside)} "
        "AND NOT coalesce(bool_or(e.changed_at > e.first_seen_at), false)) "
        f"AND (NOT (SELECT has_task FROM claim_setting) OR task_hash IN ("
        f"SELECT t.key_hash FROM raw.task AS t SEMI JOIN {claim} AS c ON t.key_hash = c.task_hash "
        f"WHERE t.source_id = '{source_id}' AND {_since('created_at', inside)}))"
    )


def _write_workers(con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime) -> None:
    """Store what the worker steps computed, by difference, and mark the hours that changed."""
    mine = f"source_id = '{source_id}' AND worker_key IN (SELECT worker_key FROM claim_worker)"
    reached = (
        f"source_id = '{source_id}' AND EXISTS (SELECT 1 FROM step_worker_span AS n WHERE n.worker_key = "
        "worker_evidence.worker_key AND n.kind = worker_evidence.kind AND n.first_at <= worker_evidence.first_at "
        "AND n.last_at >= worker_evidence.last_at)"
    )
    replace_rows(con, "core.worker_evidence", "step_worker_span", reached)
    replace_rows(con, "core.worker_offline", "step_worker_offline", mine)
    for name in (
        "worker_evidence",
        "worker_life_found",
        "worker_busy_cut",
        "worker_online",
        "worker_busy",
        "worker_anomaly",
    ):
        _step(con, name, source_id)
    result.add("core.worker_life", replace_rows(con, "core.worker_life", f"({_sql('worker_life')})", mine))
    result.add(
        "core.worker_interval",
        replace_rows(con, "core.worker_interval", f"({_sql('worker_interval')})", f"{mine} AND {_BUSY_KEPT}"),
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


#: Busy pieces from samples are recomputed only as far back as new samples reach.
_BUSY_KEPT = (
    "NOT (state = 'busy' AND EXISTS (SELECT 1 FROM step_worker_busy_cut AS c WHERE c.worker_key = worker_interval.worker_key "
    "AND c.life_no = worker_interval.life_no AND worker_interval.from_at < c.cut_at))"
)


def _mark_tasks_of_workers(con: duckdb.DuckDBPyConnection, source_id: str, as_of: datetime) -> None:
    """Mark tasks whose attempts a changed life or a new idle snapshot may close (M-210 c, d; M-307)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE changed_worker AS SELECT worker_key, min(changed_at) AS changed_at FROM ("
        "SELECT coalesce(g.worker_key, c.worker_key) AS worker_key, unnest([g.start_at, c.start_at, g.end_at, c.end_at]) AS changed_at "
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
    earliest = _value(con, f"SELECT min({column}) FROM {table}")
    if earliest is None:
        return
    con.execute(
        "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) SELECT DISTINCT a.source_id, a.task_key, ?::TIMESTAMP "
        f"FROM core.task_attempt AS a INNER JOIN {table} AS w ON a.worker_key = w.worker_key AND ({condition}) "
        f"WHERE a.source_id = ? AND (a.ended_at IS NULL OR {_since('a.ended_at', earliest)})",
        [as_of, source_id],
    )


# --- tasks -----------------------------------------------------------------------------------------------------------


def _refresh_tasks(
    con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str, as_of: datetime, since: datetime, limit: int
) -> int:
    """One transaction: attempts, instants, waits and anomalies of up to ``limit`` dirty tasks; how many there were.

    ``since`` is where the hot window of the tasks in ``claim_dirty`` begins.
    """
    _prepare(con, source_id)
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
        since = min(since, _judge_cold(con, "claim_task", source_id, as_of))
    everything = not unknown and count == _value(con, "SELECT count(*) FROM claim_dirty")
    _scope_chunk(con, since, everything=everything)
    for name in ("task_row", "task_event"):
        _step(con, name, source_id)
    _scope_idle(con, source_id)
    for name in TASK_STEPS:
        _step(con, name, source_id)
    _write_tasks(con, result, source_id, since)
    con.execute("INSERT INTO meta.publish_task SELECT task_hash FROM claim_task")
    con.execute(
        "DELETE FROM meta.dirty_task AS d WHERE source_id = ? AND task_key IN (SELECT task_key FROM claim_task)",
        [source_id],
    )
    result.tasks += int(count)
    return int(count)


def _scope_idle(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """``scope_idle``: idle snapshots that may close an attempt of the claimed tasks (M-210 c)."""
    earliest = _value(
        con,
        'SELECT min("at") FROM (SELECT min("at") AS "at" FROM step_task_event WHERE class = \'S\' '
        "UNION ALL SELECT min(started_at) FROM step_task_row)",
    )
    condition = "false" if earliest is None else _since('n."at"', earliest)
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
    recent = not _value(con, "SELECT count(*) FROM claim_task WHERE is_cold")
    hot = since if recent else None
    for table, column in (("task_attempt", "started_at"), ("task_instant", AT), ("task_wait", "from_at")):
        change = replace_rows(con, f"core.{table}", f"({_sql(table)})", mine, _since(column, hot))
        result.add(f"core.{table}", change)
    _step(con, "task_status", source_id)
    result.add("core.task_status", replace_rows(con, "core.task_status", "step_task_status", mine))
    replace_rows(con, "core.task_anomaly", "step_task_anomaly", mine)
    publish_anomalies(con, "task_anomaly")
    result.dirty_hours += mark_hours(con, ["task_attempt", "task_instant", "task_wait", "task_anomaly"], "task")
    if is_active(con, source_id):
        queries = {name: _sql(name) for name in ("task_result", "output_instant")}
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


# --- samples against attempts ------------------------------------------------------------------------------------------


def _compare_samples(con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str) -> None:
    """One transaction: name samples that contradict attempts, where either of them changed (M-211)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE claim_stretch AS "
        "SELECT DISTINCT worker_key, from_at FROM core.dirty_stretch WHERE source_id = ?",
        [source_id],
    )
    earliest = _value(con, "SELECT min(from_at) FROM claim_stretch")
    if earliest is None:
        return
    latest = _value(con, "SELECT max(from_at) + INTERVAL 10 MINUTE FROM claim_stretch")
    until = f"TIMESTAMP '{latest.isoformat(sep=' ')}'"
    workers = "worker_key IN (SELECT worker_key FROM claim_stretch)"
    _prepare(con, source_id)
    _scope(
        con, "scope_sample", "raw.worker_snapshot", source_id,
        f"{_since(AT, earliest)} AND \"at\" < {until} AND \"at\" <= (SELECT horizon FROM claim_setting) "
        "AND is_idle IS NOT NULL AND origin IS DISTINCT FROM 'poll'",
    )  # fmt: skip
    _scope(
        con, "scope_attempt", "core.task_attempt", source_id,
        f"(ended_at IS NULL OR {_since('ended_at', earliest)}) AND started_at < {until} AND NOT reversed AND {workers}",
    )  # fmt: skip
    _step(con, "snapshot_contradiction", source_id)
    mine = (
        f"source_id = '{source_id}' AND (worker_key, time_bucket(INTERVAL 10 MINUTE, \"at\")) IN "
        "(SELECT (worker_key, from_at) FROM claim_stretch)"
    )
    replace_rows(con, "core.snapshot_anomaly", "step_snapshot_contradiction", mine, _since(AT, earliest))
    publish_anomalies(con, "snapshot_anomaly")
    result.dirty_hours += mark_hours(con, ["snapshot_anomaly"], "sample")
    con.execute("DELETE FROM core.dirty_stretch WHERE source_id = ?", [source_id])
