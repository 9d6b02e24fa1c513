"""Refreshing the core layer: attempts, instants, waits, worker lives and intervals of the keys that changed.

What belongs here: claiming dirty keys, running the SQL of ``dbt_like_sql/core`` for them, cascades between workers and
tasks, chunks and transactions. What does not: the derivations themselves, tables and differences (``core_tables``).

The result is a function of the stored rows and ``meta.source_state.as_of`` alone (M-805): neither the order in which
rows arrived nor how they were batched matters. Workers come first, because the end of a worker closes dangling attempts
(M-210 d); their evidence is read from raw rows, not from attempts, so there is no cycle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse import open_spans
from monitoring_pipelines.warehouse.connect import FEW_ROWS, share_out
from monitoring_pipelines.warehouse.core_claims import AT, attempts_since, not_before, prepare, scope, step, value
from monitoring_pipelines.warehouse.core_tables import (
    Change,
    ensure_core,
    mark_hours,
    publish_anomalies,
    replace_rows,
)
from monitoring_pipelines.warehouse.core_tasks import refresh_tasks
from monitoring_pipelines.warehouse.core_workers import refresh_workers, scope_dirty_tasks
from monitoring_pipelines.warehouse.family_marks import mark_due
from monitoring_pipelines.warehouse.schema import transaction

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

#: Tasks per transaction: bounds memory (about 1 KB a task) and the time the writer is held.
CHUNK_TASKS = 120_000
#: Cascades end by themselves (workers never depend on how attempts ended); more rounds than this is a defect.
MAX_ROUNDS = 20


@dataclass
class CoreResult:
    """What a refresh did.

    Attributes:
        tasks: Tasks recomputed (a task claimed twice counts twice).
        workers: Workers recomputed.
        dirty_hours: Hours newly marked for the statistics.
        changes: Rows removed and added per core table.
        is_unfinished: Workers are done, tasks are not: somebody waited for the warehouse.
    """

    source_id: str
    as_of: datetime | None
    tasks: int = 0
    workers: int = 0
    dirty_hours: int = 0
    changes: dict[str, Change] = field(default_factory=dict)
    is_unfinished: bool = False

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
    result = refresh_keys(con, source_id, chunk_tasks=chunk_tasks)
    compare_samples(con, result)
    return result


def refresh_keys(
    con: duckdb.DuckDBPyConnection,
    source_id: str,
    *,
    chunk_tasks: int = CHUNK_TASKS,
    gives_way: Callable[[], bool] = lambda: False,
    begun: CoreResult | None = None,
) -> CoreResult:
    """The first part of ``refresh_core``: everything but comparing samples with attempts.

    Args:
        con: As for ``refresh_core``.
        source_id: As for ``refresh_core``.
        chunk_tasks: As for ``refresh_core``.
        gives_way: Asked between workers and tasks; when it is true, the result ``is_unfinished``.
        begun: Such a result, to go on with, on any connection.
    """
    ensure_core(con)
    _plan_for_few(con)
    as_of = _as_of(con, source_id)
    result = begun or CoreResult(source_id, as_of)
    # Workers judged at another instant are judged again.
    resumes = result.is_unfinished and result.as_of == as_of
    result.as_of, result.is_unfinished = as_of, False
    if as_of is None:
        return result
    with transaction(con):
        prepare(con, source_id)
        open_spans.tighten(con)
        _wake(con, source_id)
    tasks = int(value(con, "SELECT count(*) FROM meta.dirty_task WHERE source_id = $1", [source_id]))
    share_out(con, few=tasks < FEW_ROWS)
    for number in range(MAX_ROUNDS):
        if number and not _dirty(con, source_id):
            return result
        if resumes:
            with transaction(con):
                begin = scope_dirty_tasks(con, source_id, as_of)
        else:
            with transaction(con):
                begin = refresh_workers(con, result, source_id, as_of, with_open=not number)
            if not number and gives_way():
                result.is_unfinished = True
                return result
        resumes = False
        while True:
            with transaction(con):
                done = refresh_tasks(con, result, source_id, as_of, begin, chunk_tasks)
            if not done:
                break
    raise RuntimeError(f"core keys of {source_id} do not settle")


def compare_samples(con: duckdb.DuckDBPyConnection, result: CoreResult) -> None:
    """The second part of ``refresh_core``, which makes no key dirty: name samples that contradict attempts (M-211)."""
    if result.as_of is None:
        return
    _plan_for_few(con)
    share_out(con, few=result.tasks < FEW_ROWS)
    while True:
        with transaction(con):
            compared = _compare_samples(con, result, result.source_id)
        if not compared:
            return


def _plan_for_few(con: duckdb.DuckDBPyConnection) -> None:
    # The planner takes many filters for few rows, and a nested loop for "as of" joins of few rows.
    con.execute("SET asof_loop_join_threshold = 0")


def _as_of(con: duckdb.DuckDBPyConnection, source_id: str) -> datetime | None:
    row = con.execute("SELECT as_of FROM meta.source_state WHERE source_id = ?", [source_id]).fetchone()
    known = con.execute("SELECT 1 FROM meta.source_setting WHERE source_id = ?", [source_id]).fetchone()
    return row[0] if row and known else None


def _dirty(con: duckdb.DuckDBPyConnection, source_id: str) -> bool:
    return bool(
        value(
            con,
            "SELECT EXISTS (SELECT 1 FROM meta.dirty_task WHERE source_id = $1) "
            "OR EXISTS (SELECT 1 FROM meta.dirty_worker WHERE source_id = $1)",
            [source_id],
        )
    )


def _wake(con: duckdb.DuckDBPyConnection, source_id: str) -> None:
    """Mark keys that became due by time alone: future-dated rows (E-306) and derived timeouts (M-217)."""
    due = "FROM meta.pending_instant AS p, claim_setting AS s WHERE p.source_id = s.source_id AND p.due_at <= s.horizon"
    if value(con, f"SELECT count(*) {due}"):
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
        con.execute(
            "INSERT INTO meta.publish_job SELECT DISTINCT r.source_id, r.job_id FROM claim_due AS d INNER JOIN raw.job_run AS r "
            "ON d.key_hash = r.key_hash AND r.source_id = $s AND d.\"key\" = r.run_key WHERE d.entity = 'job_run'",
            {"s": source_id},
        )
        as_of = value(con, "SELECT max(as_of) FROM claim_due WHERE entity = 'ingest_counter'")
        if as_of is not None:
            mark_due(con, source_id, as_of)
        con.execute(
            "DELETE FROM meta.pending_instant WHERE source_id = ? AND due_at <= (SELECT horizon FROM claim_setting) "
            "AND entity IN ('task', 'task_event', 'task_output', 'worker', 'worker_event', 'worker_snapshot', "
            "'ingest_counter', 'job_run')",
            [source_id],
        )
    con.execute(
        "INSERT INTO meta.dirty_task (source_id, task_key, marked_at) "
        "SELECT DISTINCT a.source_id, a.task_key, s.as_of FROM core.task_attempt AS a, claim_setting AS s "
        f"WHERE a.ended_at IS NULL AND {open_spans.since(con, 'core.task_attempt')} AND a.source_id = ? "
        "AND s.as_of > a.timeout_at",
        [source_id],
    )


def _compare_samples(con: duckdb.DuckDBPyConnection, result: CoreResult, source_id: str) -> bool:
    """One transaction: name samples that contradict attempts, where either of them changed (M-211), a day at most.

    Returns:
        Whether there was anything to compare.
    """
    earliest = value(con, "SELECT min(from_at) FROM core.dirty_stretch WHERE source_id = ?", [source_id])
    if earliest is None:
        return False
    con.execute(
        "CREATE OR REPLACE TEMP TABLE claim_stretch AS SELECT DISTINCT worker_key, from_at FROM core.dirty_stretch "
        "WHERE source_id = ? AND from_at < ?",
        [source_id, earliest + timedelta(days=1)],
    )
    latest = value(con, "SELECT max(from_at) + INTERVAL 10 MINUTE FROM claim_stretch")
    until = f"TIMESTAMP '{latest.isoformat(sep=' ')}'"
    workers = "worker_key IN (SELECT worker_key FROM claim_stretch)"
    prepare(con, source_id)
    scope(
        con, "scope_sample", "raw.worker_snapshot", source_id,
        f"{not_before(AT, earliest)} AND \"at\" < {until} AND \"at\" <= (SELECT horizon FROM claim_setting) "
        "AND is_idle IS NOT NULL AND origin IS DISTINCT FROM 'poll'",
    )  # fmt: skip
    scope(
        con, "scope_attempt", attempts_since(con, earliest), source_id,
        f"started_at < {until} AND NOT reversed AND {workers}",
    )  # fmt: skip
    step(con, "snapshot_contradiction", source_id)
    mine = (
        f"source_id = '{source_id}' AND (worker_key, time_bucket(INTERVAL 10 MINUTE, \"at\")) IN "
        "(SELECT (worker_key, from_at) FROM claim_stretch)"
    )
    replace_rows(con, "core.snapshot_anomaly", "step_snapshot_contradiction", mine, not_before(AT, earliest))
    publish_anomalies(con, "snapshot_anomaly")
    result.dirty_hours += mark_hours(con, ["snapshot_anomaly"], "sample")
    con.execute(
        "DELETE FROM core.dirty_stretch WHERE source_id = ? AND from_at < ?", [source_id, earliest + timedelta(days=1)]
    )
    return True
