"""What several processes say of one partition for the first time at the same moment is all kept, on every dialect."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from monitoring_pipelines.state import StateStore, partition_checks
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


def test_two_who_look_at_the_halves_of_a_day_do_not_stop_each_other(store: StateStore) -> None:
    """Both say something of hours of their own and of the day."""
    store.engine()
    together, sources, days = threading.Barrier(2), [f"s{n}" for n in range(6)], 15
    family = next(name for name in sorted(FAMILIES) if FAMILIES[name].hour_tables and FAMILIES[name].day_tables)
    table = FAMILIES[family].day_tables[0]

    def look(half: int) -> None:
        for day in (datetime(2026, 2, 1) + timedelta(days=n) for n in range(days)):
            start = day + half * 12 * HOUR
            places = {(table, source, day): half + 1 for source in sources}
            together.wait(timeout=60)
            found = AuditResult("M-900", f"half{half}", "", 1, places=places)
            partition_checks.record(store, [found], family, sources, start, start + 12 * HOUR, NOW)

    with ThreadPoolExecutor(2) as both:
        list(both.map(look, range(2)))
    rows = partition_checks.read(store, sources, [table], datetime(2026, 2, 1), datetime(2026, 3, 1))
    assert [row.checks for row in rows.values()] == [{"half0": 1, "half1": 2}] * len(sources) * days


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
