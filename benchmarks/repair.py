"""Planning and applying the repair of many tasks, against the same inserts without journal, on a MariaDB of its own.

    python -m benchmarks.repair             # small: 2,000 tasks
    python -m benchmarks.repair 10000

What is measured: tasks planned per second (rate limit off, the local stand-in of the result API), tasks applied per
second with the journal, the same apply without its journal rows, bare inserts (begin, lock the task, insert, commit), and
how long a task row is locked while another client writes the same tables.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks._common import machine, table
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.compensation.approve import approve
from monitoring_pipelines.compensation.fake_api import API_KEY, FakeResultApi
from monitoring_pipelines.compensation.grants import create_journal
from monitoring_pipelines.compensation.model import PlanRequest
from monitoring_pipelines.compensation.plan import Planner
from monitoring_pipelines.compensation.runs import Applier
from monitoring_pipelines.compensation.session import MysqlSession
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.demo.result_api import answer_for
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store
from monitoring_pipelines_tests.support.mysql_server import TestDatabase, TestServer

NOW = datetime(2026, 2, 1, 12)
TABLES = """
create table tasks (task_id varchar(50) primary key, workflow_id varchar(50), status varchar(20),
  runninghub_task_id varchar(64), created_at datetime(3), started_at datetime(3), completed_at datetime(3),
  timeout_at datetime(3), key (status, completed_at), key (completed_at));
create table task_outputs (id bigint auto_increment primary key, task_id varchar(36) not null, node_id varchar(50),
  name varchar(255), file_url text, file_type varchar(50), file_size bigint, local_path varchar(500),
  thumbnail_path varchar(500), created_at datetime(3) not null, key (task_id), key (created_at));
"""
CONFIG = """
version: 1
timezone: UTC
repair:
  recoverers: [{id: rh, kind: http_result, preset: runninghub, base_url_env: RH_URL, api_key_env: RH_KEY, allow_http: true}]
  rate_per_s: null
  batch_pause_s: 0
  max_tasks: 1000000
sources:
  - {id: shop, preset: tktool, read_dsn_env: SHOP_DSN, repair_dsn_env: SHOP_DSN}
"""


def main(tasks: int) -> None:
    """Run everything with ``tasks`` missing tasks."""
    server = TestServer.start()
    try:
        with FakeResultApi() as api, tempfile.TemporaryDirectory() as folder:
            api.default = answer_for
            db = TestDatabase(server).create()
            db.script(TABLES)
            os.environ.update(RH_URL=api.url, RH_KEY=API_KEY, SHOP_DSN=db.dsn)
            (Path(folder) / "monitoring.yaml").write_text(CONFIG)
            settings = load_settings(Path(folder) / "monitoring.yaml")
            create_journal(settings, db.dsn)
            fill(db, tasks)
            measure(db, settings, tasks)
    finally:
        server.stop()


def warm_up() -> None:
    """Load the expectation library: a program start is not part of a rate."""
    from monitoring_pipelines.quality.expectations import validate_repair_rows
    from monitoring_pipelines.quality.suites import TargetColumns

    row = {"task_key": "t", "natural_key": "k", "uri": "https://h/x.png", "media_type": "png", "size_bytes": None}
    validate_repair_rows([row], TargetColumns())


def fill(db: TestDatabase, tasks: int) -> None:
    """Succeeded tasks without outputs, over the last day."""
    rows = [
        (
            f"task-{n:08d}",
            "wf",
            "SUCCESS",
            str(10**18 + n),
            *[NOW - timedelta(seconds=400 + n * 80_000 // tasks)] * 3,
            None,
        )
        for n in range(tasks)
    ]
    for start in range(0, tasks, 5000):
        db.executemany("insert into tasks values (%s, %s, %s, %s, %s, %s, %s, %s)", rows[start : start + 5000])


def measure(db: TestDatabase, settings, tasks: int) -> None:
    """Plan, apply, the peer, and the locks."""
    state, clock = StateStore.of(settings), FixedClock(NOW)
    warm_up()

    began = time.perf_counter()
    plan = Planner(settings, state, clock).make(PlanRequest("shop", NOW - timedelta(days=1), NOW), "bench")
    planned = time.perf_counter() - began
    approve(settings, state, clock, plan["plan_id"], "bench2")
    with state.read() as con:
        items = store.get_items(con, plan["plan_id"], "eligible")
    held: list[float] = []
    with TimedLocks(held):
        applied, run = apply_meanwhile(db, Applier(settings, state, clock), plan["plan_id"])
    counters = run["counters"]
    assert counters["tasks_committed"] == len(items), counters
    db.execute("delete from task_outputs")
    plain = plain_inserts(db, items)
    db.execute("delete from task_outputs")
    bare = without_journal(db, settings, state, clock)
    held.sort()
    p99 = held[int(0.99 * (len(held) - 1))]
    print(f"Repair of {tasks:,} tasks without outputs, {counters['rows_inserted']:,} rows, {machine()}\n")
    print(
        table(
            ("step", "tasks/s", "time beside bare inserts", "time beside no journal"),
            [
                ("plan, result API on the loopback", f"{tasks / planned:,.0f}", "", ""),
                ("bare inserts: begin, lock the task, insert, commit", f"{len(items) / plain:,.0f}", "1.00", ""),
                ("apply, its journal rows left out", f"{len(items) / bare:,.0f}", f"{bare / plain:.2f}", "1.00"),
                (
                    "apply with journal",
                    f"{len(items) / applied:,.0f}",
                    f"{applied / plain:.2f}",
                    f"{applied / bare:.2f}",
                ),
            ],
        )
    )
    print(f"\nA task row was locked {1000 * statistics.median(held):.1f} ms (median), {1000 * p99:.1f} ms (p99), "
          "while another client wrote both tables.")  # fmt: skip


def apply_meanwhile(db: TestDatabase, applier: Applier, plan_id: str) -> tuple[float, dict]:
    """Seconds of an apply while the application writes, and its run; no verdict of an earlier one is known."""
    from monitoring_pipelines.compensation import validation

    validation._known.clear()
    stop = threading.Event()
    writer = threading.Thread(target=write_meanwhile, args=(db, stop))
    writer.start()
    try:
        began = time.perf_counter()
        run = applier.apply(plan_id, "bench")
        return time.perf_counter() - began, run
    finally:
        stop.set()
        writer.join()


def without_journal(db: TestDatabase, settings, state: StateStore, clock: FixedClock) -> float:
    """Seconds of the same apply when no journal row is written: what the journal alone costs."""
    from monitoring_pipelines.compensation.journal import MysqlJournal

    plan = Planner(settings, state, clock).make(PlanRequest("shop", NOW - timedelta(days=1), NOW), "bench")
    approve(settings, state, clock, plan["plan_id"], "bench2")
    add = MysqlJournal.add
    MysqlJournal.add = lambda self, rows: []
    try:
        return apply_meanwhile(db, Applier(settings, state, clock), plan["plan_id"])[0]
    finally:
        MysqlJournal.add = add


class TimedLocks:
    """Measures the time from sending the locking read of a task to the answer of the end of its transaction."""

    def __init__(self, held: list[float]) -> None:
        self.held, self.since = held, 0.0

    def __enter__(self) -> None:
        self.several, self.execute = MysqlSession.several, MysqlSession.execute
        outer = self

        def several(session, statements):
            if statements[0][0] == "START TRANSACTION":
                outer.since = time.perf_counter()
            done = outer.several(session, statements)
            outer.ended(statements[-1][0])
            return done

        def execute(session, sql, args=None):
            done = outer.execute(session, sql, args)
            outer.ended(sql)
            return done

        MysqlSession.several, MysqlSession.execute = several, execute

    def ended(self, sql: str) -> None:
        """Note the end of a transaction."""
        if sql in ("COMMIT", "ROLLBACK") and self.since:
            self.held.append(time.perf_counter() - self.since)
            self.since = 0.0

    def __exit__(self, *_: object) -> None:
        MysqlSession.several, MysqlSession.execute = self.several, self.execute


def write_meanwhile(db: TestDatabase, stop: threading.Event) -> None:
    """The application: new tasks and outputs, a hundred a second."""
    number = time.monotonic_ns()
    with db.connect() as con, con.cursor() as cursor:
        while not stop.wait(0.01):
            number += 1
            cursor.execute(
                "insert into tasks values (%s, 'wf', 'RUNNING', null, %s, %s, null, null)", (f"live-{number}", NOW, NOW)
            )
            cursor.execute(
                "insert into task_outputs (task_id, name, created_at) values (%s, 'x.png', %s)", (f"live-{number}", NOW)
            )


def plain_inserts(db: TestDatabase, items: list[dict]) -> float:
    """The peer: begin, lock the task's row, insert its rows, commit; nothing looked at, read back or noted."""
    began = time.perf_counter()
    con = db.connect(autocommit=False)
    with con.cursor() as cursor:
        for item in items:
            con.begin()
            cursor.execute("select task_id from tasks where task_id = %s for update", (item["task_key"],))
            for row in item["rows"]:
                values = row["values"] | {"created_at": NOW}
                columns, marks = ", ".join(values), ", ".join(["%s"] * len(values))
                cursor.execute(f"insert into task_outputs ({columns}) values ({marks})", list(values.values()))
            con.commit()
    con.close()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
