"""The invariants of outputs, jobs, processes, ingest and messages: sound tables pass, each fault is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import duckdb
import pytest

from monitoring_pipelines.warehouse.audits import run_audits
from monitoring_pipelines.warehouse.families import FAMILIES, activate
from monitoring_pipelines_tests.sql.feeding import cycle, feed, new_store

T0 = datetime(2026, 2, 1, 10)
NOW = T0 + timedelta(hours=15)
DAY = datetime(2026, 2, 1)
FAULTS = {
    "m902_job_values_in_range": "UPDATE mart.job_minute_stats SET missed_count = -1",
    "m902_output_values_in_range": "UPDATE mart.output_hourly_stats SET missing_rate = 100.01",
    "m903_output_sums_add_up": "UPDATE mart.output_minute_stats SET invalid_outputs = invalid_outputs + 1",
    "m903_job_sums_add_up": "UPDATE mart.job_daily_stats SET manual_count = manual_count + 1",
    "m903_ingest_sums_add_up": "UPDATE mart.ingest_minute_stats SET increase = increase + 0.000001",
    "m903_resource_sums_add_up": "DELETE FROM mart.resource_minute_stats WHERE samples_received > 0",
    "m903_notification_sums_add_up": "UPDATE mart.notification_hourly_stats SET attempts_ok = attempts_ok + 1",
    "m906_job_averages_and_order": "UPDATE mart.job_minute_stats SET avg_duration_ms = avg_duration_ms + 0.01",
    "m906_resource_averages_and_order": "UPDATE mart.resource_hourly_stats SET avg_mem_pct = 0 WHERE mem_pct_n = 0",
    "m906_notification_averages_and_order": "UPDATE mart.notification_daily_stats SET avg_latency_ms = NULL",
    "m907_ingest_one_row_per_key": "INSERT INTO mart.ingest_daily_stats SELECT * FROM mart.ingest_daily_stats",
    "m910_job_histograms": "UPDATE mart.job_hourly_stats SET duration_hist = NULL",
    "m910_notification_histograms": "UPDATE mart.notification_minute_stats SET latency_hist = '{\"7\": 9}'",
    "m911_completeness_adds_up": "UPDATE mart.output_minute_stats SET missing_count = missing_count + 1",
    "m911_job_runs_add_up": "UPDATE mart.job_minute_stats SET total_runs = total_runs + 1",
}


@pytest.fixture(scope="module")
def computed() -> Iterator[duckdb.DuckDBPyConnection]:
    """A day in which something happened in every family, fully computed."""
    con = new_store()
    task = {"row_id": 1, "task_key": "t", "endpoint": "a", "status": "succeeded", "created_at": T0, "ended_at": T0}
    feed(con, "task", [task, {**task, "row_id": 2, "task_key": "u"}], NOW)
    feed(
        con,
        "task_output",
        [{"row_id": 1, "output_key": "o", "task_key": "t", "uri": "x", "size_bytes": 10, "created_at": T0}],
        NOW,
    )
    run = {"job_id": "j", "outcome": "success", "started_at": T0, "ended_at": T0, "trigger": "schedule"}
    feed(con, "job_run", [{**run, "row_id": n, "run_key": str(n), "duration_ms": n * 100} for n in range(3)], NOW)
    con.execute("INSERT INTO raw.process_sample (source_id, process_id, \"at\", rss_bytes, scope) VALUES ('shop', 'p', ?, 5, 'process')", [T0])  # fmt: skip
    for minutes, value in ((0, 0), (100, 1000)):
        con.execute("INSERT INTO raw.ingest_counter (source_id, process_id, series, kind, \"at\", value) VALUES ('shop', 'p', 's', 'ok', ?, ?)", [T0 + timedelta(minutes=minutes), value])  # fmt: skip
    con.execute("INSERT INTO raw.notification_attempt (source_id, notification_id, attempt_no, channel, \"at\", ok, latency_ms) VALUES ('shop', 'n', 1, 'ops', ?, true, 5)", [T0])  # fmt: skip
    activate(con, "shop", [entity for family in FAMILIES.values() for entity in family.entities])
    cycle(con, NOW)
    yield con
    con.close()


@pytest.fixture
def con(computed: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same, undone after the test."""
    computed.execute("BEGIN")
    yield computed
    computed.execute("ROLLBACK")


def test_sound_tables_pass(con: duckdb.DuckDBPyConnection) -> None:
    """Every family has rows of every grain, and no audit finds fault with them."""
    for family in FAMILIES.values():
        for table in (*family.hour_tables, *family.day_tables):
            if family.name != "endpoint":
                assert con.execute(f"SELECT count(*) FROM {table}").fetchone() != (0,), table
    names = frozenset(FAULTS)
    results = run_audits(con, DAY, DAY + timedelta(days=1), names=names)
    assert {result.name for result in results} == names
    assert all(result.passed and result.description for result in results), [r for r in results if not r.passed]


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """The audit names bad rows with table, subject and bucket."""
    con.execute(FAULTS[name])
    (result,) = run_audits(con, DAY, DAY + timedelta(days=1), names=frozenset({name}))
    assert result.bad_rows > 0
    assert {"table_name", "source_id", "bucket", "detail"} < set(result.sample[0])


def test_a_day_that_goes_on_is_not_behind_its_newest_hour() -> None:
    """M-903 holds for closed days: one that goes on follows when an hour is complete, not with every minute."""
    with new_store() as con:
        for number, ended in enumerate((T0, T0 + timedelta(minutes=80))):
            task = {"row_id": number, "task_key": str(number), "endpoint": "a", "status": "succeeded"}
            now = ended + timedelta(minutes=70 if number == 0 else 10)
            feed(con, "task", [task | {"created_at": ended, "ended_at": ended}], now)
            cycle(con, now)
        hours = con.execute("SELECT stat_hour, total_tasks FROM mart.output_hourly_stats ORDER BY ALL").fetchall()
        assert hours == [(T0, 1), (T0 + timedelta(hours=1), 1)]
        assert con.execute("SELECT state, total_tasks FROM mart.output_daily_stats").fetchall() == [("partial", 1)]
        names = frozenset({"m903_output_sums_add_up"})
        (result,) = run_audits(con, DAY, DAY + timedelta(days=1), names=names)
        assert result.passed, result.sample
