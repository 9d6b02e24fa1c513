"""What several processes say of one partition for the first time at the same moment is all kept, on every dialect."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from sqlalchemy import insert

from monitoring_pipelines.state import StateStore, partition_checks
from monitoring_pipelines.state.tables import partition_check
from monitoring_pipelines.warehouse.audits import AuditResult
from monitoring_pipelines.warehouse.families import FAMILIES

NOW = datetime(2026, 3, 1, 12)
HOUR = timedelta(hours=1)
FAMILY = next(name for name in sorted(FAMILIES) if FAMILIES[name].hour_tables)
TABLE = FAMILIES[FAMILY].hour_tables[0]


def says(store: StateStore, name: str, bad_rows: int) -> None:
    """An audit of one hour."""
    found = AuditResult("M-900", name, "", bad_rows, places={(TABLE, "shop", NOW - HOUR): bad_rows})
    partition_checks.record(store, [found], FAMILY, ["shop"], NOW - HOUR, NOW, NOW)


def said(store: StateStore) -> dict[str, int]:
    return partition_checks.read(store, ["shop"], [TABLE], NOW - HOUR, NOW)["shop", TABLE, NOW - HOUR].checks


def test_who_comes_second_waits_for_the_first_and_keeps_what_it_said(store: StateStore) -> None:
    row = {"source_id": "shop", "table_name": TABLE, "bucket": NOW - HOUR, "checks": {"first": 3}, "checked_at": NOW}
    with store.begin() as con:
        con.execute(insert(partition_check).values(row))
        second = threading.Thread(target=says, args=(store, "second", 0))
        second.start()
        time.sleep(0.5)  # until it waits for this transaction; one that began later would see the row anyway
    second.join(timeout=30)
    assert not second.is_alive()
    assert said(store) == {"first": 3, "second": 0}


def test_many_at_once_are_all_kept_and_a_newer_answer_replaces_the_older(store: StateStore) -> None:
    store.engine()
    everybody = [threading.Thread(target=says, args=(store, f"audit{n}", n)) for n in range(6)]
    for one in everybody:
        one.start()
    for one in everybody:
        one.join(timeout=60)
    assert said(store) == {f"audit{n}": n for n in range(6)}
    says(store, "audit5", 0)
    assert said(store) == {f"audit{n}": n for n in range(5)} | {"audit5": 0}
