"""Closing, restating and healing of statistics windows (section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import duckdb
import pytest

from monitoring_pipelines.warehouse.windows import (
    DAY,
    HOUR,
    DueWork,
    WindowError,
    close_minutes,
    due_work,
    refresh_day,
    refresh_due,
    refresh_hours,
    refresh_window,
)
from monitoring_pipelines_tests.sql.feeding import cycle, feed, new_store, rows_of
from monitoring_pipelines_tests.sql.worlds import build_world, load, warehouse

MINUTE_TABLE = "mart.endpoint_minute_stats"
NOON = datetime(2026, 2, 1, 12)
LATER = datetime(2026, 2, 3)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A source `shop` whose endpoint `a` is registered; nothing else happened."""
    with warehouse() as connection:
        world = build_world(Random(1), all_mapped=True)
        for name in ("attempts", "instants", "waits", "lives", "intervals", "snapshots", "concurrency"):
            setattr(world, name, [])
        world.registrations = [{"endpoint": "a", "registered_at": None, "unregistered_at": None}]
        load(connection, world)
        connection.execute("UPDATE meta.source_state SET origin = NULL, closed_through = NULL, as_of = ?", [NOON])
        yield connection


def rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[Any]:
    """All rows of a query."""
    return con.execute(sql).fetchall()


def submit(con: duckdb.DuckDBPyConnection, at: datetime) -> None:
    """A task is submitted, and its hour becomes dirty."""
    con.execute(
        "INSERT INTO core.task_instant(source_id, task_key, endpoint, \"at\", kind) VALUES ('shop', 'T', 'a', ?, 'submitted')",
        [at],
    )
    mark(con, at)


def mark(con: duckdb.DuckDBPyConnection, at: datetime) -> None:
    """Mark the hour of an instant as dirty."""
    con.execute(
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) VALUES ('shop', 'endpoint', date_trunc('hour', ?::TIMESTAMP), ?, 'test')",
        [at, NOON],
    )


def run_all(con: duckdb.DuckDBPyConnection, now: datetime) -> DueWork:
    """One cycle: close, compute what is due."""
    close_minutes(con, now)
    work = due_work(con, now)
    refresh_due(con, work.hours, now)
    for due in due_work(con, now).days:
        refresh_day(con, due.day, now, due.source_id)
    return work


def test_a_minute_closes_after_settling_and_an_extraction_that_began_later(con: duckdb.DuckDBPyConnection) -> None:
    """M-801: the later of the two conditions decides, and closed time never goes back."""
    close_minutes(con, NOON + timedelta(hours=1))
    assert rows(con, "SELECT closed_through FROM meta.source_state") == [(NOON,)]
    con.execute("UPDATE meta.source_state SET as_of = ?", [NOON + timedelta(minutes=3, seconds=59)])
    (closing,) = close_minutes(con, NOON + timedelta(minutes=3, seconds=30))
    assert (closing.before, closing.after) == (NOON, NOON + timedelta(minutes=2))
    con.execute("UPDATE meta.source_state SET as_of = ?", [NOON])
    assert close_minutes(con, NOON) == []
    assert rows(con, "SELECT closed_through FROM meta.source_state") == [(NOON + timedelta(minutes=2),)]


def test_first_start_computes_everything_and_then_only_what_is_new(con: duckdb.DuckDBPyConnection) -> None:
    """M-802: from the first day on, oldest first; the next cycle computes one minute and its hour."""
    submit(con, NOON - HOUR * 3)
    work = run_all(con, NOON + HOUR)
    assert [due.hour.hour for due in work.hours] == list(range(12))
    assert rows(con, f"SELECT count(*), min(stat_minute) FROM {MINUTE_TABLE}") == [(720, datetime(2026, 2, 1))]
    assert not due_work(con, NOON + HOUR)
    con.execute("UPDATE meta.source_state SET as_of = ?", [NOON + timedelta(seconds=70)])
    (due,) = run_all(con, NOON + HOUR).hours
    assert (due.start, due.end, due.dirty) == (NOON, NOON + timedelta(minutes=1), False)
    assert rows(
        con, "SELECT state, closed_minutes FROM mart.endpoint_hourly_stats ORDER BY stat_hour DESC LIMIT 1"
    ) == [("partial", 1)]


def test_downtime_leaves_no_gap(con: duckdb.DuckDBPyConnection) -> None:
    """M-802: all hours since the stored progress are due, and the day after that is closed as well."""
    run_all(con, NOON + HOUR)
    con.execute("UPDATE meta.source_state SET as_of = ?", [NOON + DAY])
    assert len(run_all(con, NOON + DAY + HOUR).hours) == 24
    assert rows(con, "SELECT state, closed_minutes FROM mart.endpoint_daily_stats ORDER BY ALL") == [
        ("closed", 1440),
        ("partial", 720),
    ]


def test_a_late_row_restates_minute_hour_and_day_once(con: duckdb.DuckDBPyConnection) -> None:
    """M-803, M-804: the touched rows get revision 2, all others stay; computing again writes nothing."""
    con.execute("UPDATE meta.source_state SET as_of = ?, origin = ?", [NOON + HOUR * 12, datetime(2026, 2, 1)])
    run_all(con, NOON + DAY)
    submit(con, NOON - timedelta(minutes=30))
    (due,) = run_all(con, LATER).hours
    assert (due.dirty, due.hour) == (True, NOON - HOUR)
    for table in (MINUTE_TABLE, "mart.endpoint_hourly_stats", "mart.endpoint_daily_stats"):
        changed = rows(con, f"SELECT tasks_submitted, revision, restated_at FROM {table} WHERE revision > 1")
        assert changed == [(1, 2, LATER)]
    assert rows(con, "SELECT count(*) FROM meta.dirty_hour") == [(0,)]
    mark(con, NOON - HOUR)
    assert run_all(con, LATER + HOUR).hours
    assert rows(con, f"SELECT max(revision), max(restated_at) FROM {MINUTE_TABLE}") == [(2, LATER)]


def test_only_marked_minutes_are_due(con: duckdb.DuckDBPyConnection) -> None:
    """M-803: marks of an hour are joined; with new minutes one window covers both; the part still open waits."""
    run_all(con, NOON + HOUR)

    def mark_minutes(first: int, last: int) -> None:
        con.execute(
            "INSERT INTO meta.dirty_hour VALUES ('shop', 'endpoint', ?, NULL, 'test', ?, ?)",
            [NOON - HOUR, NOON + timedelta(minutes=first), NOON + timedelta(minutes=last)],
        )

    mark_minutes(-40, -38)
    mark_minutes(-30, -29)
    (due,) = due_work(con, NOON + HOUR).hours
    assert (due.start, due.end) == (NOON - timedelta(minutes=40), NOON - timedelta(minutes=29))
    refresh_due(con, [due], NOON + HOUR)
    assert not due_work(con, NOON + HOUR).hours
    con.execute("UPDATE meta.source_state SET as_of = ?", [NOON + timedelta(minutes=3)])
    con.execute(
        "INSERT INTO meta.dirty_hour VALUES ('shop', 'endpoint', ?, NULL, 'test', ?, ?)",
        [NOON, NOON + timedelta(minutes=2), NOON + timedelta(minutes=9)],
    )
    (due,) = run_all(con, NOON + HOUR).hours
    assert (due.start, due.end) == (NOON, NOON + timedelta(minutes=3))
    assert rows(con, "SELECT count(*) FROM meta.dirty_hour") == [(0,)]


def test_a_partial_hour_grows_without_being_restated(con: duckdb.DuckDBPyConnection) -> None:
    """M-801, M-804: a row is first closed once, with revision 1."""
    for minutes in (30, 60):
        con.execute("UPDATE meta.source_state SET as_of = ?", [NOON + timedelta(minutes=minutes)])
        run_all(con, NOON + timedelta(minutes=minutes + 5))
    found = rows(con, "SELECT state, revision, restated_at, first_closed_at FROM mart.endpoint_hourly_stats "
                      "ORDER BY stat_hour DESC LIMIT 1")  # fmt: skip
    assert found == [("closed", 1, None, NOON + timedelta(minutes=65))]


def test_rows_that_should_not_exist_any_more_disappear(con: duckdb.DuckDBPyConnection) -> None:
    """M-805: the rows of a recomputed bucket are exactly those of its evidence."""
    run_all(con, NOON + HOUR)
    con.execute("UPDATE raw.endpoint_registration SET registered_at = ?", [NOON - timedelta(minutes=10)])
    results = refresh_hours(con, [NOON - HOUR], LATER)
    assert [result.deleted for result in results] == [50, 0]
    assert rows(con, f"SELECT count(*) FROM {MINUTE_TABLE} WHERE stat_minute >= '2026-02-01 11:00'") == [(10,)]


def test_a_failing_query_changes_nothing(con: duckdb.DuckDBPyConnection) -> None:
    """M-806: an input that cannot be read leaves rows, marks and progress as they were."""
    run_all(con, NOON + HOUR)
    submit(con, NOON - timedelta(minutes=30))
    before = rows(con, f"SELECT * FROM {MINUTE_TABLE} ORDER BY ALL")
    con.execute("ALTER TABLE core.task_wait RENAME COLUMN to_at TO gone")
    with pytest.raises(duckdb.Error):
        refresh_due(con, due_work(con, LATER).hours, LATER)
    assert rows(con, f"SELECT * FROM {MINUTE_TABLE} ORDER BY ALL") == before
    assert rows(con, "SELECT count(*) FROM meta.dirty_hour") == [(1,)]
    con.execute("ALTER TABLE core.task_wait RENAME COLUMN gone TO to_at")
    run_all(con, LATER)
    assert rows(con, f"SELECT sum(tasks_submitted) FROM {MINUTE_TABLE}") == [(1,)]


def test_buckets_without_raw_rows_are_frozen(con: duckdb.DuckDBPyConnection) -> None:
    """M-803: a late row older than the raw rows changes no figure; the row says frozen, an anomaly says why."""
    run_all(con, NOON + HOUR)
    con.execute("UPDATE meta.source_state SET raw_from = ?", [NOON])
    submit(con, NOON - timedelta(minutes=30))
    run_all(con, LATER)
    assert rows(con, f"SELECT count(*), max(revision), sum(tasks_submitted) FROM {MINUTE_TABLE} WHERE frozen") == [
        (60, 1, 0)
    ]
    assert rows(con, "SELECT kind FROM raw.anomaly") == [("late_beyond_retention",)]
    assert rows(con, "SELECT count(*) FROM meta.dirty_hour") == [(0,)]


def test_older_history_moves_the_first_day(con: duckdb.DuckDBPyConnection) -> None:
    """M-802: rows of an earlier day within the backfill make that day and all between due; older ones are dropped."""
    run_all(con, NOON + HOUR)
    submit(con, NOON - DAY)
    submit(con, NOON - DAY * 90)
    work = run_all(con, NOON + HOUR)
    assert len(work.hours) == 24
    assert rows(con, "SELECT origin FROM meta.source_state") == [(datetime(2026, 1, 31),)]
    assert rows(con, "SELECT kind FROM raw.anomaly") == [("late_beyond_retention",)]
    assert not due_work(con, NOON + HOUR)


def test_years_of_late_hours_are_one_anomaly(con: duckdb.DuckDBPyConnection) -> None:
    """M-803: a task that waits since 1970 marks half a million hours; they are told of once and forgotten."""
    run_all(con, NOON + HOUR)
    con.execute(
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) SELECT 'shop', 'endpoint', h, ?, 't' "
        "FROM range(TIMESTAMP '1970-01-01', TIMESTAMP '2025-12-01', INTERVAL 1 HOUR) AS r(h)",
        [NOON],
    )
    mark(con, datetime(2025, 12, 5))
    run_all(con, NOON + HOUR)
    found = rows(con, 'SELECT "key", detail FROM raw.anomaly ORDER BY "key"')
    assert [key for key, _ in found] == ["1970-01-01T00", "2025-12-05T00"]
    assert "up to 2025-11-30T23" in found[0][1]
    assert not due_work(con, NOON + HOUR)


def test_windows_are_whole_buckets(con: duckdb.DuckDBPyConnection) -> None:
    """A window that cuts a bucket would store half of it."""
    with pytest.raises(WindowError, match="not the start of a bucket"):
        refresh_window(con, "mart.endpoint_hourly_stats", NOON + timedelta(minutes=1), NOON + HOUR, LATER)


def test_a_slice_is_the_same_as_the_whole(con: duckdb.DuckDBPyConnection) -> None:
    """M-805: hours computed in one chunk or one by one are the same rows."""
    world = build_world(Random(7), all_mapped=True)
    load(con, world)
    hours = [datetime(2026, 2, 1, 22), datetime(2026, 2, 1, 23), datetime(2026, 2, 2)]
    refresh_hours(con, hours, LATER)
    whole = rows(con, f"SELECT * FROM {MINUTE_TABLE} ORDER BY ALL")
    con.execute(f"DELETE FROM {MINUTE_TABLE}")
    for hour in reversed(hours):
        refresh_hours(con, [hour], LATER)
    assert rows(con, f"SELECT * FROM {MINUTE_TABLE} ORDER BY ALL") == whole
    assert len(whole) > 5


def test_a_late_instant_of_a_worker_gives_its_minute_a_row() -> None:
    """M-110 b, M-803: events and facts that change no life are due as well; what is known already is not due again."""
    began, now = NOON - HOUR, NOON + 10 * HOUR
    worker = {"row_id": 1, "worker_key": "w", "endpoint": "a", "status": "online", "ready_at": began}
    offline = {"row_id": 1, "event_key": "o", "worker_key": "w", "endpoint": "a", "event_type": "offline"}
    with new_store({"has_worker": True, "has_worker_event": True}) as con:
        feed(con, "worker", [worker], now)
        cycle(con, now, endpoints=True)
        seen = rows_of(con, MINUTE_TABLE)
        later = now + timedelta(seconds=20)
        feed(con, "worker_event", [offline | {"at": NOON - 3 * HOUR}], later)
        feed(con, "worker", [worker | {"created_at": NOON - 2 * HOUR}], later)
        cycle(con, later, endpoints=True)
        found = [row["stat_minute"] for row in rows_of(con, MINUTE_TABLE) if row not in seen]
        assert found == [NOON - 3 * HOUR, NOON - 2 * HOUR]
        feed(con, "worker", [worker | {"created_at": NOON - 2 * HOUR, "terminated_at": now}], later)
        assert (NOON - 2 * HOUR,) not in rows(con, "SELECT hour FROM meta.dirty_hour")


def test_slots_of_a_worker_known_by_its_evidence_first_are_restated() -> None:
    """E-112, M-803: the first known concurrency holds from the beginning, also for minutes that are closed."""
    now, later = NOON + 3 * HOUR, NOON + 3 * HOUR + timedelta(seconds=20)
    event = {"row_id": 1, "event_key": "r", "worker_key": "w", "endpoint": "a", "event_type": "registered", "at": NOON}
    worker = {"row_id": 1, "worker_key": "w", "endpoint": "a", "status": "online", "concurrency": 3}
    slots = f"SELECT DISTINCT slot_online_ms / online_ms FROM {MINUTE_TABLE} WHERE online_ms > 0"
    with new_store({"has_worker": True, "has_worker_event": True}) as con:
        feed(con, "worker_event", [event], now)
        cycle(con, now, endpoints=True)
        assert rows(con, slots) == [(1,)]
        feed(con, "worker", [worker], later)
        cycle(con, later, endpoints=True)
        assert rows(con, slots) == [(3,)]
