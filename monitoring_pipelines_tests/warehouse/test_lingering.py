"""The file between two steps of one run: open while nobody else wants it, given up as soon as somebody does."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from monitoring_pipelines.warehouse import lingering
from monitoring_pipelines.warehouse.connect import Warehouse, share_out
from monitoring_pipelines_tests.warehouse.conftest import Actor
from monitoring_pipelines_tests.warehouse.test_lock import wait_until


@pytest.fixture
def run(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "data" / "warehouse.duckdb", lock_timeout_s=60, lingers=True)


def counted(warehouse: Warehouse) -> int:
    with warehouse.reader("count") as con:
        return con.execute("SELECT value FROM counter").fetchone()[0]


def test_the_next_step_takes_the_open_file_over_and_sees_no_temporary_rows_of_the_last(
    run: Warehouse, monkeypatch: pytest.MonkeyPatch
):
    opened = []
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *args, **more: opened.append(args) or connect(*args, **more))
    with run.writer("one") as con:
        con.execute("CREATE TABLE counter AS SELECT 1 AS value; CREATE TEMP TABLE mine AS SELECT 1")
        con.execute("SET threads = 1")
    with run.writer("two") as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (1,)
        assert con.execute("SELECT current_setting('threads')").fetchone() == (run.threads,)
        with pytest.raises(duckdb.CatalogException):
            con.execute("SELECT * FROM mine")
    assert len(opened) == 1


def test_a_look_before_the_first_step_opens_the_file_for_all_steps(run: Warehouse, monkeypatch: pytest.MonkeyPatch):
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 7 AS value")
    run.end_run()
    opened = []
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *args, **more: opened.append(args) or connect(*args, **more))
    assert counted(run) == 7
    with run.writer("step") as con:
        con.execute("UPDATE counter SET value = 8")
    assert counted(run) == 8
    assert len(opened) == 1


def test_a_look_alone_does_not_merge_the_log(run: Warehouse, monkeypatch: pytest.MonkeyPatch):
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 7 AS value")
    run.end_run()
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.CLOSE_LOG_LIMIT", 1)
    assert counted(run) == 7
    lingering.let_go(run.path)
    assert run.log_bytes() > 1
    with run.writer("step"):
        pass
    lingering.let_go(run.path)
    assert run.log_bytes() == 0


def test_who_waits_for_the_file_does_not_wait_for_a_merge_which_gets_a_turn_of_its_own(
    run: Warehouse, actor: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.CLOSE_LOG_LIMIT", 1)
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")
    run.end_run()
    assert run.log_bytes() == 0
    with run.writer("step") as con:
        con.execute("UPDATE counter SET value = 7")
        waiting = actor("count", run.path, 1)
        wait_until(run.is_wanted)
    assert waiting.communicate()[0] == "done\n"
    assert run.log_bytes() > 1
    run.end_run()
    assert (run.log_bytes(), run.stats.last.purpose) == (0, "merge the log")
    assert counted(run) == 8


def test_a_long_use_that_offers_the_file_is_several_holds(run: Warehouse, actor: Actor):
    with run.writer("long") as con:
        con.execute("CREATE TABLE counter AS SELECT 7 AS value")
        assert not run.offer()
        first = run.stats.last
        time.sleep(0.05)
        waiting = actor("count", run.path, 1)
        wait_until(run.is_wanted)
        assert run.offer()
    assert waiting.communicate()[0] == "done\n"
    second = run.stats.last
    assert (first.purpose, second.purpose, run.stats.count) == ("long", "long", 2)
    assert first.close_s == 0 < second.close_s
    assert second.hold_s >= 0.05


def test_the_end_of_a_run_and_a_step_that_failed_close_the_file(run: Warehouse):
    with run.writer("one"):
        pass
    with run.writer("last"):
        pass
    run.end_run()
    assert run.holder() is None
    with pytest.raises(ZeroDivisionError), run.writer("fails"):
        raise ZeroDivisionError
    assert run.holder() is None


def test_nobody_waits_for_a_file_that_lingers(run: Warehouse, actor: Actor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lingering, "LINGER_S", 3600.0)
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")
    assert run.holder() is not None
    other = actor("count", run.path, 3)  # another process
    assert other.communicate()[0] == "done\n"
    with run.writer("again"):
        pass
    with ThreadPoolExecutor(1) as pool:  # another thread, through an object of its own
        assert pool.submit(counted, Warehouse(run.path, lock_timeout_s=60)).result(60) == 3


def test_readers_of_the_same_process_are_served(run: Warehouse):
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 7 AS value")
    assert counted(run) == 7


def test_a_file_nobody_takes_over_is_closed_after_a_while(run: Warehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)
    with run.writer("init"):
        assert run.holder() is not None
    wait_until(lambda: run.holder() is None)


def test_a_process_that_is_killed_while_the_file_lingers_leaves_everything_committed(run: Warehouse, actor: Actor):
    process = actor("linger", run.path)
    assert process.stdout.readline() == "lingers\n"
    assert run.holder().pid == process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert counted(run) == 1


def test_a_process_that_ends_while_the_file_lingers_gives_it_back(run: Warehouse, actor: Actor):
    process = actor("linger", run.path)
    assert process.stdout.readline() == "lingers\n"
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(60) == 0
    assert run.holder() is None
    assert counted(run) == 1


def test_a_forked_child_leaves_the_file_to_its_parent(run: Warehouse):
    with run.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 1 AS value")
    child = os.fork()
    if not child:
        try:
            lingering.let_go(run.path)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with run.writer("again") as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (1,)


def test_a_small_use_has_one_thread_until_it_turns_out_to_be_large(run: Warehouse):
    threads = "SELECT current_setting('threads')"
    for _ in range(2):  # opened anew, and taken over from a use with more threads
        with run.writer("small", small=True) as con:
            assert con.execute(threads).fetchall() == [(1,)]
            share_out(con, few=True)
            assert con.execute(threads).fetchall() == [(1,)]
            share_out(con, few=False)
            assert con.execute(threads).fetchall() == [(run.threads,)]
            run.merge(con, tidy=False)
            assert con.execute(threads).fetchall() == [(run.threads,)]
