"""The writer lock between real processes and threads (DESIGN §5): no failure, no lost update, no starvation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from monitoring_pipelines.errors import WarehouseBusy
from monitoring_pipelines.warehouse.connect import (
    STORAGE_FORMAT,
    Warehouse,
    WarehouseCorrupt,
    WarehouseMissing,
    WarehouseTooNew,
    transaction,
)
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout
from monitoring_pipelines_tests.warehouse.conftest import Actor


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.01)


def test_processes_that_count_at_once_lose_no_update_and_never_fail(warehouse: Warehouse, actor: Actor):
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")
    processes = [actor("count", warehouse.path, 15) for _ in range(6)]
    for process in processes:
        assert process.communicate()[0] == "done\n"
        assert process.returncode == 0
    with warehouse.reader() as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (90,)


def test_threads_of_one_process_queue_too(warehouse: Warehouse):
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")

    def run(write: bool) -> None:
        for _ in range(8):
            if write:
                with warehouse.writer("thread") as con:
                    value = con.execute("SELECT value FROM counter").fetchone()[0]
                    con.execute("UPDATE counter SET value = ?", [value + 1])
            else:
                with warehouse.reader("thread") as con:
                    con.execute("SELECT value FROM counter").fetchone()

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(run, number % 2 == 0) for number in range(6)]:
            future.result()
    with warehouse.reader() as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (24,)


def test_waiters_are_served_in_the_order_in_which_they_came(tmp_path: Path, actor: Actor):
    lock = FairLock(tmp_path / "lock.d")
    names = [f"n{number}" for number in range(6)]
    processes = [actor("queue", lock.directory, name) for name in names]
    with lock.held("first", 10):
        for number, process in enumerate(processes):
            process.stdin.write("go\n")
            process.stdin.flush()
            wait_until(lambda expected=number + 2: lock.queue_length() == expected)
    for process in processes:
        process.wait()
    assert (tmp_path / "order").read_text().split() == names


def test_a_killed_holder_frees_the_lock_at_once_and_leaves_no_ticket(warehouse: Warehouse, actor: Actor):
    holder = actor("hold", warehouse.path, 600)
    assert holder.stdout.readline() == "holding\n"
    waiting = actor("hold", warehouse.path, 600)
    wait_until(lambda: warehouse.lock.queue_length() == 2)
    holder.send_signal(signal.SIGKILL)
    assert waiting.stdout.readline() == "holding\n"
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    with warehouse.writer("after") as con:
        con.execute("SELECT 1")
    assert [name for name in os.listdir(warehouse.lock.directory) if name != "guard"] == []


def test_a_waiter_that_dies_does_not_hold_up_those_behind_it(tmp_path: Path, actor: Actor):
    lock = FairLock(tmp_path / "lock.d")
    first, second = actor("queue", lock.directory, "dies"), actor("queue", lock.directory, "lives")
    with lock.held("test", 10):
        for number, process in enumerate((first, second)):
            process.stdin.write("go\n")
            process.stdin.flush()
            wait_until(lambda expected=number + 2: lock.queue_length() == expected)
        first.kill()
        first.wait()
    second.wait()
    assert (tmp_path / "order").read_text().split() == ["lives"]


def test_a_bounded_wait_ends_with_the_holder_named(warehouse: Warehouse, actor: Actor):
    holder = actor("hold", warehouse.path, 600)
    assert holder.stdout.readline() == "holding\n"
    message = rf"process {holder.pid} \(long_job\) since \d{{4}}-"
    with pytest.raises(WarehouseBusy, match=message) as caught, warehouse.writer("impatient", timeout_s=0.2):
        pass
    assert caught.value.exit_code == 4
    assert warehouse.lock.queue_length() == 1


def test_a_foreign_program_that_has_the_file_open_is_named(warehouse: Warehouse, tmp_path: Path):
    with warehouse.writer("init"):
        pass
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(warehouse.path)!r}); print('open', flush=True); sys.stdin.read()"
    )
    foreign = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert foreign.stdout.readline() == "open\n"
        with pytest.raises(WarehouseBusy, match=f"process {foreign.pid}"), warehouse.writer("w", timeout_s=0.2):
            pass
    finally:
        foreign.kill()
        foreign.communicate()
    with warehouse.writer("w", timeout_s=30):
        pass


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path):
    lock = FairLock(tmp_path / "lock.d")
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from monitoring_pipelines.warehouse.lock import FairLock\n"
        f"with FairLock(Path({str(lock.directory)!r})).held('parent', 5):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(600)\n"
        "    print(child, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        assert lock.holder().pid == parent.pid
        parent.kill()
        parent.wait()
        with lock.held("next", 10):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_opening_twice_in_one_thread_is_an_error_not_a_deadlock(warehouse: Warehouse):
    with warehouse.writer("outer"), pytest.raises(RuntimeError, match="open already"), warehouse.reader("inner"):
        pass
    with warehouse.writer("again"):
        pass


def test_an_exception_in_the_block_rolls_back_closes_and_frees(warehouse: Warehouse):
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE t(a INT)")
    with pytest.raises(duckdb.ConversionException), warehouse.writer("w") as con, transaction(con):
        con.execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES ('one')")
    with warehouse.reader() as con:
        assert con.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert warehouse.holder() is None


def test_waits_and_holds_are_measured(warehouse: Warehouse):
    with warehouse.writer("one"):
        time.sleep(0.05)
    use = warehouse.stats.last
    assert (use.purpose, use.mode) == ("one", "write")
    assert use.hold_s >= 0.05 + use.open_s + use.close_s
    assert warehouse.stats.count == 1
    assert warehouse.stats.longest_hold_s == use.hold_s


def test_timeout_of_the_bare_lock_leaves_no_ticket(tmp_path: Path):
    lock = FairLock(tmp_path / "lock.d")
    with lock.held("one", 1):
        with pytest.raises(LockTimeout), lock.held("two", 0.01):
            pass
        assert lock.queue_length() == 1
    assert lock.queue_length() == 0


def test_times_are_utc_and_the_schema_is_complete(warehouse: Warehouse):
    with warehouse.writer("init") as con:
        assert con.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
        con.execute("INSERT INTO meta.source_state(source_id) VALUES ('s')")
        names = {
            row[0] for row in con.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()").fetchall()
        }
    assert {"raw.task", "raw.anomaly", "meta.dirty_task", "meta.source_setting", "meta.schema_version"} <= names
    with warehouse.reader() as con:
        assert con.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
        with pytest.raises(duckdb.InvalidInputException):
            con.execute("INSERT INTO meta.source_state(source_id) VALUES ('t')")


def test_a_file_of_an_older_program_gets_the_missing_columns_and_keeps_its_rows(warehouse: Warehouse):
    with warehouse.writer("old") as con:
        con.execute("INSERT INTO meta.source_state(source_id, closed_through) VALUES ('s', TIMESTAMP '2026-02-01')")
        con.execute("ALTER TABLE meta.source_state DROP COLUMN raw_from")
        con.execute("DROP TABLE raw.job")
        con.execute("UPDATE meta.schema_version SET fingerprint = 'older'")
    with warehouse.reader() as con:
        assert con.execute("SELECT source_id, raw_from FROM meta.source_state").fetchall() == [("s", None)]
        assert con.execute("SELECT count(*) FROM raw.job").fetchone() == (0,)


def test_a_file_in_an_older_format_is_renewed_and_keeps_its_rows(warehouse: Warehouse):
    with warehouse.writer("new") as con:
        con.execute("INSERT INTO meta.source_state(source_id, closed_through) VALUES ('s', TIMESTAMP '2026-02-01')")
    older = warehouse.path.with_name("older.duckdb")
    with duckdb.connect(":memory:") as con:
        con.execute(f"ATTACH '{warehouse.path}' AS present (READ_ONLY)")
        con.execute(f"ATTACH '{older}' AS older (STORAGE_VERSION 'v1.0.0')")
        con.execute("COPY FROM DATABASE present TO older")
    Path(f"{warehouse.path}.wal").unlink(missing_ok=True)
    older.replace(warehouse.path)
    for _ in range(2):
        with warehouse.writer("go on") as con:
            format_of_file = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'warehouse'"
            assert con.execute(format_of_file).fetchone() == (f"{STORAGE_FORMAT}+",)
            assert con.execute("SELECT closed_through FROM meta.source_state WHERE source_id = 's'").fetchall() == [
                (datetime(2026, 2, 1),)
            ]
            con.execute("INSERT INTO meta.source_state(source_id) VALUES (uuid()::VARCHAR)")


def test_a_file_of_a_newer_program_is_refused_and_untouched(warehouse: Warehouse):
    with warehouse.writer("new") as con:
        con.execute("UPDATE meta.schema_version SET version = 999, program = '9.9'")
    for opened in (warehouse.writer("w"), warehouse.reader()):
        with pytest.raises(WarehouseTooNew, match="999") as caught, opened:
            pass
        assert "9.9" in caught.value.hint
    with duckdb.connect(str(warehouse.path)) as con:
        assert con.execute("SELECT max(version) FROM meta.schema_version").fetchone() == (999,)


@pytest.mark.parametrize("damage", ["text", "cut", "header"])
def test_a_damaged_file_is_an_error_with_advice(warehouse: Warehouse, damage: str):
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE t AS SELECT hash(i) AS h FROM range(500000) AS r(i)")
        con.execute("CHECKPOINT")
    content = warehouse.path.read_bytes()
    damaged = {"text": b"hello" * 1000, "cut": content[: len(content) // 3], "header": b"\0" * 12288 + content[12288:]}
    warehouse.path.write_bytes(damaged[damage])
    with pytest.raises(WarehouseCorrupt, match="cannot be used") as caught, warehouse.writer("w") as con:
        con.execute("SELECT sum(h) FROM t").fetchone()
    assert "load it again" in caught.value.hint
    assert warehouse.holder() is None


def test_reading_before_anything_was_written_says_so(warehouse: Warehouse):
    with pytest.raises(WarehouseMissing, match="no warehouse"), warehouse.reader():
        pass
    assert not warehouse.path.exists()


def test_kept_open_serves_all_threads_in_turn_and_nobody_else(warehouse: Warehouse):
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")

    def count(_: int) -> None:
        with warehouse.writer("thread") as con, transaction(con):
            value = con.execute("SELECT value FROM counter").fetchone()[0]
            con.execute("UPDATE counter SET value = ?", [value + 1])

    other = Warehouse(warehouse.path, lock_timeout_s=0.1)
    with warehouse.kept_open("all of it"):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(20)))
        with pytest.raises(WarehouseBusy, match="all_of_it"), other.reader():
            pass
        with pytest.raises(ValueError, match="undone"), warehouse.writer("fails") as con, transaction(con):
            con.execute("UPDATE counter SET value = 99")
            raise ValueError("undone")
        with warehouse.reader() as con:
            assert con.execute("SELECT value FROM counter").fetchone() == (20,)
            with pytest.raises(RuntimeError, match="open already"), warehouse.writer("nested"):
                pass
    with other.reader() as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (20,)


def test_killed_while_kept_open_leaves_what_was_committed(warehouse: Warehouse, actor: Actor):
    process = actor("keep", warehouse.path)
    assert process.stdout.readline() == "committed\n"
    process.kill()
    process.wait()
    with warehouse.reader() as con:
        assert con.execute("SELECT value FROM counter").fetchone() == (1,)
