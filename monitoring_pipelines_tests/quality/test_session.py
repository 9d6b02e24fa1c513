"""How long checks keep the warehouse: as long as nobody waits for it, and not for ever."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from monitoring_pipelines.clock import SystemClock
from monitoring_pipelines.quality import context
from monitoring_pipelines.quality.context import Session
from monitoring_pipelines.warehouse.connect import Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    found = Warehouse(tmp_path / "warehouse.duckdb", clock=SystemClock())
    with found.writer("make"):
        pass
    return found


def is_open(warehouse: Warehouse) -> bool:
    return warehouse.lock.holder() is not None


def test_between_two_queries_the_warehouse_goes_to_whoever_waits_for_it(warehouse, monkeypatch):
    monkeypatch.setattr(context, "HOLD_S", 0.0)
    session, written = Session(warehouse), threading.Event()

    def write() -> None:
        with Warehouse(warehouse.path, clock=SystemClock()).writer("tick"):
            written.set()

    session.query("SELECT 1")
    session.breathe()
    assert is_open(warehouse), "nobody waits: it need not be opened again for the next query"
    writer = threading.Thread(target=write)
    writer.start()
    until = time.monotonic() + 20
    while not warehouse.is_wanted() and time.monotonic() < until:
        time.sleep(0.01)
    assert not written.is_set()
    session.breathe()
    assert written.wait(20)
    writer.join()
    assert session.query("SELECT 1") == [(1,)]
    session.close()


def test_a_session_that_nobody_waits_for_closes_the_warehouse_after_a_while(warehouse, monkeypatch):
    monkeypatch.setattr(context, "MOST_S", 0.0)
    session = Session(warehouse)
    session.query("SELECT 1")
    session.breathe()
    assert not is_open(warehouse)


def test_rows_that_a_block_needs_stay_until_it_ends(warehouse, monkeypatch):
    monkeypatch.setattr(context, "MOST_S", 0.0)
    session = Session(warehouse)
    with session.kept():
        session.con.execute("CREATE TEMP TABLE mine AS SELECT 7 AS n")
        session.breathe()
        assert session.query("SELECT n FROM mine") == [(7,)]
    assert not is_open(warehouse)
