"""A small platform on a real server and a store that reads it: what the tests of extraction share.

What belongs here: tables, rows by one line each, and running cycles. What does not: expectations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.source.tail import CycleResult, extract_cycle
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import settings_for

NOW = datetime(2026, 2, 3, 12, 0, 30)
#: Column names that are reserved words, collations that find more than was asked, times without zone.
DDL = """
create table `order` (id bigint auto_increment primary key, `key` varchar(64) not null, `group` varchar(64),
  `status` varchar(20), worker varchar(64), payload longtext, created datetime(6), started datetime(6), ended datetime(6),
  flag tinyint default 1, unique (`key` asc), index (created), index (ended));
create table event (id bigint auto_increment primary key, event_id varchar(64) not null unique, task varchar(64),
  kind varchar(20), happened datetime(6), worker varchar(64), index (happened));
create table pod (id bigint auto_increment primary key, name varchar(64) not null unique, endpoint varchar(64),
  status varchar(20), slots int, made datetime(6), ready datetime(6), gone datetime(6), beat datetime(6));
create table pod_event (id bigint auto_increment primary key, pod varchar(64), kind varchar(20), happened datetime(6));
create table sample (id bigint auto_increment primary key, pod varchar(64), happened datetime(6), idle tinyint,
  util decimal(5,2), used_mb int, total_mb int, index (happened));
"""
TASK = """  task:
    table: order
    row_id: id
    key: key
    {more}
    columns:
      endpoint: group
      status: {{column: status, map: {{WAIT: queued, RUN: running, DONE: succeeded, BAD: failed}}}}
      worker_key: worker
      created_at: created
      started_at: started
      ended_at: ended
"""
EVENT = """  task_event:
    table: event
    row_id: id
    key: event_id
    optional: true
    columns: {task_key: task, event_type: kind, at: happened, worker_key: worker}
"""
WORKER = """  worker:
    table: pod
    row_id: id
    key: name
    columns: {endpoint: endpoint, status: status, concurrency: slots, created_at: made, ready_at: ready,
      terminated_at: gone, last_heartbeat_at: beat}
  worker_event:
    table: pod_event
    row_id: id
    key: {expr: "concat('e', id)"}
    columns: {worker_key: pod, event_type: kind, at: happened}
  worker_snapshot:
    table: sample
    row_id: id
    key: id
    columns: {worker_key: pod, at: happened, is_idle: idle, gpu_utilization: util, gpu_memory_used_mb: used_mb,
      gpu_memory_total_mb: total_mb}
"""


class Bench:
    """One source, one store, one clock that only the test moves."""

    def __init__(self, directory: Path, db: TestDatabase, tables: str, *, head: str = "", extra: str = "") -> None:
        db.execute("set sql_mode = ''")
        db.script(DDL)
        self.db = db
        self.directory = directory
        self.settings = settings_for(directory, None, f"{extra}\ntables:\n{tables}".strip(), head)
        self.source = self.settings.sources[0]
        self.clock = FixedClock(NOW)
        self.warehouse = Warehouse(directory / "w.duckdb", clock=self.clock)

    def cycle(self, later_s: float = 0, clock: FixedClock | None = None) -> CycleResult:
        """Move the clock and run one extraction cycle."""
        self.clock.advance(later_s)
        return extract_cycle(self.settings, self.source, self.warehouse, clock or self.clock)

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        with self.warehouse.reader("test") as con:
            return con.execute(sql).fetchall()

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything a cycle may change."""
        tables = ("raw.task", "raw.task_event", "raw.worker", "meta.extract_mark", "meta.dirty_task", "raw.anomaly")
        found = {t: sorted(self.raw(f"select * exclude ({self._hidden(t)}) from {t}"), key=repr) for t in tables}
        return found | {"as_of": self.raw("select as_of from meta.source_state")}

    @staticmethod
    def _hidden(table: str) -> str:
        """Columns that tell of failures."""
        return "last_started_at, last_error" if table == "meta.extract_mark" else "source_id"

    def task(self, key: str, status: str = "DONE", at: datetime | None = None, ended: datetime | None = None,
             number: int | None = None, connection: Any = None) -> None:  # fmt: skip
        """One task row, a minute old unless said otherwise; on ``connection`` if it must not be committed yet."""
        at = at or self.clock.instant - timedelta(seconds=60)
        ended = ended or (at + timedelta(seconds=5) if status in ("DONE", "BAD") else None)
        sql = (
            "insert into `order` (id, `key`, `group`, status, worker, payload, created, started, ended) values "
            "(%s, %s, 'e', %s, 'w', 'long', %s, %s, %s)"
        )
        values = (number, key, status, at, at, ended)
        if connection is None:
            self.db.execute(sql, values)
        else:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)

    def event(self, key: str, task: str = "a", kind: str = "completed", at: datetime | None = None) -> None:
        """One event row."""
        self.db.execute(
            "insert into event (event_id, task, kind, happened, worker) values (%s, %s, %s, %s, 'w')",
            (key, task, kind, at or self.clock.instant - timedelta(seconds=30)),
        )
