"""Reconciliation against a real server: whatever happened at the source, the store ends equal to it, and says so."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.errors import SourceUnavailable
from monitoring_pipelines.source.lookup import lookup_tasks
from monitoring_pipelines.source.reconcile import (
    MOST_ID_RANGES,
    ReconcileResult,
    reconcile_day,
    reconcile_undated,
    verify_source,
)
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines_tests.support.mysql_server import TestDatabase, TestServer
from monitoring_pipelines_tests.support.source_tables import TABLES, VARIABLE, settings_for

NOW = datetime(2026, 2, 3, 12, 0, 30)
DAY = date(2026, 2, 1)
START = datetime(2026, 2, 1)
STATUS = {"PENDING": "queued", "IN_PROGRESS": "running", "COMPLETED": "succeeded", "FAILED": "failed"}


class Bench:
    """One source, one store, one clock."""

    def __init__(self, directory: Path, database: TestDatabase, preset: str | None, extra: str = "", head: str = "",
                 suffix: str = "") -> None:  # fmt: skip
        os.environ[VARIABLE] = database.dsn + suffix
        self.db = database
        self.settings = settings_for(directory, preset, extra, head)
        self.source = self.settings.sources[0]
        self.clock = FixedClock(NOW)
        self.warehouse = Warehouse(directory / "w.duckdb", clock=self.clock)

    def day(self, day: date = DAY, entity: str | None = None, **options: Any) -> dict[str, ReconcileResult]:
        results = reconcile_day(self.settings, self.source, self.warehouse, self.clock, day, entity, **options)
        return {f"{r.entity}:{r.src_table}": r for r in results}

    def undated(self, entity: str | None = None) -> dict[str, ReconcileResult]:
        results = reconcile_undated(self.settings, self.source, self.warehouse, self.clock, entity)
        return {f"{r.entity}:{r.src_table}": r for r in results}

    def all(self, *days: date) -> list[ReconcileResult]:
        results = [r for day in days or (DAY,) for r in self.day(day).values()]
        return results + list(self.undated().values())

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse.reader("test") as con:
            return con.execute(sql).fetchall()


@pytest.fixture
def bench(tmp_path: Path, mariadb_db: TestDatabase) -> Iterator[Callable[..., Bench]]:
    before = os.environ.get(VARIABLE)

    def make(preset: str | None, extra: str = "", head: str = "", ddl: str | None = None, suffix: str = "") -> Bench:
        mariadb_db.execute("set sql_mode = ''")
        mariadb_db.script(TABLES[preset] if ddl is None and preset else ddl or "")
        return Bench(tmp_path, mariadb_db, preset, extra, head, suffix)

    yield make
    if before is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = before


def add_tasks(db: TestDatabase, first: int, count: int, start: datetime = START, step: float = 20) -> None:
    """Tasks ``first`` … of which every seventh failed, every eleventh runs and every thirteenth has no worker."""
    rows = []
    for n in range(first, first + count):
        at = start + timedelta(seconds=step * (n - first), microseconds=(n * 137 % 1000) * 1000)
        status = "FAILED" if n % 7 == 0 else "IN_PROGRESS" if n % 11 == 0 else "COMPLETED"
        done = None if status == "IN_PROGRESS" else at + timedelta(seconds=31)
        rows.append((f"t-{n}", f"ep-{n % 3}", status, "" if n % 13 == 0 else f"w-{n % 5}", "{}" if done else None,
                     "boom é😀" if status == "FAILED" else None, at, at, done, done or at))  # fmt: skip
    db.executemany(
        "insert into tasks (task_id, endpoint, status, worker_id, output, error, created_at, started_at, completed_at, "
        "updated_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        rows,
    )


def at_source(db: TestDatabase) -> set[tuple[Any, ...]]:
    """The tasks in unified terms, computed in the test and not by the product."""
    return {
        (
            key,
            endpoint or "_unassigned",
            STATUS[status],
            worker or None,
            created,
            ended,
            (error or None) and error[:500],
            ident,
        )
        for key, endpoint, status, worker, created, ended, error, ident in db.execute(
            "select task_id, endpoint, status, worker_id, created_at, completed_at, error, id from tasks"
        )
    }


def in_store(bench: Bench) -> set[tuple[Any, ...]]:
    rows = bench.raw(
        "select task_key, endpoint, status, worker_key, created_at, ended_at, error_message, row_id from raw.task "
        "where deleted_at is null"
    )
    assert len(rows) == len(set(rows)) == len({row[0] for row in rows})
    return set(rows)


def test_first_load_is_equal_and_a_second_run_reads_nothing_again(bench: Callable[..., Bench]) -> None:
    """E-609: an empty store is a range that differs; afterwards the proof needs no rows."""
    b = bench("waverless")
    add_tasks(b.db, 1, 3000)
    first = b.day()["task:tasks"]
    assert first.equal
    assert (first.source_rows, first.store_rows, first.rows_reread) == (3000, 3000, 3000)
    assert in_store(b) == at_source(b.db)
    second = b.day()["task:tasks"]
    assert second.equal
    assert (second.ranges, second.ranges_reread, second.rows_reread, second.source_rows) == (24, 0, 0, 3000)
    stored = b.raw(
        "select equal, verified_at, source_rows, store_rows from meta.reconciliation where src_table = 'tasks'"
    )
    assert stored == [(True, NOW, 3000, 3000)]


def _fill_waverless(db: TestDatabase) -> None:
    add_tasks(db, 1, 200)
    db.executemany(
        "insert into task_events (event_id, task_id, endpoint, event_type, event_time, worker_id, queue_wait_ms) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        [(f"e{n}", f"t-{n % 200}", "ep", ("TASK_CREATED", "TASK_STARTED", "TASK_COMPLETED", "ODD")[n % 4],
          START + timedelta(seconds=n * 60, milliseconds=n), "", n) for n in range(600)],
    )  # fmt: skip
    db.executemany(
        "insert into worker_resource_snapshots (worker_id, endpoint, snapshot_at, is_idle, gpu_utilization, "
        "gpu_memory_used_mb, gpu_memory_total_mb) values (%s, %s, %s, %s, %s, %s, %s)",
        [(f"w-{n % 5}", None, START + timedelta(minutes=n), n % 2, n % 100, n % 2, 0) for n in range(500)],
    )
    db.executemany(
        "insert into workers (worker_id, endpoint, status, concurrency, created_at, pod_ready_at, last_heartbeat) "
        "values (%s, 'ep', 'ONLINE', 1, %s, %s, %s)",
        [(f"w-{n}", START, START + timedelta(seconds=40), START + timedelta(hours=3)) for n in range(5)],
    )
    db.executemany(
        "insert into status_events (worker_id, endpoint, event_type, created_at, new_status) values (%s, 'ep', %s, %s, 'x')",
        [(f"w-{n % 5}", ("PHASE_CHANGE", "FAILURE")[n % 2], START + timedelta(minutes=n)) for n in range(50)],
    )


def _fill_tktool(db: TestDatabase) -> None:
    db.executemany(
        "insert into tasks values (%s, 'wf', %s, '', %s, %s, %s, %s)",
        [(f"k{n}", ("SUCCESS", "FAILED", "RUNNING", None)[n % 4], START + timedelta(minutes=n), None,
          START + timedelta(minutes=n + 5) if n % 4 < 2 else None, START + timedelta(minutes=n + n % 9))
         for n in range(300)],
    )  # fmt: skip
    db.executemany(
        "insert into task_outputs (task_id, node_id, name, file_type, file_size, file_url, created_at) "
        "values (%s, %s, 'n', 'png', %s, %s, %s)",
        [
            (f"k{n % 300}", n % 3, n % 4 * 1000, f"https://x/{n}.png?sig=1", START + timedelta(minutes=n))
            for n in range(400)
        ],
    )


def _fill_tts(db: TestDatabase) -> None:
    db.executemany(
        "insert into tts_texts (user_id, content, is_deleted, created_at, updated_at) values (1, 'secret', %s, %s, %s)",
        [(n % 10 == 0, START + timedelta(minutes=n), START + timedelta(minutes=n)) for n in range(200)],
    )
    db.executemany(
        "insert into tts_audios (text_id, version_num, filename, oss_object_key, file_size, is_deleted, created_at, "
        "updated_at) values (%s, 1, 'a.MP3', 'k', %s, %s, %s, %s)",
        [(n, n * 100, n % 20 == 0, START + timedelta(minutes=n, seconds=50), START + timedelta(minutes=n + 1))
         for n in range(1, 190)],
    )  # fmt: skip


def _fill_scheduler(db: TestDatabase) -> None:
    db.executemany(
        "insert into scheduler_task_configs (task_id, task_name, is_enabled, risk_level, cron_config, sla_config, updated_at) "
        "values (%s, 'n', %s, 'HIGH', '{\"hour\": \"3\"}', '{\"max_execution_time_seconds\": 60}', %s)",
        [(f"job{n}", n % 2, START) for n in range(20)],
    )
    db.executemany(
        "insert into mp_job_runs (run_key, job_id, scheduled_at, started_at, ended_at, duration_ms, outcome, attempt, "
        "`trigger`) values (%s, %s, %s, %s, %s, %s, %s, 1, 'schedule')",
        [(f"r{n}", f"job{n % 20}", START + timedelta(minutes=n), None if n % 50 == 0 else START + timedelta(minutes=n, microseconds=n),
          START + timedelta(minutes=n + 1), 60000.125, ("success", "failed", "skipped")[n % 3]) for n in range(500)],
    )  # fmt: skip


FILL = {"waverless": _fill_waverless, "tktool": _fill_tktool, "tts": _fill_tts, "scheduler": _fill_scheduler}
KEYS = {
    "task": "task_key", "task_event": "event_key", "task_output": "output_key", "worker": "worker_key", "job": "job_id",
    "worker_event": "event_key", "worker_snapshot": "snapshot_key", "job_run": "run_key",
}  # fmt: skip
SOURCE_KEYS = {
    "waverless": {"task": "select task_id from tasks", "task_event": "select event_id from task_events",
                  "worker": "select worker_id from workers", "worker_event": "select concat('s', id) from status_events",
                  "worker_snapshot": "select cast(id as char) from worker_resource_snapshots"},
    "tktool": {"task": "select task_id from tasks", "task_output": "select cast(id as char) from task_outputs"},
    "tts": {"task": "select cast(id as char) from tts_texts", "task_output": "select cast(id as char) from tts_audios"},
    "scheduler": {"job": "select task_id from scheduler_task_configs", "job_run": "select run_key from mp_job_runs"},
}  # fmt: skip


@pytest.mark.parametrize("preset", list(TABLES))
def test_first_load_of_every_preset_is_complete_and_proven(bench: Callable[..., Bench], preset: str) -> None:
    """E-609, entities 9.1 to 9.4: every mapped table, dated or not, holds exactly the source's keys."""
    b = bench(preset)
    FILL[preset](b.db)
    results = b.all(DAY, DAY + timedelta(days=1))
    assert [str(r) for r in results if not r.equal] == []
    for entity, sql in SOURCE_KEYS[preset].items():
        origin = " and origin = 'source'" if entity == "worker_snapshot" else ""
        where = "src_table is not null and coalesce(deleted_reason, 'soft') = 'soft'" + origin
        stored = [row[0] for row in b.raw(f"select {KEYS[entity]} from raw.{entity} where {where}")]
        assert sorted(stored) == sorted(row[0] for row in b.db.execute(sql)), entity
    again = b.all(DAY, DAY + timedelta(days=1))
    assert [(r.entity, r.equal, r.rows_reread, r.rows_deleted) for r in again if r.rows_reread or not r.equal] == []


def test_changed_late_deleted_and_recased_rows_are_found(bench: Callable[..., Bench]) -> None:
    """E-609, E-610, E-401: what no mark can see, comparison finds, and reads little more than that again."""
    b = bench("waverless")
    add_tasks(b.db, 1, 4000)
    b.day()
    b.db.execute("update tasks set error = 'changed later' where task_id = 't-700'")
    add_tasks(b.db, 9001, 1, START + timedelta(hours=5))
    b.db.execute("delete from tasks where task_id = 't-1500'")
    b.db.execute("update tasks set task_id = 'T-2000' where task_id = 't-2000'")
    result = b.day()["task:tasks"]
    assert result.equal
    assert in_store(b) == at_source(b.db)
    assert result.rows_deleted == 2
    assert result.rows_reread == 3
    gone = b.raw("select task_key, deleted_reason, deleted_at from raw.task where deleted_at is not null order by 1")
    assert gone == [("t-1500", "hard", NOW), ("t-2000", "hard", NOW)]


def test_rows_the_source_dropped_by_age_are_marked_retention(bench: Callable[..., Bench]) -> None:
    """E-610: older than ``retention_days`` is retention, younger is hard."""
    b = bench("waverless", extra="retention_days: 1")
    add_tasks(b.db, 1, 10)
    add_tasks(b.db, 11, 10, START + timedelta(days=2))
    b.day()
    b.day(DAY + timedelta(days=2))
    b.db.execute("delete from tasks where task_id in ('t-3', 't-13')")
    assert b.day()["task:tasks"].rows_deleted == 1
    assert b.day(DAY + timedelta(days=2))["task:tasks"].rows_deleted == 1
    found = b.raw("select task_key, deleted_reason from raw.task where deleted_at is not null order by 1")
    assert found == [("t-13", "hard"), ("t-3", "retention")]


def test_a_deleted_row_that_returns_is_alive_again(bench: Callable[..., Bench]) -> None:
    """E-610: the store follows the source in both directions."""
    b = bench("waverless")
    add_tasks(b.db, 1, 10)
    b.day()
    b.db.execute("delete from tasks where task_id = 't-4'")
    b.day()
    add_tasks(b.db, 4, 1, START + timedelta(minutes=3))
    assert b.day()["task:tasks"].equal
    assert in_store(b) == at_source(b.db)


def test_a_row_that_moved_to_another_day_is_moved_and_not_deleted(bench: Callable[..., Bench]) -> None:
    """E-610: a key that left the range is looked up before it is called gone."""
    b = bench("waverless")
    add_tasks(b.db, 1, 50)
    b.day()
    b.db.execute("update tasks set created_at = '2026-02-02 10:00:00' where task_id = 't-20'")
    result = b.day()["task:tasks"]
    assert (result.equal, result.rows_deleted, result.source_rows) == (True, 0, 49)
    assert in_store(b) == at_source(b.db)
    assert b.day(DAY + timedelta(days=1))["task:tasks"].rows_reread == 0


def test_rows_without_usable_time_are_reconciled_too(bench: Callable[..., Bench]) -> None:
    """E-304: NULL, zero, zero-month and out-of-range times belong to no day; the undated pass has them."""
    b = bench("waverless")
    add_tasks(b.db, 1, 20)
    for n, value in enumerate(("0000-00-00", "2026-02-00 00:00:00", "1969-12-31 23:59:59", "2100-01-01", None), 2):
        b.db.execute("update tasks set created_at = %s where task_id = %s", (value, f"t-{n}"))
    assert b.day(date(2026, 1, 31))["task:tasks"].source_rows == 0
    day, rest = b.day()["task:tasks"], b.undated("task")["task:tasks"]
    assert (day.equal, day.source_rows, rest.equal, rest.source_rows) == (True, 15, True, 5)
    assert b.raw("select count(*), count(created_at) from raw.task") == [(20, 15)]
    assert b.undated("task")["task:tasks"].rows_reread == 0


LOCAL = """
create table jobs (id bigint auto_increment primary key, k varchar(20), at_local datetime, at_epoch decimal(16,3),
  key (at_local), key (at_epoch));
"""
LOCAL_SOURCE = """
tables:
  task:
    table: jobs
    row_id: id
    key: k
    columns:
      endpoint: {const: main}
      status: {const: succeeded}
      created_at: {column: at_local, time: naive_local, zone: Europe/Berlin}
  job_run:
    table: jobs
    row_id: id
    key: k
    columns:
      job_id: {const: j}
      outcome: {const: success}
      trigger: {const: manual}
      started_at: {column: at_epoch, time: epoch_s}
"""


@pytest.mark.parametrize("around", [datetime(2026, 3, 29), datetime(2026, 10, 25)])
def test_local_and_epoch_times_fall_into_the_same_ranges_on_both_sides(
    bench: Callable[..., Bench], around: datetime
) -> None:
    """E-302, E-303: repeated and skipped hours are in exactly one UTC range; every row is read once."""
    b = bench(None, extra=LOCAL_SOURCE, ddl=LOCAL)
    rows = [
        (f"k{n}", around - timedelta(hours=20) + timedelta(minutes=7 * n), 1774700000 + n * 311.125) for n in range(500)
    ]
    b.db.executemany("insert into jobs (k, at_local, at_epoch) values (%s, %s, %s)", rows)
    first = around.date() - timedelta(days=2)
    days = [first + timedelta(days=n) for n in range(6)]
    results = [b.day(day, "task")["task:jobs"] for day in days]
    assert all(r.equal for r in results)
    assert sum(r.source_rows for r in results) == 500
    assert sum(r.rows_reread for r in results) == 500
    epochs = [b.day(date(2026, 3, 28) + timedelta(days=n), "job_run")["job_run:jobs"] for n in range(3)]
    assert [(r.equal, r.source_rows == r.store_rows == r.rows_reread) for r in epochs] == [(True, True)] * 3
    assert sum(r.source_rows for r in epochs) == 500


def test_a_source_killed_in_the_middle_leaves_whole_slices_and_a_rerun_completes(
    tmp_path: Path, own_mariadb: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-602, E-613: no row is half written or wrongly deleted, no proof is stored, and a repetition finishes."""
    monkeypatch.setenv(VARIABLE, "")
    db = TestDatabase(own_mariadb).create()
    db.script(TABLES["waverless"])
    b = Bench(tmp_path, db, "waverless", head="extract: {batch_rows: 300}")
    add_tasks(db, 1, 3000)
    b.day(entity="task_event")
    seen = []

    def kill(progress: Any) -> None:
        seen.append(progress.rows)
        if len(seen) == 6:
            own_mariadb.kill()

    with pytest.raises(SourceUnavailable):
        b.day(entity="task", listen=kill)
    own_mariadb.boot()
    partly = in_store(b)
    assert 0 < len(partly) < 3000
    assert partly < at_source(db)
    assert b.raw("select count(*) from meta.reconciliation where entity = 'task'") == [(0,)]
    result = b.day(entity="task")["task:tasks"]
    assert result.equal
    assert result.rows_reread == 3000 - len(partly)
    assert in_store(b) == at_source(db)


def test_writes_during_reconciliation_give_no_false_difference(bench: Callable[..., Bench]) -> None:
    """E-609: rows inserted, changed and deleted while ranges are read end equal, now or in the next run."""
    b = bench("waverless")
    add_tasks(b.db, 1, 2000)
    steps = iter(range(10_000))

    def write(progress: Any) -> None:
        n = next(steps)
        add_tasks(b.db, 50_000 + n * 5, 5, START + timedelta(hours=n % 24), 600)
        b.db.execute("delete from tasks where task_id = %s", (f"t-{n * 17 + 1}",))
        b.db.execute("update tasks set status = 'FAILED', error = 'late' where task_id = %s", (f"t-{n * 13 + 2}",))

    for _ in range(3):
        assert b.day(entity="task", listen=write)["task:tasks"].equal
    assert b.day(entity="task")["task:tasks"].equal
    assert in_store(b) == at_source(b.db)


def test_reading_more_columns_reads_every_row_again(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """E-609: the digest covers the mapped columns, so a widened mapping is a difference and never a silent gap."""
    narrow = "tables: {task: {columns: {error_message: null}}}"
    b = bench("waverless", extra=narrow)
    add_tasks(b.db, 1, 500)
    b.day(entity="task")
    assert b.raw("select count(error_message) from raw.task") == [(0,)]
    wide = Bench(tmp_path, b.db, "waverless")
    result = wide.day(entity="task")["task:tasks"]
    assert (result.equal, result.rows_reread, result.rows_deleted) == (True, 500, 0)
    assert in_store(wide) == at_source(b.db)


def test_tables_without_id_and_index_are_found_to_differ_too(bench: Callable[..., Bench]) -> None:
    """E-608, E-609: no auto-increment id, no updated_at, no index on a time."""
    b = bench("tktool")
    _fill_tktool(b.db)
    b.all()
    b.db.execute("update tasks set completed_at = completed_at + interval 1 second where task_id = 'k4'")
    b.db.execute("delete from tasks where task_id = 'k9'")
    result = b.day(entity="task")["task:tasks"]
    assert (result.equal, result.rows_reread, result.rows_deleted) == (True, 1, 1)


def test_a_slow_statement_is_cut_into_smaller_ranges(bench: Callable[..., Bench]) -> None:
    """E-601: the time limit bounds every statement; a range that hits it is halved instead of given up."""
    b = bench("waverless", head="extract: {query_timeout_s: 1}")
    add_tasks(b.db, 1, 1500, step=50)
    b.day(entity="task")
    b.db.execute("rename table tasks to tasks_base")
    b.db.execute(
        "create function slowly(x varchar(255)) returns varchar(255) deterministic return if(sleep(0.004), x, x)"
    )
    b.db.execute(
        "create sql security invoker view tasks as select id, slowly(task_id) task_id, endpoint, status, worker_id, input, "
        "output, error, created_at, started_at, completed_at, updated_at from tasks_base"
    )
    # A view shows no index; the ids of its base table still bound each statement.
    assert b.day(entity="task")["task:tasks"].equal


def test_ids_made_of_clocks_do_not_become_a_million_ranges(bench: Callable[..., Bench]) -> None:
    """E-609: far-apart row ids are compared in a bounded number of ranges, and a difference between them is found."""
    b = bench("waverless")
    add_tasks(b.db, 1, 60)
    b.db.execute("update tasks set id = id * 100000000000000000 + 7 where id <= 60")
    b.all()
    found = b.undated("task")["task:tasks"]
    assert (found.equal, found.ranges) == (True, MOST_ID_RANGES)
    b.db.execute("delete from tasks where task_id = 't-9'")
    b.db.execute("update tasks set status = 'FAILED' where task_id = 't-11'")
    assert all(r.equal for r in b.all())
    assert b.raw("select count(*) from raw.task where deleted_at is null") == [(59,)]


def test_verify_compares_and_writes_nothing(bench: Callable[..., Bench]) -> None:
    """E-609: looking is not repairing."""
    b = bench("waverless")
    add_tasks(b.db, 1, 300)
    b.all()
    before = b.raw("select * from meta.reconciliation order by all")
    args = (b.settings, b.source, b.warehouse, b.clock, DAY, DAY)
    assert all(r.equal for r in verify_source(*args))
    b.db.execute("delete from tasks where task_id = 't-7'")
    wrong = [r for r in verify_source(*args) if not r.equal]
    assert [(r.entity, r.day, r.source_rows, r.store_rows) for r in wrong] == [("task", DAY, 299, 300)]
    assert b.raw("select * from meta.reconciliation order by all") == before
    assert b.raw("select count(*) from raw.task where deleted_at is null") == [(300,)]


def test_lookup_finds_tasks_by_exact_key(bench: Callable[..., Bench]) -> None:
    """E-612, E-401: the server's collation must not answer for another key."""
    b = bench("waverless")
    add_tasks(b.db, 1, 20)
    found = lookup_tasks(b.settings, b.source, ["t-3", "T-4", "t-11", "t-99", "t-5 ", "o'x\\"], b.clock)
    assert set(found) == {"t-3", "t-11"}
    assert (found["t-3"].task["status"], found["t-3"].has_inline_output) == ("succeeded", True)
    assert (found["t-11"].task["status"], found["t-11"].has_inline_output) == ("running", False)


def test_lookup_returns_outputs(bench: Callable[..., Bench]) -> None:
    """E-612: outputs are read with their task."""
    b = bench("tts")
    _fill_tts(b.db)
    found = lookup_tasks(b.settings, b.source, ["60", "199"], b.clock)
    assert [(o["task_key"], o["size_bytes"], o["valid"]) for o in found["60"].outputs] == [("60", 6000, False)]
    assert found["199"].outputs == []


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
def test_the_zone_of_the_process_changes_nothing(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """E-005, E-301: the server's zone is +09:00, the process's another one; the days are UTC days."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        b = bench("waverless")
        _fill_waverless(b.db)
        assert all(r.equal for r in b.all())
        assert in_store(b) == at_source(b.db)
        first = b.raw("select min(\"at\") from raw.worker_snapshot where origin = 'source'")
        assert first == [(START,)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_streaming_fallback_gives_the_same_store(bench: Callable[..., Bench]) -> None:
    """E-601: options connectorx does not know make no difference to what is stored."""
    b = bench("waverless", suffix="?charset=utf8mb4")
    add_tasks(b.db, 1, 500)
    assert b.day(entity="task")["task:tasks"].equal
    assert in_store(b) == at_source(b.db)


def test_an_event_the_source_replaced_under_a_new_id_is_replaced(bench: Callable[..., Bench]) -> None:
    """E-609: rows of immutable tables do change (REPLACE INTO, a restore); the store follows, with one row per key."""
    b = bench("waverless")
    _fill_waverless(b.db)
    b.day(entity="task_event")
    for n in (5, 77):
        (row,) = b.db.execute(
            f"select event_id, task_id, event_type, event_time from task_events where event_id = 'e{n}'"
        )
        b.db.execute(f"delete from task_events where event_id = 'e{n}'")
        b.db.execute(
            "insert into task_events (event_id, task_id, event_type, event_time, worker_id) values (%s, %s, %s, %s, 'w')",
            row,
        )
    assert b.day(entity="task_event")["task_event:task_events"].equal
    stored = b.raw("select event_key, row_id, worker_key from raw.task_event where deleted_at is null")
    assert len(stored) == 600
    assert [row for row in sorted(stored) if row[2]] == [("e5", 601, "w"), ("e77", 602, "w")]
    assert b.day(entity="task_event")["task_event:task_events"].rows_reread == 0


LOOSE = (
    "create table loose (id bigint auto_increment primary key, k varchar(20), note varchar(20), t datetime, key (t))"
)
LOOSE_SOURCE = """
tables:
  task:
    table: loose
    row_id: id
    key: k
    columns: {endpoint: {const: main}, status: {const: succeeded}, created_at: t, error_message: note}
"""


def test_repeated_and_missing_keys_are_told_and_do_not_flicker(bench: Callable[..., Bench]) -> None:
    """E-007, E-602: one row of a repeated key counts, always the same one; a row without key is counted as rejected."""
    b = bench(None, extra=LOOSE_SOURCE, ddl=LOOSE)
    b.db.executemany(
        "insert into loose (k, note, t) values (%s, %s, '2026-02-01 03:00:00')",
        [("a", "first"), ("b", "x"), ("a", "second"), (None, "nobody")],
    )
    first = b.day()["task:loose"]
    assert (first.equal, first.rows_rejected, first.source_rows, first.store_rows) == (True, 1, 4, 2)
    assert first.detail == "1 row has no key: not stored"
    stored = b.raw("select task_key, error_message, changed_at from raw.task order by 1")
    assert [row[:2] for row in stored] == [("a", "second"), ("b", "x")]
    b.clock.advance(60)
    assert b.day()["task:loose"].equal
    assert b.raw("select task_key, error_message, changed_at from raw.task order by 1") == stored


def test_sqlite_sources_reconcile_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-609: the trying-out source has the same proof, with text times in either notation."""
    path = tmp_path / "shop.db"
    monkeypatch.setenv(VARIABLE, f"sqlite:///{path}")
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("create table loose (id integer primary key, k text not null unique, note text, t datetime)")
    values = [(f"k{n}", "é", (START + timedelta(minutes=n)).isoformat(sep="T" if n % 2 else " ")) for n in range(3000)]
    con.executemany("insert into loose (k, note, t) values (?, ?, ?)", values)
    settings = settings_for(tmp_path, None, LOOSE_SOURCE)
    store = Warehouse(tmp_path / "w.duckdb")

    def run(day: date) -> ReconcileResult:
        return reconcile_day(settings, settings.sources[0], store, FixedClock(NOW), day)[0]

    assert [(r.equal, r.source_rows, r.store_rows) for r in (run(DAY), run(date(2026, 2, 2)))] == [
        (True, 1440, 1440), (True, 1440, 1440),
    ]  # fmt: skip
    con.execute("update loose set note = 'changed' where k = 'k700'")
    con.execute("delete from loose where k = 'k701'")
    con.close()
    again = run(DAY)
    assert (again.equal, again.rows_reread, again.rows_deleted) == (True, 1, 1)


def test_a_status_derived_from_outputs_follows_moves_but_not_deletions(bench: Callable[..., Bench]) -> None:
    """E-503, M-805: another task's output is no longer one's own; an output that vanished was there."""
    b = bench("tts")
    b.db.execute(
        "insert into tts_texts (id, created_at, updated_at) values (1, %s, %s), (2, %s, %s), (3, %s, %s)", (START,) * 6
    )
    done = START + timedelta(minutes=1)
    b.db.execute(
        "insert into tts_audios (id, text_id, file_size, created_at, updated_at) values (1, 1, 9000, %s, %s), "
        "(2, 3, 9000, %s, %s)",
        (done,) * 4,
    )
    b.all()
    query = "select task_key, status, ended_at from raw.task order by 1"
    assert b.raw(query) == [("1", "succeeded", done), ("2", "created", None), ("3", "succeeded", done)]
    b.db.execute("update tts_audios set text_id = 2 where id = 1")
    b.db.execute("delete from tts_audios where id = 2")
    b.clock.advance(60)
    b.all()
    assert b.raw(query) == [("1", "created", None), ("2", "succeeded", done), ("3", "succeeded", done)]
    b.db.execute("update tts_texts set user_id = 9 where id = 3")
    b.clock.advance(60)
    b.all()
    assert b.raw(query)[2] == ("3", "succeeded", done), "reading the task again does not change history either"


OPERATION = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 47), st.integers(1, 40)),
    st.tuples(st.just("update"), st.integers(0, 200), st.sampled_from(["FAILED", "COMPLETED", "PENDING"])),
    st.tuples(st.just("delete"), st.integers(0, 200), st.integers(1, 9)),
    st.tuples(st.just("move"), st.integers(0, 200), st.integers(0, 47)),
    st.tuples(st.just("rename"), st.integers(0, 200), st.sampled_from(["T-", "t-", "tt-"])),
    st.tuples(st.just("undate"), st.integers(0, 200), st.sampled_from([None, "0000-00-00", "2026-02-00"])),
    st.tuples(st.just("reconcile"), st.integers(0, 1), st.just(0)),
)


def _apply(b: Bench, operation: tuple[str, int, Any], number: int) -> None:
    what, n, x = operation
    hit = f"mod(id, 211) = {n}"
    if what == "insert":
        add_tasks(b.db, number * 100 + 1000, x, START + timedelta(hours=n), 97)
    elif what == "update":
        b.db.execute(f"update tasks set status = %s, error = 'u' where {hit}", (x,))
    elif what == "delete":
        b.db.execute(f"delete from tasks where mod(id, 211) between {n} and {n + x}")
    elif what == "move":
        b.db.execute(f"update tasks set created_at = %s where {hit}", (START + timedelta(hours=x, milliseconds=1),))
    elif what == "rename":
        b.db.execute(
            f"update ignore tasks set task_id = concat(%s, substring_index(task_id, '-', -1)) where {hit}", (x,)
        )
    elif what == "undate":
        b.db.execute(f"update tasks set created_at = %s where {hit}", (x,))
    else:
        b.day(DAY + timedelta(days=n), "task")


# Each example is a dozen passes over a real server: shrinking one would take longer than reading it.
@examples(
    max_examples=12, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.lists(OPERATION, min_size=2, max_size=12))
def test_random_writes_between_reconciliations_end_equal(
    tmp_path_factory: pytest.TempPathFactory, mariadb: TestServer, operations: list[tuple[str, int, Any]]
) -> None:
    """E-609, E-610: for any history of writes, both days and the undated rows reconciled once are the source."""
    db = TestDatabase(mariadb).create()
    before = os.environ.get(VARIABLE)
    try:
        db.execute("set sql_mode = ''")
        db.script(TABLES["waverless"])
        b = Bench(tmp_path_factory.mktemp("random"), db, "waverless")
        add_tasks(db, 1, 400, step=180)
        for number, operation in enumerate(operations):
            _apply(b, operation, number)
        results = [r for day in (DAY, DAY + timedelta(days=1)) for r in b.day(day, "task").values()]
        results += b.undated("task").values()
        assert all(r.equal for r in results)
        usable = {(*row[:4], row[4] if _usable(row[4]) else None, *row[5:]) for row in at_source(db)}
        assert in_store(b) == usable
        # Moving between two days must not have left a trace in the first one either.
        assert all(r.equal and not r.rows_reread for r in b.day(DAY, "task").values())
    finally:
        db.drop()
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _usable(value: Any) -> bool:
    """PyMySQL hands invalid dates over as text."""
    return isinstance(value, datetime)
