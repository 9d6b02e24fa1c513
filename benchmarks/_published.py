"""A published store of any size in minutes: recent tasks through the warehouse, older ones straight into its layout.

What belongs here: making files and manifest, and publications that go on while something is measured. What does not:
asking and timing (``api``, ``scrape``).
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

NOW = datetime(2026, 2, 11, 6)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Tasks younger than this are in the warehouse too, so that a publication really computes them.
RECENT = 2 * HOUR
DAYS = 30
ENDPOINTS = 100
CONFIG = """\
version: 1
sources:
  - {id: shop, preset: waverless, read_dsn_env: BENCH_DSN}
  - {id: sched, preset: scheduler, read_dsn_env: BENCH_DSN}
"""


def settings_of(folder: Path) -> Any:
    """The configuration in ``folder``, written when missing."""
    from monitoring_pipelines.config import load_settings

    os.environ["BENCH_DSN"] = "mysql://nobody:none@127.0.0.1:1/none"
    path = folder / "monitoring.yaml"
    if not path.exists():
        path.write_text(CONFIG, encoding="utf-8")
    return load_settings(path)


def fill(folder: Path, tasks: int, jobs: int = 0) -> Any:
    """A lake with ``tasks`` tasks over 30 days, hour rows of 100 endpoints and ``jobs`` jobs; the settings."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.core_tables import ensure_core
    from monitoring_pipelines.warehouse.publish import publish
    from monitoring_pipelines.warehouse.windows import prepare

    settings, clock = settings_of(folder), FixedClock(NOW)
    began = time.perf_counter()
    with Warehouse(settings.warehouse_path, clock=clock).writer("fill") as con:
        ensure_core(con)
        con.execute(
            "INSERT INTO meta.source_state (source_id, as_of, closed_through, origin) VALUES ('shop', ?, ?, ?)",
            [NOW, NOW, NOW - DAYS * DAY],
        )
        prepare(con)
        step_ms = DAYS * DAY / timedelta(milliseconds=1) / tasks
        add_tasks(con, 0, int(RECENT / timedelta(milliseconds=step_ms)), step_ms)
        _add_statistics(con)
        _add_jobs(con, jobs)
        while publish(con, settings.lake_path, clock, budget_s=600).waiting:
            pass
        _write_older(con, settings.lake_path, tasks, step_ms)
    print(f"{tasks:,} tasks published in {time.perf_counter() - began:.0f} s", flush=True)
    return settings


def _sequence(first: int, last: int, step_ms: float) -> str:
    """Tasks ``first <= i < last``, newest first: key, endpoint, status, creation and end."""
    return (
        "(SELECT i, 'task-' || lpad(to_hex(hash(i)), 16, '0') AS k, 'ep-' || hash(i) % 100 AS endpoint, "
        "CASE hash(i) // 100 % 50 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END AS s, "
        f"hash(i) // 5000 % 40 <> 0 AS good, TIMESTAMP '{NOW}' - to_microseconds((i * {step_ms} * 1000)::BIGINT + 30000000) AS c "
        f"FROM range({first}, {last}) AS t(i))"
    )


def add_tasks(con: Any, first: int, last: int, step_ms: float) -> None:
    """Tasks with an attempt, events and mostly an output in the warehouse, as a tick leaves them."""
    tasks = _sequence(first, last, step_ms)
    key = "md5_number_lower(concat_ws(chr(31), 'shop', {}))"
    con.execute(
        "INSERT INTO raw.task BY NAME SELECT 'shop' AS source_id, k AS task_key, endpoint, s AS status, upper(s) AS raw_status, "
        "c AS created_at, c AS started_at, c + INTERVAL 12 SECOND AS ended_at, c + INTERVAL 12 SECOND AS effective_end, "
        "true AS output_expected, false AS is_deleted, c AS first_seen_at, c AS changed_at, "
        f"{key.format('k')} AS key_hash, {key.format('k')} AS task_hash FROM {tasks}"
    )
    con.execute(
        "INSERT INTO core.task_attempt BY NAME SELECT 'shop' AS source_id, k AS task_key, 1 AS attempt_no, endpoint, "
        "'w-' || i % 500 AS worker_key, c AS started_at, c + INTERVAL 12 SECOND AS ended_at, "
        "CASE s WHEN 'succeeded' THEN 'completed' ELSE s END AS outcome, true AS counted, 12000 AS execution_ms, "
        f"0 AS late_event_count, {key.format('k')} AS task_hash FROM {tasks}"
    )
    con.execute(
        "INSERT INTO raw.task_output BY NAME SELECT 'shop' AS source_id, k AS output_key, k AS task_key, 'f' AS name, "
        "c + INTERVAL 12 SECOND AS created_at, false AS is_deleted, 'app' AS origin, true AS valid, k AS natural_key, "
        f"c AS first_seen_at, {key.format('k')} AS task_hash, {key.format('k')} AS key_hash FROM {tasks} WHERE s = 'succeeded' AND good"
    )
    con.execute(
        "INSERT INTO raw.task_event BY NAME SELECT 'shop' AS source_id, kind || k AS event_key, k AS task_key, endpoint, "
        'kind AS event_type, upper(kind) AS raw_type, c + to_seconds(after) AS "at", c AS first_seen_at, '
        f"{key.format('k')} AS task_hash, {key.format('kind || k')} AS key_hash FROM {tasks}, "
        "(VALUES ('created', 0), ('started', 1), ('completed', 12)) AS e(kind, after)"
    )
    con.execute(f"INSERT INTO meta.publish_task SELECT {key.format('k')} FROM {tasks}")


_STATISTICS = {
    "source_id": "'shop'", "endpoint": "'ep-' || e", "tasks_submitted": "100", "tasks_completed": "98", "tasks_failed": "2",
    "tasks_timeout": "0", "tasks_cancelled": "0", "execution_n": "98", "execution_sum_ms": "1176000",
    "min_execution_ms": "12000", "max_execution_ms": "12000", "exec_hist": """'{"469": 98}'""", "queue_hist": """'{"366": 98}'""",
    "execution_time_distribution": """'{"0-500": 0, "500-1000": 0, "1000-1500": 0, "1500-2000": 0, "2000-3000": 0, '
                                   '"3000-5000": 0, "5000+": 98}'""",
    "quality": "'exact'", "worker_source": "'lifecycle'", "state": "'closed'", "revision": "1",
    "first_closed_at": f"TIMESTAMP '{NOW}'",
}  # fmt: skip


def _add_statistics(con: Any) -> None:
    con.execute(
        "INSERT INTO raw.endpoint (source_id, endpoint, status, first_seen_at) "
        f"SELECT 'shop', 'ep-' || i, 'active', ? FROM range({ENDPOINTS}) AS t(i)",
        [NOW],
    )
    for grain, column, step, count in (
        ("hourly", "stat_hour", "HOUR", 24 * DAYS),
        ("minute", "stat_minute", "MINUTE", 2 * 1440),
    ):
        values = _STATISTICS | {column: f"TIMESTAMP '{NOW}' - (n + 1) * INTERVAL 1 {step}"}
        kinds = con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'mart' AND table_name = ?",
            [f"endpoint_{grain}_stats"],
        ).fetchall()
        # Every number has one, as in a real store: columns without values would cost nothing to read.
        values = {
            name: f"(n * 31 + e * 7) % 97::{kind}"
            for name, kind in kinds
            if kind not in ("VARCHAR", "BOOLEAN", "JSON", "DATE") and not kind.startswith("TIMESTAMP")
        } | values
        listed = ", ".join(f'{value} AS "{name}"' for name, value in values.items())
        con.execute(
            f"INSERT INTO mart.endpoint_{grain}_stats BY NAME SELECT {listed} "
            f"FROM range($n) AS a(n), range({ENDPOINTS}) AS b(e)",
            {"n": count},
        )
        unit = "hour" if grain == "minute" else "day"
        con.execute(
            "INSERT INTO meta.publish_pending(change_id, table_name, bucket_from, marked_at) SELECT uuid()::VARCHAR, "
            f"'mart.endpoint_{grain}_stats', b, ? FROM (SELECT DISTINCT date_trunc('{unit}', {column}) AS b "
            f"FROM mart.endpoint_{grain}_stats)",
            [NOW],
        )


def _add_jobs(con: Any, jobs: int) -> None:
    """Jobs that ran three times an hour for a day."""
    con.execute(
        "INSERT INTO raw.job BY NAME SELECT 'sched' AS source_id, 'job-' || i AS job_id, 'Job ' || i AS name, "
        f"'team ' || i % 20 AS owner, 'class ' || i % 10 AS category, '*/20 * * * *' AS schedule, true AS enabled, ? AS first_seen_at FROM range({jobs}) AS t(i)",
        [NOW - DAY],
    )
    con.execute(
        "INSERT INTO raw.job_run BY NAME SELECT 'sched' AS source_id, 'run-' || i || '-' || n AS run_key, 'job-' || i AS job_id, "
        "t AS scheduled_at, t AS started_at, t + INTERVAL 2 SECOND AS ended_at, t AS first_seen_at, "
        "CASE WHEN (i + n) % 37 = 0 THEN 'failure' ELSE 'success' END AS outcome FROM ("
        f"SELECT i, n, ?::TIMESTAMP - INTERVAL 20 MINUTE * (n + 1) AS t FROM range({jobs}) AS j(i), range(12) AS u(n))",
        [NOW],
    )
    con.execute("INSERT INTO meta.publish_job SELECT 'sched', 'job-' || i FROM range(?) AS t(i)", [jobs])


#: Values of the columns of ``core.task``; columns that are not named are NULL.
_VALUES = {
    "source_id": "'shop'", "task_key": "k", "task_hash": "md5_number_lower(concat_ws(chr(31), 'shop', k))", "bucket_at": "c",
    "endpoint": "endpoint", "status": "s", "raw_status": "upper(s)", "worker_key": "w", "created_at": "c", "started_at": "c",
    "ended_at": "c + INTERVAL 12 SECOND", "effective_end": "c + INTERVAL 12 SECOND", "output_expected": "true",
    "is_deleted": "false", "outputs": "o", "outputs_live": "o", "distinct_outputs": "o", "outputs_invalid": "0", "attempts": "1", "open_attempts": "0",
    "completed": "(s = 'succeeded')::INT", "failed": "(s = 'failed')::INT", "timed_out": "0",
    "cancelled": "(s = 'cancelled')::INT", "lost": "0", "leaked": "0", "late_events": "0", "execution_n": "1",
    "execution_sum_ms": "12000",
    "attempt_list": "[{'attempt_no': 1, 'worker_key': w, 'started_at': c, 'ended_at': c + INTERVAL 12 SECOND, 'outcome': s, "
                    "'counted': true, 'execution_ms': 12000, 'late_event_count': 0}]",
    "output_list": "CASE WHEN o = 1 THEN [{'created_at': c + INTERVAL 12 SECOND, 'output_key': k, 'name': 'f', 'origin': 'app', "
                   "'valid': true, 'live': true}] END",
    "event_list": "[{'at': c, 'event_key': 'created' || k, 'event_type': 'created', 'raw_type': 'CREATED'}, "
                  "{'at': c + INTERVAL 1 SECOND, 'event_key': 'started' || k, 'event_type': 'started', 'raw_type': 'STARTED'}, "
                  "{'at': c + INTERVAL 12 SECOND, 'event_key': 'done' || k, 'event_type': 'completed', 'raw_type': 'COMPLETED'}]",
}  # fmt: skip


def _write_older(con: Any, lake: Path, tasks: int, step_ms: float) -> None:
    """Add the files of older tasks as publishing would have written them: hours of today, days before."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.publish import Publication
    from monitoring_pipelines.warehouse.serving import ROW_GROUP, TASK
    from monitoring_pipelines.warehouse.task_summaries import SMALL

    con.execute("CREATE OR REPLACE TEMP TABLE shape AS SELECT * FROM (" + _shape(con) + ") LIMIT 0")
    columns = [row[0] for row in con.execute("DESCRIBE shape").fetchall()]
    with Publication(lake, FixedClock(NOW), budget_s=3600) as publication:
        publication.stage(con)
        while publication.is_unfinished:
            publication.go_on(con)
        end = NOW - RECENT
        while end > NOW - DAYS * DAY:
            day = end.replace(hour=0)
            today = end > NOW.replace(hour=0)
            start = max(end - HOUR if today else (day if end > day else day - DAY), NOW - DAYS * DAY)
            key = f"{start:%Y-%m-%dT%H}" if today else f"{start:%Y-%m-%d}"
            first, last = (
                max(0, int(((NOW - at) / timedelta(milliseconds=1) - 30000) / step_ms) + 1) for at in (end, start)
            )
            rows = ", ".join(f'{_VALUES.get(name, "NULL")} AS "{name}"' for name in columns)
            sequence = _sequence(first, min(tasks, last), step_ms)
            con.execute("DELETE FROM shape")
            con.execute(
                f"INSERT INTO shape BY NAME SELECT {rows} FROM (SELECT *, (s = 'succeeded' AND good)::INT AS o, "
                f"'w-' || i % 500 AS w FROM {sequence})"
            )
            kinds = publication._base.tables[TASK].columns
            publication._copy(con, TASK, key, kinds, "SELECT * FROM shape ORDER BY bucket_at DESC, source_id, task_key",
                              f"{SMALL}, ROW_GROUP_SIZE {ROW_GROUP}")  # fmt: skip
            publication._stage_summaries(con, key)
            end = start
        publication.commit()


def _shape(con: Any) -> str:
    from monitoring_pipelines.warehouse.serving import SERVED, TASK

    return SERVED[TASK].query(datetime.min, datetime.min)


def tick(folder: str, seconds: str, pause: str) -> None:
    """Publish new tasks and samples again and again for so many seconds: what a running pipeline does to its readers."""
    from benchmarks._records import add_newer_samples
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.publish import publish

    settings = settings_of(Path(folder))
    with Warehouse(settings.warehouse_path, clock=FixedClock(NOW)).writer("tick") as con:
        # After those of earlier runs: the same keys again would be one task with ever more attempts and events.
        added = con.execute("SELECT count(*) FROM raw.task WHERE created_at > ? - INTERVAL 30 SECOND", [NOW]).fetchall()
    until, number = time.monotonic() + float(seconds), added[0][0] // 300 + 1
    while time.monotonic() < until:
        with Warehouse(settings.warehouse_path, clock=FixedClock(NOW)).writer("tick") as con:
            add_tasks(con, -300 * number, -300 * (number - 1), 0.1)
            add_newer_samples(con, number)
            publish(con, settings.lake_path, FixedClock(NOW))
        number += 1
        time.sleep(float(pause))


if __name__ == "__main__":
    import sys

    tick(*sys.argv[1:])
