"""Each audit finds the fault it exists for (M-901 to M-910), and nothing in sound tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from random import Random

import duckdb
import pytest

from monitoring_pipelines.warehouse.audits import load_audits, run_audits
from monitoring_pipelines.warehouse.windows import refresh_day, refresh_hours
from monitoring_pipelines_tests.sql.worlds import build_world, load, warehouse

START, END = datetime(2026, 2, 1, 23), datetime(2026, 2, 3)
MINUTE = "mart.endpoint_minute_stats"
FAULTS = {
    "M-901": f"UPDATE {MINUTE} SET active_workers = active_workers + 1",
    "M-902": f"UPDATE {MINUTE} SET slot_utilization = 100.01",
    "M-903": f"UPDATE {MINUTE} SET online_ms = online_ms + 0.001, busy_ms = busy_ms + 0.001",
    "M-904": f"UPDATE {MINUTE} SET idle_ms = idle_ms + 0.001",
    "M-905": f"UPDATE {MINUTE} SET active_workers = 0, idle_workers = total_workers",
    "M-906": "UPDATE mart.endpoint_hourly_stats SET p50_execution_ms = 999999999 WHERE execution_n > 0",
    "M-907": f"INSERT INTO {MINUTE} SELECT * FROM {MINUTE} LIMIT 1",
    "M-908": f"UPDATE {MINUTE} SET attempts_started = attempts_started - 1 WHERE attempts_started > 0",
    "M-909": f"DELETE FROM {MINUTE} WHERE total_workers > 0",
    "M-910": f"UPDATE {MINUTE} SET exec_hist = '{{}}' WHERE execution_n > 0",
}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A world with workers, attempts and executions, fully computed."""
    with warehouse() as connection:
        load(connection, build_world(Random(36), all_mapped=True))
        refresh_hours(connection, [START, datetime(2026, 2, 2)], END)
        refresh_day(connection, datetime(2026, 2, 1), END)
        yield connection


def test_sound_tables_pass(con: duckdb.DuckDBPyConnection) -> None:
    """Every audit runs and finds nothing."""
    results = run_audits(con, START, END)
    assert len(results) == len(load_audits())
    assert all(result.passed and result.description for result in results), results


@pytest.mark.parametrize("rule", FAULTS)
def test_fault_is_found(con: duckdb.DuckDBPyConnection, rule: str) -> None:
    """The audit of the rule names bad rows with table and key."""
    con.execute(FAULTS[rule])
    (result,) = (found for found in run_audits(con, START, END, frozenset({rule})) if not found.passed)
    assert {"table_name", "source_id", "endpoint", "bucket", "detail"} == set(result.sample[0])
