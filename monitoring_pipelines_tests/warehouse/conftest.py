"""Fixtures of the warehouse tests: a warehouse, a lake, a clock, and small statistics tables with known content."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse.connect import Warehouse, transaction
from monitoring_pipelines.warehouse.publish import mark_for_publish

NOW = datetime(2026, 2, 3, 10, 30)
Actor = Callable[..., subprocess.Popen[str]]
MODULE = "monitoring_pipelines_tests.warehouse.actors"
Fill = Callable[[datetime, int, float], None]


@dataclass(frozen=True)
class Limits:
    """Days after which rows are removed."""

    raw_days: int = 10
    minute_days: int = 10
    hour_days: int = 400
    day_days: int = 3650


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def warehouse(tmp_path: Path, clock: FixedClock) -> Warehouse:
    return Warehouse(tmp_path / "data" / "warehouse.duckdb", lock_timeout_s=60, clock=clock)


@pytest.fixture
def lake_path(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def fill(warehouse: Warehouse, clock: FixedClock) -> Fill:
    """``fill(hour, endpoints, value)``: minute rows of one hour and its hour and day row, marked for publication."""
    with warehouse.writer("tables") as con:
        for grain, kind in (("minute", "TIMESTAMP"), ("hour", "TIMESTAMP"), ("date", "DATE")):
            con.execute(
                f"CREATE TABLE mart.t_{grain}_stats(source_id VARCHAR, endpoint VARCHAR, stat_{grain} {kind}, "
                "n BIGINT, value DOUBLE)"
            )

    def write(hour: datetime, endpoints: int, value: float) -> None:
        day = hour.replace(hour=0)
        with warehouse.writer("fill") as con, transaction(con):
            for grain, start, span, count in (
                ("minute", hour, "1 HOUR", 60),
                ("hour", hour, "1 HOUR", 1),
                ("date", day, "1 DAY", 1),
            ):
                con.execute(
                    f"DELETE FROM mart.t_{grain}_stats WHERE stat_{grain} >= ? AND stat_{grain} < ?::TIMESTAMP "
                    f"+ INTERVAL {span}",
                    [start, start],
                )
                con.execute(
                    f"INSERT INTO mart.t_{grain}_stats SELECT 's', 'e' || e, ?::TIMESTAMP + to_minutes(m), 1, ? "
                    "FROM range(?) AS a(e), range(?) AS b(m)",
                    [start, value, endpoints, count],
                )
                mark_for_publish(con, f"mart.t_{grain}_stats", [start], clock.now())

    return write


@pytest.fixture
def actor() -> Iterator[Actor]:
    """Start a program of ``actors`` as a process; all are gone at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
