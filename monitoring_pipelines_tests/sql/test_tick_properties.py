"""Statistics kept up to date tick by tick equal those computed at once, however rows arrive (M-803, M-805)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring_pipelines.warehouse.core_refresh import refresh_core
from monitoring_pipelines.warehouse.ingest import mark_hour
from monitoring_pipelines.warehouse.windows import close_minutes, due_work, refresh_day, refresh_due
from monitoring_pipelines_tests.sql.core_cases import SOURCE, add_rows, new_warehouse, set_now
from monitoring_pipelines_tests.sql.test_core_properties import BASE, World, _world

BOOKKEEPING = {"revision", "first_closed_at", "restated_at", "frozen"}
TABLES = ("mart.endpoint_minute_stats", "mart.endpoint_hourly_stats", "mart.endpoint_daily_stats")
#: Small by default; a long random search is `MP_EXAMPLES=2000`.
EXAMPLES = int(os.environ.get("MP_EXAMPLES", "5"))
bounded = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="MP_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def _arrive(con: duckdb.DuckDBPyConnection, rows: list[tuple[str, int, dict[str, Any]]], now: datetime) -> None:
    for table, number, row in rows:
        add_rows(con, table, [row], number)
        if table == "raw.worker_snapshot":
            mark_hour(con, SOURCE, f"SELECT TIMESTAMP '{row['at']}'", now, "snapshot")


def _tick(con: duckdb.DuckDBPyConnection, now: datetime) -> None:
    set_now(con, now)
    refresh_core(con, SOURCE)
    close_minutes(con, now)
    refresh_due(con, due_work(con, now).hours, now)
    for due in due_work(con, now).days:
        refresh_day(con, due.day, now, due.source_id)


def _instants(world: World, rng: random.Random) -> Iterator[datetime]:
    """Ends of extraction cycles: usually every minute, sometimes after a pause; the last is the world's now."""
    at = BASE - timedelta(seconds=30)
    while at < world.now:
        yield at
        at += timedelta(seconds=rng.choice([60, 60, 95, 240, 400]))
    yield world.now


def _statistics(con: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    result = {}
    for table in TABLES:
        cursor = con.execute(f"SELECT * FROM {table} ORDER BY source_id, endpoint, 3")
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        result[table] = [{name: value for name, value in row.items() if name not in BOOKKEEPING} for row in rows]
    return result


@bounded
@given(st.integers(0, 10**6))
def test_ticks_with_late_rows_end_in_the_rows_of_one_computation(seed: int) -> None:
    """M-803, M-805: only marked minutes are recomputed, and no minute that changed is missing among them."""
    rng = random.Random(seed)
    world = _world(seed, tasks=10)
    setting = world.setting | {"settle_s": rng.choice([0, 60]), "snapshot_interval_s": rng.choice([60, 60, 90])}
    numbered = [(table, n, row) for table, rows in world.rows.items() for n, row in enumerate(rows, 1)]
    instants = list(_instants(world, rng))
    waiting = []
    for n, (_, _, row) in enumerate(numbered):
        # The extraction stamps a status with its own clock: it cannot arrive before.
        seen = min(row.get("status_seen_at") or instants[0], world.now)
        row |= {"status_seen_at": seen} if "status_seen_at" in row else {}
        first = next(number for number, now in enumerate(instants) if now >= seen)
        waiting.append((rng.randrange(first, len(instants)), n))
    with new_warehouse(setting, instants[0]) as ticked, new_warehouse(setting, world.now) as at_once:
        for number, now in enumerate(instants):
            _arrive(ticked, [numbered[n] for tick, n in waiting if tick == number], now)
            _tick(ticked, now)
        _arrive(at_once, numbered, world.now)
        _tick(at_once, world.now)
        for con in (ticked, at_once):
            # A day that is still going on is computed when one of its hours is complete; here: now.
            refresh_day(con, datetime(BASE.year, BASE.month, BASE.day), world.now, SOURCE)
        found, expected = _statistics(ticked), _statistics(at_once)
        assert expected[TABLES[0]], "an example without statistics shows nothing"
        for table in TABLES:
            assert [(r["endpoint"], *list(r.values())[2:3]) for r in found[table]] == [
                (r["endpoint"], *list(r.values())[2:3]) for r in expected[table]
            ], table
            for row, wanted in zip(found[table], expected[table], strict=True):
                differing = {name: (row[name], wanted[name]) for name in row if row[name] != wanted[name]}
                assert not differing, (table, list(row.values())[1:3], differing)
