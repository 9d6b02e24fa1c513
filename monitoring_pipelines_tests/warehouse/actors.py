"""Programs the crash and concurrency tests run as processes of their own: ``python -m … <what> <arguments>``.

What belongs here: small loops over the real warehouse and lake. What does not: assertions.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse.connect import DiskFull, Warehouse, transaction
from monitoring_pipelines.warehouse.lock import FairLock
from monitoring_pipelines.warehouse.publish import mark_for_publish, publish

NOW = datetime(2026, 2, 3, 10, 30)


def say(*words: object) -> None:
    print(*words, flush=True)


def count(path: str, times: str) -> None:
    """Read-modify-write of one counter; any lost update shows in the sum."""
    warehouse = Warehouse(path, lock_timeout_s=120)
    for _ in range(int(times)):
        with warehouse.writer("count") as con:
            value = con.execute("SELECT value FROM counter").fetchone()[0]
            con.execute("UPDATE counter SET value = ?", [value + 1])
    say("done")


def hold(path: str, seconds: str) -> None:
    with Warehouse(path, lock_timeout_s=30).writer("long job") as con:
        con.execute("SELECT 1")
        say("holding")
        time.sleep(float(seconds))


def keep(path: str) -> None:
    """Keep the warehouse open, commit one transaction, and be in the middle of another one."""
    warehouse = Warehouse(path, lock_timeout_s=30)
    with warehouse.kept_open("all of it"):
        with warehouse.writer("one") as con:
            con.execute("CREATE TABLE counter AS SELECT 1 AS value")
        with warehouse.writer("two") as con, transaction(con):
            con.execute("UPDATE counter SET value = 2")
            say("committed")
            sys.stdin.readline()


def linger(path: str) -> None:
    """Leave the file open after a step, and be the run between two steps."""
    with Warehouse(path, lock_timeout_s=30, lingers=True).writer("one") as con:
        con.execute("CREATE TABLE counter AS SELECT 1 AS value")
    say("lingers")
    sys.stdin.readline()


def queue(directory: str, name: str) -> None:
    """Wait for the lock once and tell when it was its turn."""
    lock = FairLock(Path(directory))
    sys.stdin.readline()
    with lock.held(name, 60), (Path(directory).parent / "order").open("a") as file:
        file.write(name + "\n")


def pairs(path: str) -> None:
    """Endless transactions that write the same number to two tables; a half-done one shows as a difference."""
    warehouse = Warehouse(path, lock_timeout_s=60)
    say("ready")
    while True:
        with warehouse.writer("pairs") as con, transaction(con):
            number = con.execute("SELECT coalesce(max(n), 0) + 1 FROM first").fetchone()[0]
            con.execute("INSERT INTO first SELECT ?, i FROM range(3000) AS r(i)", [number])
            con.execute("DELETE FROM first WHERE n < ?", [number - 3])
            con.execute("INSERT INTO second SELECT ?, i FROM range(3000) AS r(i)", [number])
            con.execute("DELETE FROM second WHERE n < ?", [number - 3])
        say("round")


def publishing(path: str, lake: str) -> None:
    """Endless changes of all three grains together, each published."""
    warehouse = Warehouse(path, lock_timeout_s=60)
    clock = FixedClock(NOW)
    say("ready")
    while True:
        clock.advance(1)
        with warehouse.writer("publish") as con:
            with transaction(con):
                for grain in ("minute", "hour", "date"):
                    con.execute(f"UPDATE mart.t_{grain}_stats SET value = value + 1")
                    bucket = datetime(2026, 2, 3, 9 if grain != "date" else 0)
                    mark_for_publish(con, f"mart.t_{grain}_stats", [bucket], clock.now())
            publish(con, lake, clock)
        say("round")


def fill_disk(path: str, limit_bytes: str) -> None:
    """Insert until the file size limit, which the kernel enforces, says no."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), int(limit_bytes)))
    warehouse = Warehouse(path)
    for _ in range(10_000):
        try:
            with warehouse.writer("fill") as con, transaction(con):
                number = con.execute("SELECT coalesce(max(n), 0) + 1 FROM first").fetchone()[0]
                con.execute("INSERT INTO first SELECT ?, hash(i) FROM range(100000) AS r(i)", [number])
                con.execute("INSERT INTO second SELECT ?, hash(i) FROM range(100000) AS r(i)", [number])
        except DiskFull as error:
            say("full:", error.message)
            return


def publish_on_full_disk(path: str, lake: str, limit_bytes: str) -> None:
    warehouse = Warehouse(path)
    try:
        with warehouse.writer("publish") as con:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), int(limit_bytes)))
            publish(con, lake, FixedClock(NOW))
    except DiskFull as error:  # of the lake, or of the warehouse's own log
        say("full:", error.message)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
