"""Statistics of random worlds equal the oracle's, and their invariants hold."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring_pipelines.warehouse.audits import run_audits
from monitoring_pipelines.warehouse.windows import refresh_day, refresh_hours, refresh_window
from monitoring_pipelines_tests.sql.oracle_mart import DAY, HOUR, World, larger_rows, minute_rows
from monitoring_pipelines_tests.sql.worlds import MINUTES, START, load, warehouse, worlds

FIRST, LAST = datetime(2026, 2, 1, 23), datetime(2026, 2, 3)
HOURS = [FIRST, FIRST + HOUR]
NOW = datetime(2026, 2, 3, 12)
TABLES = {
    "mart.endpoint_minute_stats": "stat_minute",
    "mart.endpoint_hourly_stats": "stat_hour",
    "mart.endpoint_daily_stats": "stat_date",
}
#: Small by default; a long random search is `MP_EXAMPLES=2000`.
EXAMPLES = int(os.environ.get("MP_EXAMPLES", "24"))
bounded = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="MP_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@pytest.fixture(scope="module")
def con() -> Any:
    """One warehouse for all examples; every example replaces its rows."""
    with warehouse() as connection:
        yield connection


def compute(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """Load a world into emptied tables and compute everything."""
    load(con, world)
    for table in TABLES:
        con.execute(f"DELETE FROM {table}")
    refresh_hours(con, HOURS, NOW)
    for day in (datetime(2026, 2, 1), datetime(2026, 2, 2)):
        refresh_day(con, day, NOW)


def stored(con: duckdb.DuckDBPyConnection, table: str) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Rows by (endpoint, bucket)."""
    cursor = con.execute(f"SELECT * REPLACE ({TABLES[table]}::TIMESTAMP AS {TABLES[table]}) FROM {table}")
    names = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    result = {(row["endpoint"], row[TABLES[table]]): row for row in rows}
    assert len(result) == len(rows), "two rows with one key"
    return result


def assert_equal(actual: dict[Any, dict[str, Any]], expected: dict[Any, dict[str, Any]]) -> None:
    """Same keys; every column the oracle knows has the same value."""
    assert sorted(actual) == sorted(expected)
    for key, wanted in expected.items():
        for column, value in wanted.items():
            if column in actual[key]:
                found = actual[key][column]
                assert _plain(found) == _plain(value), f"{key} {column}: {found!r}, oracle {value!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    if isinstance(value, Decimal | Fraction | int | float) and not isinstance(value, bool):
        return Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    return value


@bounded
@given(world=worlds())
def test_minute_hour_and_day_equal_the_oracle(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """Section 4 column by column: M-101 to M-110, M-307 to M-317, M-451 to M-455."""
    compute(con, world)
    minutes = minute_rows(world, FIRST, LAST)
    assert_equal(stored(con, "mart.endpoint_minute_stats"), minutes)
    assert_equal(stored(con, "mart.endpoint_hourly_stats"), larger_rows(world, minutes, HOUR))
    assert_equal(stored(con, "mart.endpoint_daily_stats"), larger_rows(world, minutes, DAY))


@bounded
@given(world=worlds())
def test_audits_are_clean(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """M-901 to M-910 hold for every world."""
    compute(con, world)
    bad = [result for result in run_audits(con, FIRST, LAST) if not result.passed]
    assert not bad, bad


@settings(bounded, max_examples=EXAMPLES // 4)
@given(world=worlds(all_mapped=True), order=st.permutations(range(-1, MINUTES + 1)))
def test_windows_in_any_order_give_the_same_rows(
    con: duckdb.DuckDBPyConnection, world: World, order: list[int]
) -> None:
    """M-805: minute by minute in any order, or all at once; a second time writes nothing (M-804)."""
    compute(con, world)
    tables = ("mart.endpoint_minute_stats", "mart.endpoint_hourly_stats")
    at_once = [stored(con, table) for table in tables]
    for table in tables:
        con.execute(f"DELETE FROM {table}")
    for number in order:
        minute = START + timedelta(minutes=number)
        refresh_window(con, tables[0], minute, minute + timedelta(minutes=1), NOW)
    refresh_window(con, tables[1], HOURS[1], HOURS[1] + HOUR, NOW)
    refresh_window(con, tables[1], HOURS[0], HOURS[0] + HOUR, NOW)
    assert [stored(con, table) for table in tables] == at_once
    again = refresh_hours(con, HOURS, NOW + HOUR)
    assert [(r.inserted, r.updated, r.deleted) for r in again] == [(0, 0, 0)] * len(again)
    assert [stored(con, table) for table in tables] == at_once


@settings(bounded, max_examples=EXAMPLES // 4)
@given(first=worlds(), second=worlds())
def test_restated_rows_are_those_of_a_fresh_computation(
    con: duckdb.DuckDBPyConnection, first: World, second: World
) -> None:
    """M-804, M-805: after any change of the evidence the stored values are a function of the evidence alone."""
    second.closed_through = max(first.closed_through, second.closed_through)
    second.as_of = max(second.as_of, second.closed_through)
    compute(con, first)
    load(con, second)
    refresh_hours(con, HOURS, NOW + HOUR)
    minutes = minute_rows(second, FIRST, LAST)
    assert_equal(stored(con, "mart.endpoint_minute_stats"), minutes)
    assert_equal(stored(con, "mart.endpoint_hourly_stats"), larger_rows(second, minutes, HOUR))
    assert all(r.passed for r in run_audits(con, FIRST, LAST, frozenset({"M-907"})))
