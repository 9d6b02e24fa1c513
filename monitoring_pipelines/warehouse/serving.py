"""Tables that are published for look-ups besides the statistics: tasks with their history, runs, samples, intervals.

What belongs here: which rows they have, how they are cut into files, which changes make a file due. What does not:
writing files (``publish``) and answering from them (``published``).

``core.task`` has one row per task with its attempts, events, outputs and anomalies as nested columns, in the partition
of its creation: a list reads narrow columns, one task is one row, and a change rewrites ten minutes of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.check_sql import statement

if TYPE_CHECKING:
    import duckdb

#: Smallest partition of a table that is cut by time.
STEP = timedelta(minutes=10)
#: Ten-minute files become one hour this long after the hour began.
MERGE_AFTER = timedelta(hours=2)
#: A small row group lets a look-up of one task skip almost everything; each costs time and memory of its own, too.
ROW_GROUP = 16_384

TASK = "core.task"
#: Leaked slots per source, as the check counts them (C-330); small, and written anew with every change.
SLOTS = "core.slot_figure"
#: Tasks copied at once, with their attempts, outputs and events: some 150 MB.
PIECE_TASKS = 120_000
#: Events and outputs are read so long before their task at most: they are read together.
BEFORE_TASK = timedelta(hours=1)
#: Newest tasks are looked at first when changed keys are resolved.
_HOT = timedelta(hours=6)


@dataclass(frozen=True)
class Served:
    """One table. ``at`` is the instant that chooses the partition (None: one file); ``select`` holds ``{where}``."""

    name: str
    select: str
    order: str
    at: str | None = None
    #: Table whose rows have ``at``; decides which partitions exist.
    base: str = ""

    def query(self, start: datetime | None = None, end: datetime | None = None, seen: datetime = datetime.min) -> str:
        """Rows of [start, end), in the order in which they are stored; what belongs to them was ``seen_since``."""
        text = self.select
        for name, instant in (("start", start), ("end", end), ("seen", seen)):
            text = text.replace(f"{{{name}}}", f"TIMESTAMP '{instant}'")
        return f"{text} ORDER BY {self.order}"


def _rows(table: str, at: str, order: str, leave_out: Sequence[str]) -> Served:
    dropped = f" EXCLUDE ({', '.join(leave_out)})" if leave_out else ""
    text = f"SELECT *{dropped} FROM {table} WHERE {at} >= {{start}} AND {at} < {{end}}"
    return Served(table, text, order, at, table)


def _whole(table: str, order: str, leave_out: Sequence[str] = ()) -> Served:
    dropped = f" EXCLUDE ({', '.join(leave_out)})" if leave_out else ""
    return Served(table, f"SELECT *{dropped} FROM {table}", order)


_BOOKKEEPING = ("src_table", "row_hash", "key_hash", "src_digest")
_JOB_RUN_AT = "coalesce(started_at, scheduled_at, ended_at, first_seen_at)"

#: Instant that chooses the file of a task.
_TASK_AT = "coalesce(created_at, first_seen_at, started_at, ended_at)"
#: Lists are sorted whole, by the first fields of their rows: ordered aggregates cost many times as much. Most tasks have one attempt
#: and one output, and sorting one row costs as much as reading it.
_TASK_SELECT = """
WITH subject AS MATERIALIZED (
    SELECT *, key_hash AS own_hash, created_at AS bucket_at FROM core.task WHERE created_at >= {start} AND created_at < {end}
    UNION ALL BY NAME
    SELECT *, key_hash AS own_hash, coalesce(first_seen_at, started_at, ended_at) AS bucket_at
    FROM core.task
    WHERE created_at IS NULL AND coalesce(first_seen_at, started_at, ended_at) >= {start}
        AND coalesce(first_seen_at, started_at, ended_at) < {end}
),
attempt AS (
    SELECT task_hash,
        count(*) AS attempts,
        count(*) FILTER (WHERE outcome = 'open') AS open_attempts,
        count(*) FILTER (WHERE outcome = 'completed') AS completed,
        count(*) FILTER (WHERE outcome = 'failed') AS failed,
        count(*) FILTER (WHERE outcome = 'timeout') AS timed_out,
        count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE outcome = 'lost') AS lost,
        cast(sum(late_event_count) AS BIGINT) AS late_events,
        count(execution_ms) AS execution_n,
        cast(sum(execution_ms) AS DECIMAL(20, 3)) AS execution_sum_ms,
        max(started_at) AS last_started_at,
        arg_max(worker_key, attempt_no) AS last_worker_key,
        list({'attempt_no': attempt_no, 'worker_key': worker_key, 'enqueued_at': enqueued_at, 'started_at': started_at,
            'ended_at': ended_at, 'outcome': outcome, 'end_source': end_source, 'counted': counted,
            'queue_wait_ms': queue_wait_ms, 'execution_ms': execution_ms, 'late_event_count': late_event_count,
            'executor_ended_at': executor_ended_at}) AS attempt_list
    FROM core.task_attempt
    WHERE task_hash IN (SELECT own_hash FROM subject) AND started_at >= {start} - INTERVAL 1 DAY
    GROUP BY task_hash
),
output AS (
    SELECT task_hash,
        count(*) FILTER (WHERE is_live AND NOT valid) AS outputs_invalid,
        count(*) FILTER (WHERE is_live AND valid AND origin IS DISTINCT FROM 'placeholder') AS outputs,
        len(list_distinct(list(natural_key) FILTER (WHERE is_live AND valid AND origin IS DISTINCT FROM 'placeholder')))
            AS distinct_outputs,
        list({'created_at': created_at, 'output_key': output_key, 'node_key': node_key, 'name': name, 'uri': uri,
            'media_type': media_type, 'size_bytes': size_bytes, 'version': version, 'origin': origin, 'valid': valid,
            'live': is_live}) AS output_list
    FROM (
        SELECT *, NOT coalesce(is_deleted, false) AND (deleted_at IS NULL OR deleted_reason = 'retention') AS is_live
        FROM raw.task_output
        WHERE task_hash IN (SELECT own_hash FROM subject) AND first_seen_at >= {seen}
    )
    GROUP BY task_hash
),
event AS (
    SELECT task_hash,
        list_sort(list({'at': "at", 'row_id': row_id, 'event_key': event_key, 'event_type': event_type, 'raw_type': raw_type,
            'worker_key': worker_key, 'error_message': error_message})) AS event_list
    FROM raw.task_event
    WHERE task_hash IN (SELECT own_hash FROM subject) AND first_seen_at >= {seen}
    GROUP BY task_hash
),
odd AS (
    SELECT task_hash, list_sort(list({'at': "at", 'kind': kind, 'entity': entity, 'key': "key", 'detail': detail}))
        AS anomaly_list
    FROM core.task_anomaly
    WHERE task_hash IN (SELECT own_hash FROM subject)
    GROUP BY task_hash
)
SELECT
    s.source_id, s.task_key, s.own_hash AS task_hash, s.bucket_at, coalesce(s.endpoint, '_unassigned') AS endpoint,
    s.status, s.raw_status, s.remote_id, coalesce(a.last_worker_key, s.worker_key) AS worker_key, s.owner_key,
    s.created_at, s.queued_at, coalesce(a.last_started_at, s.started_at) AS started_at, s.ended_at, s.effective_end,
    s.updated_at, s.deadline_at, s.error_message, coalesce(s.output_expected, true) AS output_expected,
    coalesce(s.is_deleted, false) AS is_deleted, s.deleted_at, s.deleted_reason,
    coalesce(o.outputs, 0) AS outputs, coalesce(o.outputs_invalid, 0) AS outputs_invalid,
    coalesce(o.distinct_outputs, 0) AS distinct_outputs,
    coalesce(a.attempts, 0) AS attempts, coalesce(a.open_attempts, 0) AS open_attempts,
    coalesce(a.completed, 0) AS completed, coalesce(a.failed, 0) AS failed, coalesce(a.timed_out, 0) AS timed_out,
    coalesce(a.cancelled, 0) AS cancelled, coalesce(a.lost, 0) AS lost,
    coalesce(a.late_events, 0) AS late_events, coalesce(a.execution_n, 0) AS execution_n,
    coalesce(a.execution_sum_ms, 0) AS execution_sum_ms,
    CASE WHEN a.attempts > 1 THEN list_sort(a.attempt_list) ELSE a.attempt_list END AS attempt_list,
    CASE WHEN len(o.output_list) > 1 THEN list_sort(o.output_list) ELSE o.output_list END AS output_list,
    e.event_list, d.anomaly_list
FROM subject AS s
LEFT JOIN attempt AS a ON a.task_hash = s.own_hash
LEFT JOIN output AS o ON o.task_hash = s.own_hash
LEFT JOIN event AS e ON e.task_hash = s.own_hash
LEFT JOIN odd AS d ON d.task_hash = s.own_hash
"""

SERVED: dict[str, Served] = {
    served.name: served
    for served in (
        Served(TASK, _TASK_SELECT, "bucket_at DESC, source_id, task_key", _TASK_AT, TASK),
        _rows("raw.job_run", _JOB_RUN_AT, f"source_id, job_id, {_JOB_RUN_AT}", (*_BOOKKEEPING, "result_error")),
        _rows("raw.process_sample", '"at"', 'source_id, process_id, "at"', _BOOKKEEPING),
        _rows("raw.probe_result", '"at"', 'source_id, target, "at"', _BOOKKEEPING),
        _rows("raw.ingest_counter", '"at"', 'source_id, process_id, series, "at"', _BOOKKEEPING),
        _rows("core.worker_interval", "from_at", "source_id, endpoint, worker_key, from_at", ()),
        _whole("raw.job", "source_id, job_id", _BOOKKEEPING),
        _whole("raw.endpoint", "source_id, endpoint", _BOOKKEEPING),
        _whole("raw.worker", "source_id, worker_key, life_no", _BOOKKEEPING),
        _whole("core.job_figure", "source_id, job_id"),
        Served(SLOTS, statement("leaked_slots"), "source_id"),
    )
}
#: Entities whose stored rows are served as they are: entity → expression of the partition's instant (None: one file).
_BY_ENTITY = {name.split(".")[1]: served.at for name, served in SERVED.items() if name.startswith("raw.")}


def seen_since(con: duckdb.DuckDBPyConnection, start: datetime, end: datetime) -> datetime:
    """Instant since when events and outputs of the tasks of ``[start, end)`` were first read.

    Both instants are of the product's clock, so that a source whose clock is wrong loses nothing. An event or output may
    be read up to ``BEFORE_TASK`` before its task; one of a task that has no row, up to a day before its own time.
    """
    within = f"created_at >= TIMESTAMP '{start}' AND created_at < TIMESTAMP '{end}'"
    seen, orphans = con.execute(
        f"SELECT (SELECT min(first_seen_at) FROM raw.task WHERE {within}), "
        f"(SELECT count(*) FROM core.task_status WHERE {within} AND NOT has_row)"
    ).fetchall()[0]
    bound = start - timedelta(days=1) if orphans else start
    return (bound if seen is None else min(bound, seen)) - BEFORE_TASK


def pieces(con: duckdb.DuckDBPyConnection, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """``[start, end)`` of whole hours in parts of at most ``PIECE_TASKS`` tasks or one hour, newest first."""
    counted = dict(
        con.execute(
            "SELECT date_trunc('hour', created_at), count(*) FROM raw.task "
            f"WHERE created_at >= TIMESTAMP '{start}' AND created_at < TIMESTAMP '{end}' GROUP BY 1"
        ).fetchall()
    )
    found: list[tuple[datetime, datetime]] = []
    upper, tasks = end, 0
    hour = end
    while hour > start:
        hour -= timedelta(hours=1)
        tasks += counted.get(hour, 0)
        if tasks > PIECE_TASKS and hour + timedelta(hours=1) < upper:
            found.append((hour + timedelta(hours=1), upper))
            upper, tasks = hour + timedelta(hours=1), counted.get(hour, 0)
    return [*found, (start, upper)]


def floor(instant: datetime) -> datetime:
    """Start of the ten minutes that hold ``instant``."""
    return instant - (instant - datetime.min) % STEP


def mark_rows(con: duckdb.DuckDBPyConnection, entity: str, now: datetime) -> None:
    """Mark the files of the rows an upsert changed; call it where ``incoming``, ``stored`` and ``changed`` are there."""
    versions = (
        "(SELECT v.* FROM incoming AS v INNER JOIN changed AS c ON c.key_hash = v.key_hash AND c.is_version)",
        "(SELECT v.* FROM stored AS v INNER JOIN changed AS c ON c.rid = v.rid AND c.is_version)",
    )
    if entity == "task_output":
        for rows in versions:
            con.execute(f"INSERT INTO meta.publish_task SELECT DISTINCT md5_number_lower(concat_ws(chr(31), ?, task_key)) FROM {rows}",
                        [_source_of(con)])  # fmt: skip
    if entity == "job_run":
        con.execute(f"INSERT INTO meta.publish_job SELECT DISTINCT source_id, job_id FROM {versions[0]}")
    if entity not in _BY_ENTITY:
        return
    at = _BY_ENTITY[entity]
    if at is None:
        mark(con, f"raw.{entity}", f"SELECT NULL::TIMESTAMP FROM {versions[0]} LIMIT 1", now)
        return
    chosen = at.replace("first_seen_at", "$now::TIMESTAMP")
    mark(con, f"raw.{entity}", f"SELECT {chosen} FROM {versions[0]}", now)
    if entity == "job_run":  # the only one of them whose rows change: its file may be another one now
        mark(con, "raw.job_run", f"SELECT {at} FROM {versions[1]}", now)


def mark_keys(con: duckdb.DuckDBPyConnection, entity: str, now: datetime) -> None:
    """Mark the files of rows whose ``key_hash`` is in ``gone_key``: the source has them no more."""
    if entity in ("task", "task_output"):
        column = "key_hash" if entity == "task" else "task_hash"
        con.execute(
            f"INSERT INTO meta.publish_task SELECT DISTINCT {column} FROM raw.{entity} "
            "WHERE key_hash IN (SELECT key_hash FROM gone_key)"
        )
    elif entity in _BY_ENTITY:
        at = _BY_ENTITY[entity] or "NULL::TIMESTAMP"
        mark(
            con,
            f"raw.{entity}",
            f"SELECT {at} FROM raw.{entity} WHERE key_hash IN (SELECT key_hash FROM gone_key)",
            now,
        )


def mark(
    con: duckdb.DuckDBPyConnection, table: str, select: str, now: datetime, more: Mapping[str, Any] | None = None
) -> None:
    """Mark the files of the instants that ``select`` yields; it may use ``$now`` and the parameters ``more``.

    A mark that is there already says nothing: a publication may have read the file before this change, and removes its marks
    when it is in force.
    """
    parameters = {"table": table, "now": now, **(more or {})}
    con.execute(
        "INSERT INTO meta.publish_pending(change_id, table_name, bucket_from, marked_at) "
        "SELECT CAST(uuid() AS VARCHAR), $table, bucket, $now::TIMESTAMP FROM ("
        f"SELECT DISTINCT time_bucket(INTERVAL 10 MINUTE, t) AS bucket FROM ({select}) AS i(t)) AS b",
        parameters,
    )


def mark_whole_table(con: duckdb.DuckDBPyConnection, served: Served, now: datetime) -> None:
    """Mark every file of a table, for a lake that does not have it yet."""
    if served.at is None:
        if served.name == "core.job_figure":
            con.execute("INSERT INTO meta.publish_job SELECT DISTINCT source_id, job_id FROM raw.job_run")
        mark(con, served.name, "SELECT NULL::TIMESTAMP", now)
        return
    # Older than this there are no files of ten minutes, and one mark an hour is enough.
    fine = "CASE WHEN t >= $now::TIMESTAMP - INTERVAL 3 HOUR THEN t ELSE date_trunc('hour', t) END"
    if served.name == TASK:
        con.execute("DELETE FROM meta.publish_task")
    instants = f"SELECT {served.at} AS t FROM {served.base}"
    select = f"SELECT {fine} FROM ({instants}) GROUP BY 1"
    mark(con, served.name, select, now)


def resolve(con: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """Turn changed tasks and jobs into marks of files. The caller holds a transaction."""
    _resolve_jobs(con, now)
    changed = "SELECT 1 FROM meta.publish_task UNION ALL SELECT 1 FROM meta.publish_pending LIMIT 1"
    if con.execute(changed).fetchall():
        mark(con, SLOTS, "SELECT NULL::TIMESTAMP", now)
    if not con.execute("SELECT 1 FROM meta.publish_task LIMIT 1").fetchall():
        return
    con.execute("CREATE OR REPLACE TEMP TABLE moved AS SELECT DISTINCT task_hash FROM meta.publish_task")
    hot = f"TIMESTAMP '{now - _HOT}'"
    for rows in (
        f"SELECT key_hash AS task_hash, created_at AS t FROM raw.task WHERE created_at >= {hot}",
        f"SELECT key_hash AS task_hash, {_TASK_AT} AS t FROM core.task",
    ):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE placed AS SELECT task_hash, t FROM ({rows}) "
            "WHERE task_hash IN (SELECT task_hash FROM moved)"
        )
        mark(con, TASK, "SELECT t FROM placed WHERE t IS NOT NULL", now)
        con.execute("DELETE FROM moved WHERE task_hash IN (SELECT task_hash FROM placed)")
        if not con.execute("SELECT 1 FROM moved LIMIT 1").fetchall():
            break
    con.execute("DELETE FROM meta.publish_task")


#: ``runs`` of the jobs in ``changed_job``; those that end in the future do not exist yet (E-306). ``counts`` is false for
#: runs that were counted when retention removed them, and were loaded again.
_RUNS = """
run AS (
    SELECT r.source_id, r.job_id, r.run_key, r.outcome, r.scheduled_at, r.ended_at, r.error_message,
        r.outcome IN ('success', 'failure', 'timeout') AS finished,
        coalesce(r.duration_ms, ((epoch_us(r.ended_at) - epoch_us(r.started_at)) / 1000.0)::DECIMAL(20,3)) AS raw_ms,
        coalesce(s.max_duration_h, 168) * 3600000 AS most_ms,
        coalesce(greatest(r.scheduled_at, r.started_at, r.ended_at), r.first_seen_at) AS run_at,
        run_at IS NULL OR t.raw_from IS NULL OR run_at >= t.raw_from AS counts
    FROM {runs} AS r
    INNER JOIN changed_job AS c ON c.source_id = r.source_id AND c.job_id = r.job_id
    LEFT JOIN meta.source_setting AS s ON s.source_id = r.source_id
    LEFT JOIN meta.source_state AS t ON t.source_id = r.source_id
    WHERE r.deleted_reason IS DISTINCT FROM 'soft' AND coalesce(r.ended_at <= t.as_of
        + to_microseconds(cast(coalesce(s.future_tolerance_s, 5) * 1000000 AS BIGINT)), true)
),
timed AS (
    SELECT *, CASE WHEN finished AND raw_ms >= 0 AND raw_ms <= most_ms THEN raw_ms END AS ms FROM run
)"""
_COUNTERS = {
    "success_count": "count(*) FILTER (WHERE outcome = 'success' AND counts)",
    "failure_count": "count(*) FILTER (WHERE outcome IN ('failure', 'timeout') AND counts)",
    "timeout_count": "count(*) FILTER (WHERE outcome = 'timeout' AND counts)",
    "missed_count": "count(*) FILTER (WHERE outcome = 'missed' AND counts)",
    "skipped_count": "count(*) FILTER (WHERE outcome = 'skipped' AND counts)",
    "duration_n": "count(ms) FILTER (WHERE counts)",
    "total_duration_ms": "coalesce(sum(ms) FILTER (WHERE counts), 0)::DOUBLE",
}
_COUNTED = ", ".join(f"{sql} AS {name}" for name, sql in _COUNTERS.items())
#: Current figures of a job (M-502): counters over all runs ever stored, durations over its last 1000 finished ones.
_JOB_FIGURES = f"""
WITH {_RUNS.format(runs="raw.job_run")},
judged AS (
    SELECT *,
        CASE WHEN finished THEN row_number() OVER (
            PARTITION BY source_id, job_id, finished ORDER BY ended_at DESC NULLS LAST, run_key DESC) END AS n,
        max(ended_at) FILTER (WHERE finished) OVER (PARTITION BY source_id, job_id) AS last_end
    FROM timed
),
figure AS (SELECT source_id, job_id, {_COUNTED},
    count(*) FILTER (WHERE outcome = 'running') AS running_count,
    any_value(raw_ms) FILTER (WHERE n = 1 AND raw_ms >= 0) AS last_duration_ms,
    any_value(outcome) FILTER (WHERE n = 1) AS last_status,
    max(ended_at) FILTER (WHERE n = 1) AS last_timestamp,
    any_value(error_message) FILTER (WHERE n = 1) AS last_error,
    count(ms) FILTER (WHERE n <= 1000) AS sample_count,
    avg(ms) FILTER (WHERE n <= 1000) AS avg_duration_ms,
    quantile_cont(ms::DOUBLE, 0.5) FILTER (WHERE n <= 1000) AS p50_duration_ms,
    quantile_cont(ms::DOUBLE, 0.95) FILTER (WHERE n <= 1000) AS p95_duration_ms,
    quantile_cont(ms::DOUBLE, 0.99) FILTER (WHERE n <= 1000) AS p99_duration_ms,
    min(ms::DOUBLE) FILTER (WHERE n <= 1000) AS min_duration_ms,
    max(ms::DOUBLE) FILTER (WHERE n <= 1000) AS max_duration_ms,
    count(*) FILTER (WHERE outcome = 'missed' AND (last_end IS NULL OR scheduled_at > last_end)) AS missed_since_last
    FROM judged
    GROUP BY source_id, job_id
)
SELECT figure.* REPLACE ({", ".join(f"figure.{name} + coalesce(past.{name}, 0) AS {name}" for name in _COUNTERS)})
FROM figure LEFT JOIN core.job_past AS past ON figure.source_id = past.source_id AND figure.job_id = past.job_id
"""


def remember_runs(con: duckdb.DuckDBPyConnection, source_id: str, removed: str, end: datetime) -> None:
    """Add runs that are about to be removed to the counters of their jobs, which never go back (M-502).

    Args:
        con: Connection in the transaction that removes them, before ``raw_from`` moves.
        source_id: Their source.
        removed: Condition on ``raw.job_run`` that chooses them; ``$end`` in it is ``end``.
        end: The limit.
    """
    rows = f"FROM raw.job_run WHERE source_id = $s AND job_id IS NOT NULL AND {removed}"
    values = {"s": source_id, "end": end}
    con.execute(f"CREATE OR REPLACE TEMP TABLE changed_job AS SELECT DISTINCT source_id, job_id {rows}", values)
    if not con.execute("SELECT 1 FROM changed_job LIMIT 1").fetchall():
        return
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE past_run AS WITH gone AS (SELECT * {rows}), {_RUNS.format(runs='gone')} "
        f"SELECT source_id, job_id, {_COUNTED} FROM timed GROUP BY source_id, job_id",
        values,
    )
    summed = ", ".join(f"sum({name})" for name in _COUNTERS)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE past_job AS SELECT source_id, job_id, {summed} FROM (SELECT * FROM past_run UNION ALL "
        "SELECT * FROM core.job_past SEMI JOIN past_run USING (source_id, job_id)) GROUP BY source_id, job_id"
    )
    con.execute("DELETE FROM core.job_past WHERE (source_id, job_id) IN (SELECT (source_id, job_id) FROM past_job)")
    con.execute("INSERT INTO core.job_past SELECT * FROM past_job")


def _resolve_jobs(con: duckdb.DuckDBPyConnection, now: datetime) -> None:
    if not con.execute("SELECT 1 FROM meta.publish_job LIMIT 1").fetchall():
        return
    con.execute("CREATE OR REPLACE TEMP TABLE changed_job AS SELECT DISTINCT source_id, job_id FROM meta.publish_job")
    con.execute(
        "DELETE FROM core.job_figure WHERE (source_id, job_id) IN (SELECT (source_id, job_id) FROM changed_job)"
    )
    con.execute(f"INSERT INTO core.job_figure BY NAME {_JOB_FIGURES}")
    con.execute("DELETE FROM meta.publish_job")
    mark(con, "core.job_figure", "SELECT NULL::TIMESTAMP", now)


def _source_of(con: duckdb.DuckDBPyConnection) -> str:
    row = con.execute("SELECT source_id FROM incoming LIMIT 1").fetchone()
    return str(row[0]) if row else ""
