"""The worked example of the statistics, from rows in a real MariaDB to rows in the warehouse.

What belongs here: the whole path with hand-computed figures. What does not: single rules (sql/ and source/ tests).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines import pipeline
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.warehouse.connect import Warehouse

DDL = (
    """create table tasks (id bigint auto_increment primary key, task_id varchar(255) unique, endpoint varchar(255),
       status varchar(50), worker_id varchar(255), input json, output json, error text, created_at datetime(3),
       started_at datetime(3), completed_at datetime(3), updated_at datetime(3), key (completed_at), key (created_at))""",
    """create table task_events (id bigint auto_increment primary key, event_id varchar(64) unique, task_id varchar(255),
       endpoint varchar(255), event_type varchar(50), event_time datetime(3), worker_id varchar(255), error_message text,
       queue_wait_ms int, execution_duration_ms int, total_duration_ms int, metadata json, key (event_time))""",
    """create table workers (id bigint auto_increment primary key, worker_id varchar(255) unique, endpoint varchar(255),
       status varchar(50), concurrency int, current_jobs int, created_at datetime(3), updated_at datetime(3),
       pod_created_at datetime(3), pod_started_at datetime(3), pod_ready_at datetime(3), terminated_at datetime(3),
       cold_start_duration_ms bigint, last_heartbeat datetime(3), last_task_time datetime(3), failure_type varchar(64),
       failure_reason varchar(255))""",
)
WORKERS = (
    # worker, status, ready, terminated
    ("p", "OFFLINE", "10:00:00", "10:30:00"),
    ("q", "OFFLINE", "10:02:30", "10:04:20"),
)
TASKS = (
    # task, status, worker, created, started, completed
    ("T1", "COMPLETED", "p", "10:02:07", "10:02:12", "10:03:18"),
    ("T2", "COMPLETED", "p", "10:02:40", "10:05:16", "10:05:46"),
    ("T3", "FAILED", "p", "10:03:58.400", "10:04:00", "10:04:09"),
)
EVENTS = (
    ("T1", "TASK_CREATED", "10:02:07", ""), ("T1", "TASK_ASSIGNED", "10:02:12", "p"), ("T1", "TASK_COMPLETED", "10:03:18", "p"),
    ("T2", "TASK_CREATED", "10:02:40", ""), ("T2", "TASK_ASSIGNED", "10:02:44", "q"), ("T2", "TASK_ORPHANED", "10:05:10", "q"),
    ("T2", "TASK_REQUEUED", "10:05:10", ""), ("T2", "TASK_ASSIGNED", "10:05:16", "p"), ("T2", "TASK_COMPLETED", "10:05:46", "p"),
    ("T3", "TASK_CREATED", "10:03:58.400", ""), ("T3", "TASK_ASSIGNED", "10:04:00", "p"), ("T3", "TASK_FAILED", "10:04:09", "p"),
)  # fmt: skip
DAY = "2026-03-01"
HOUR_TABLES = ("mart.endpoint_minute_stats", "mart.endpoint_hourly_stats")
COLUMNS = (
    "tasks_submitted, tasks_completed, tasks_failed, tasks_retried, avg_queue_wait_ms, avg_execution_ms, active_workers, "
    "idle_workers, busy_ms, online_ms, avg_worker_utilization, idle_ms, idle_spells, avg_idle_duration_sec, "
    "max_idle_duration_sec, idle_count, workers_created, workers_terminated"
)
MINUTES = {
    2: (2, 0, 0, 0, 4500, None, 2, 0, 64_000, 90_000, 71.11, 26_000, 2, 13, 14, 0, 1, 0),
    3: (1, 1, 0, 0, None, 66_000, 2, 0, 78_000, 120_000, 65.00, 42_000, 1, 42, 42, 1, 0, 0),
    4: (0, 0, 1, 0, 1600, None, 2, 0, 29_000, 80_000, 36.25, 51_000, 1, 51, 51, 1, 0, 1),
    5: (0, 1, 0, 1, 6000, 30_000, 1, 0, 30_000, 60_000, 50.00, 30_000, 2, 15, 16, 1, 0, 0),
}
HOUR = (3, 2, 1, 1, 4150, 48_000, 2, 0, 201_000, 1_910_000, 10.52, 1_709_000, 5, 341.8, 1454, 3, 2, 2)


def _at(clock: str) -> str:
    return f"{DAY} {clock}"


@pytest.fixture
def platform(mariadb_db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A waverless platform with the example's rows and a configuration that reads it; returns the configuration."""
    for statement in DDL:
        mariadb_db.execute(statement)
    for worker, status, ready, end in WORKERS:
        mariadb_db.execute(
            "insert into workers (worker_id, endpoint, status, concurrency, pod_ready_at, terminated_at, created_at) "
            "values (%s, 'e', %s, 1, %s, %s, %s)",
            (worker, status, _at(ready), _at(end), _at(ready)),
        )
    for task, status, worker, created, started, completed in TASKS:
        mariadb_db.execute(
            "insert into tasks (task_id, endpoint, status, worker_id, created_at, started_at, completed_at, updated_at) "
            "values (%s, 'e', %s, %s, %s, %s, %s, %s)",
            (task, status, worker, _at(created), _at(started), _at(completed), _at(completed)),
        )
    for number, (task, kind, instant, worker) in enumerate(EVENTS):
        mariadb_db.execute(
            "insert into task_events (event_id, task_id, endpoint, event_type, event_time, worker_id) "
            "values (%s, %s, 'e', %s, %s, %s)",
            (f"ev{number}", task, kind, _at(instant), worker),
        )
    monkeypatch.setenv("EXAMPLE_DSN", mariadb_db.dsn)
    path = tmp_path / "monitoring.yaml"
    path.write_text("version: 1\nsources:\n  - {id: shop, preset: waverless, read_dsn_env: EXAMPLE_DSN}\n")
    return path


def _run(settings: Settings, now: datetime) -> None:
    """One tick, then every partition it leaves to partition runs, as the sensor would request them."""
    pipe = Pipeline.of(settings, FixedClock(now))
    pipeline.tick(pipe)
    left = pipeline.backlog(pipe)
    for hour in left.hours:
        list(pipeline.compute_range(pipe, HOUR_TABLES, hour, hour + timedelta(hours=1)))
    pipeline.tick(pipe)


def _rows(warehouse: Warehouse, sql: str) -> list[tuple]:
    with warehouse.reader() as con:
        return con.execute(sql).fetchall()


def _plain(row: tuple) -> tuple:
    return tuple(None if value is None else round(float(value), 3) for value in row)


def test_worked_example_from_mariadb_to_minute_hour_and_day_rows(platform: Path) -> None:
    """Section 10 of the statistics, column by column; the day equals its hour (M-104, M-311, M-903)."""
    settings = load_settings(platform)
    _run(settings, datetime(2026, 3, 2, 0, 5))
    warehouse = Warehouse(settings.warehouse_path)
    got = _rows(
        warehouse,
        f"select minute(stat_minute), {COLUMNS} from mart.endpoint_minute_stats "
        f"where stat_minute >= '{DAY} 10:02' and stat_minute < '{DAY} 10:06' order by stat_minute",
    )
    assert {row[0]: _plain(row[1:]) for row in got} == {minute: _plain(row) for minute, row in MINUTES.items()}
    hour = _rows(warehouse, f"select {COLUMNS}, p95_execution_ms, state from mart.endpoint_hourly_stats "
                 f"where stat_hour = '{DAY} 10:00'")  # fmt: skip
    assert [_plain(row[:-1]) for row in hour] == [_plain((*HOUR, 64_200))]
    assert hour[0][-1] == "closed"
    day = _rows(warehouse, f"select {COLUMNS}, p95_execution_ms, state from mart.endpoint_daily_stats "
                f"where stat_date = '{DAY}'")  # fmt: skip
    assert [_plain(row[:-1]) for row in day] == [_plain((*HOUR, 64_200))]
    assert day[0][-1] == "closed"


def test_second_tick_writes_nothing_new(platform: Path) -> None:
    """Recomputing yields equal values and leaves revision 1 (M-804)."""
    settings = load_settings(platform)
    _run(settings, datetime(2026, 3, 2, 0, 5))
    _run(settings, datetime(2026, 3, 2, 0, 6))
    warehouse = Warehouse(settings.warehouse_path)
    for grain in ("minute", "hourly", "daily"):
        assert _rows(warehouse, f"select distinct revision, restated_at from mart.endpoint_{grain}_stats") == [
            (1, None)
        ]


def test_late_row_restates_exactly_the_buckets_it_touches(platform: Path, mariadb_db) -> None:
    """A late event raises the revision of its minute, hour and day and of nothing else (M-803, M-804)."""
    settings = load_settings(platform)
    _run(settings, datetime(2026, 3, 2, 0, 5))
    mariadb_db.execute(
        "insert into task_events (event_id, task_id, endpoint, event_type, event_time, worker_id) "
        f"values ('late', 'T9', 'e', 'TASK_CREATED', '{_at('10:20:30')}', '')"
    )
    mariadb_db.execute(
        "insert into task_events (event_id, task_id, endpoint, event_type, event_time, worker_id) "
        f"values ('late2', 'T9', 'e', 'TASK_CANCELLED', '{_at('10:20:40')}', '')"
    )
    _run(settings, datetime(2026, 3, 2, 0, 10))
    warehouse = Warehouse(settings.warehouse_path)
    restated = _rows(warehouse, "select stat_minute, tasks_submitted, tasks_cancelled from mart.endpoint_minute_stats "
                     "where revision > 1")  # fmt: skip
    assert restated == [(datetime(2026, 3, 1, 10, 20), 1, 1)]
    assert _rows(
        warehouse, "select stat_hour, tasks_submitted, revision from mart.endpoint_hourly_stats where revision > 1"
    ) == [(datetime(2026, 3, 1, 10), 4, 2)]
    assert _rows(warehouse, "select tasks_submitted, revision from mart.endpoint_daily_stats where revision > 1") == [
        (4, 2)
    ]
