"""A cycle that fails leaves marks, rows and as_of as they were, says so, and the next one makes up for it (E-613, E-7xx).

What belongs here: faults of reading, on a real server. What does not: crashes and full disks of the store (warehouse/).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.errors import ProductError, SchemaDrift, SourceUnavailable
from monitoring_pipelines.source.bulk import QueryTooSlow
from monitoring_pipelines_tests.source.tail_bench import NOW, Bench
from monitoring_pipelines_tests.support.source_tables import VARIABLE

Make = Callable[..., Bench]
SHORT = "extract: {query_timeout_s: 1, connect_timeout_s: 1}"


def _loaded(tail: Make, **options: object) -> Bench:
    bench = tail(**options)
    bench.task("a", "RUN")
    bench.event("e1")
    bench.cycle()
    return bench


def _fails_without_a_trace(bench: Bench, kind: type[ProductError], cycle: Callable[[], object]) -> str:
    """Run ``cycle``; return the recorded error."""
    before = bench.content()
    with pytest.raises(kind):
        cycle()
    assert bench.content() == before
    errors = bench.raw("select last_error from meta.source_state union select last_error from meta.extract_mark")
    assert len(errors) == 1
    assert errors[0][0]
    return str(errors[0][0])


def _recovers(bench: Bench, *keys: str) -> None:
    bench.cycle(60)
    assert [row[0] for row in bench.raw("select task_key from raw.task order by 1")] == sorted(("a", *keys))
    assert bench.raw("select last_error from meta.source_state union select last_error from meta.extract_mark") == [
        (None,)
    ]
    assert bench.raw("select as_of from meta.source_state") == [(bench.clock.instant,)]


def test_a_source_that_is_down(tail: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-613; the recorded text shows no password (E-006)."""
    bench = _loaded(tail)
    dsn = bench.db.dsn
    bench.task("b")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv(VARIABLE, bench.db.server.dsn(bench.db.name, port=port))
    text = _fails_without_a_trace(bench, SourceUnavailable, lambda: bench.cycle(60))
    assert bench.db.server.password not in text
    monkeypatch.setenv(VARIABLE, dsn)
    _recovers(bench, "b")


def test_a_source_that_accepts_and_says_nothing(tail: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-613: the connect timeout ends it."""
    bench = _loaded(tail, head=SHORT)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(VARIABLE, bench.db.server.dsn(bench.db.name, port=silent.getsockname()[1]))
        _fails_without_a_trace(bench, SourceUnavailable, lambda: bench.cycle(60))


@contextmanager
def _view_instead_of(bench: Bench, table: str, extra: str) -> Iterator[None]:
    """Replace ``table`` by a view that adds a condition to every read."""
    bench.db.execute(f"rename table `{table}` to `{table}_real`")
    bench.db.execute(f"create view `{table}` as select * from `{table}_real` where {extra}")
    try:
        yield
    finally:
        bench.db.execute(f"drop view `{table}`")
        bench.db.execute(f"rename table `{table}_real` to `{table}`")


def test_a_statement_that_exceeds_its_limit(tail: Make) -> None:
    """E-601: the server ends it; the cycle fails as a whole."""
    bench = _loaded(tail, head=SHORT)
    bench.task("b")
    bench.event("slow")
    with _view_instead_of(bench, "event", "sleep(5) = 0"):
        _fails_without_a_trace(bench, QueryTooSlow, lambda: bench.cycle(60))
    _recovers(bench, "b")


def test_a_query_that_fails_writes_no_zero_and_no_row(tail: Make) -> None:
    """E-613, M-806: the second table fails after the first was read."""
    bench = _loaded(tail)
    bench.task("b")
    with _view_instead_of(bench, "event", "(select 1 union select 2) = 1"):
        _fails_without_a_trace(bench, SourceUnavailable, lambda: bench.cycle(60))
    _recovers(bench, "b")


def test_a_connection_lost_in_the_middle_of_reading(tail: Make) -> None:
    """E-613: killed by the server's administrator while rows are on their way."""
    bench = _loaded(tail)
    bench.task("b")
    bench.event("slow")
    ended = threading.Event()

    def kill() -> None:
        with bench.db.connect() as connection, connection.cursor() as cursor:
            while not ended.is_set():
                cursor.execute("select id from information_schema.processlist where info like '%%from `event`%%' "
                               "and id <> connection_id()")  # fmt: skip
                for (number,) in cursor.fetchall():
                    cursor.execute(f"kill {number}")
                    return
                time.sleep(0.01)

    killer = threading.Thread(target=kill)
    with _view_instead_of(bench, "event", "sleep(2) = 0"):
        killer.start()
        try:
            _fails_without_a_trace(bench, SourceUnavailable, lambda: bench.cycle(60))
        finally:
            ended.set()
            killer.join()
    _recovers(bench, "b")


def test_two_cycles_at_once_lose_and_double_nothing(tail: Make) -> None:
    """E-602: both see the same marks, both write."""
    bench = _loaded(tail)
    for number in range(30):
        bench.task(f"t{number:02}")
        bench.event(f"n{number}")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            bench.cycle(clock=FixedClock(NOW + timedelta(seconds=60)))
        except BaseException as error:  # noqa: BLE001 - reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for table, key, count in (("task", "task_key", 31), ("task_event", "event_key", 31)):
        assert bench.raw(f"select count(*), count(distinct {key}) from raw.{table}") == [(count, count)]
    bench.clock.advance(60)
    _recovers(bench, *(f"t{number:02}" for number in range(30)))


def test_the_own_clock_is_set_back(tail: Make) -> None:
    """E-005, E-602: as_of does not go back, and what changed meanwhile is taken over when the time is reached again."""
    bench = _loaded(tail)
    bench.task("b", "RUN")
    bench.cycle(60)
    bench.db.execute("update `order` set status = 'DONE' where `key` = 'b'")
    bench.cycle(clock=FixedClock(NOW + timedelta(seconds=10)))
    assert bench.raw("select as_of from meta.source_state") == [(NOW + timedelta(seconds=60),)]
    _recovers(bench, "b")
    assert bench.raw("select status from raw.task where task_key = 'b'") == [("succeeded",)]


def test_a_table_that_disappears_and_returns(tail: Make) -> None:
    """E-702: an optional table that existed is missed; what it got meanwhile is read by itself."""
    bench = _loaded(tail)
    bench.db.execute("rename table event to hidden")
    bench.task("b")
    assert "event" in _fails_without_a_trace(bench, SchemaDrift, lambda: bench.cycle(60))
    bench.db.execute(
        "insert into hidden (event_id, task, kind, happened) values ('meanwhile', 'b', 'completed', %s)", (NOW,)
    )
    bench.db.execute("rename table hidden to event")
    _recovers(bench, "b")
    assert bench.raw("select event_key from raw.task_event order by 1") == [("e1",), ("meanwhile",)]


@pytest.mark.parametrize("change", ["drop column kind", "modify happened varchar(40)"])
def test_a_column_that_disappears_or_changes_its_kind(tail: Make, change: str) -> None:
    """E-702: drift, not an absent mapping."""
    bench = _loaded(tail)
    bench.db.execute(f"alter table event {change}")
    _fails_without_a_trace(bench, SchemaDrift, lambda: bench.cycle(60))


def test_a_wider_column_is_no_drift(tail: Make) -> None:
    """E-702: compatible changes go on."""
    bench = _loaded(tail)
    bench.db.execute("alter table event modify kind varchar(200), add column more int")
    bench.task("b")
    _recovers(bench, "b")


def test_a_required_table_that_never_existed(tail: Make) -> None:
    """E-702: only an optional one is "not mapped"."""
    bench = tail()
    bench.db.execute("drop table `order`")
    with pytest.raises(SchemaDrift):
        bench.cycle()
    assert bench.raw("select as_of from meta.source_state") == [(None,)]


def test_tasks_and_events_are_of_one_instant(tail: Make) -> None:
    """E-601: what is committed between the two reads is in neither."""
    bench = _loaded(tail)
    bench.event("slow")
    started = threading.Event()
    was_reading: list[bool] = []

    def write() -> None:
        was_reading.append(started.wait(20))
        bench.db.connect().cursor().execute("insert into event_real (event_id, task, kind, happened) values "
                                            "('later', 'a', 'completed', %s)", (NOW,))  # fmt: skip

    writer = threading.Thread(target=write)
    with _view_instead_of(bench, "event", "sleep(2) = 0"):
        writer.start()
        watch = threading.Thread(target=lambda: _wait_for_read(bench, started))
        watch.start()
        bench.cycle(60)
        writer.join()
        watch.join()
    assert was_reading == [True]
    assert bench.raw("select count(*) from raw.task_event where event_key = 'later'") == [(0,)]
    bench.cycle(60)
    assert bench.raw("select count(*) from raw.task_event where event_key = 'later'") == [(1,)]


def _wait_for_read(bench: Bench, started: threading.Event) -> None:
    limit = time.monotonic() + 20
    with bench.db.connect() as connection, connection.cursor() as cursor:
        while time.monotonic() < limit and not started.is_set():
            cursor.execute("select count(*) from information_schema.processlist where info like '%%from `event`%%' "
                           "and id <> connection_id()")  # fmt: skip
            if cursor.fetchone()[0]:
                started.set()
            time.sleep(0.01)


_CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.source.tail import extract_cycle
from monitoring_pipelines.warehouse.connect import Warehouse
settings = load_settings(sys.argv[1])
clock = FixedClock(datetime(2026, 3, 8, 12))
warehouse = Warehouse(Path(sys.argv[2]), clock=clock)
extract_cycle(settings, settings.sources[0], warehouse, clock)
with warehouse.reader("test") as con:
    for row in con.execute("select * exclude (row_hash) from raw.task order by task_key").fetchall():
        print(row)
    print(con.execute("select as_of from meta.source_state").fetchall())
"""


def test_the_zone_of_the_process_changes_nothing(tail: Make) -> None:
    """E-005, E-303: on a daylight-saving day of New York, in processes of three zones."""
    bench = tail()
    for number, wall in enumerate(
        ("2026-03-08 01:30:00", "2026-03-08 02:30:00", "2026-03-08 06:59:59.999999", "2026-03-07 23:00:00")
    ):
        bench.db.execute(
            "insert into `order` (`key`, `group`, status, created) values (%s, 'e', 'RUN', %s)", (str(number), wall)
        )
    found = set()
    for zone in ("UTC", "Asia/Shanghai", "America/New_York"):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(bench.directory / "monitoring.yaml"), str(bench.directory / f"{zone[:2]}.duckdb")],
            env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert "datetime.datetime(2026, 3, 8, 2, 30)" in found.pop()
