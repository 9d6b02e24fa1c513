"""Extraction cycles against a real server: what is found, and what happens when reading fails.

What belongs here: E-601 to E-613 and E-701 to E-703 through ``extract_cycle``. What does not: marks as such
(``test_marks``), comparison of both sides (``test_reconcile``), statistics.
"""

from __future__ import annotations

import os
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.errors import ProductError, SchemaDrift, SourceUnavailable
from monitoring_pipelines.pipeline import Pipeline, reconcile, unverified_days
from monitoring_pipelines.source.reconcile import prove_empty_days
from monitoring_pipelines.source.tail import CycleResult, extract_cycle
from monitoring_pipelines.warehouse.connect import Warehouse

NOW = datetime(2026, 3, 8, 6, 30)
MAPPING = """version: 1
stats: {backfill_days: 3}
sources:
  - id: shop
    read_dsn_env: TAIL_DSN
    tables:
      task:
        table: tasks
        row_id: id
        key: task_id
        columns:
          status: {column: status, map: {RUN: running, DONE: succeeded, BAD: failed}}
          endpoint: endpoint
          created_at: created_at
          started_at: started_at
          ended_at: ended_at
      task_event:
        table: events
        row_id: id
        key: event_id
        columns:
          task_key: task_id
          event_type: {column: kind, map: {C: created, A: assigned, D: completed}}
          at: happened
"""
DDL = (
    """create table tasks (id bigint auto_increment primary key, task_id varchar(64) collate utf8mb4_bin unique, endpoint varchar(64),
       status varchar(20), created_at datetime(3), started_at datetime(3), ended_at datetime(3), key (created_at), key (ended_at))""",
    """create table events (id bigint auto_increment primary key, event_id varchar(64) unique, task_id varchar(64),
       kind varchar(10), happened datetime(3), key (happened))""",
)


class Platform:
    """A small platform: its database, its configuration, and cycles at instants of choice."""

    def __init__(self, db: Any, settings: Settings) -> None:
        self.db, self.settings = db, settings
        self.warehouse = Warehouse(settings.warehouse_path)

    def cycle(self, minutes: float = 0) -> CycleResult:
        clock = FixedClock(NOW + timedelta(minutes=minutes))
        return extract_cycle(self.settings, self.settings.sources[0], self.warehouse, clock)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse.reader() as con:
            return con.execute(sql).fetchall()

    def task(
        self,
        key: str,
        status: str = "DONE",
        created: str = "2026-03-08 06:00:00",
        ended: str | None = "2026-03-08 06:01:00",
    ) -> None:
        self.db.execute(
            "insert into tasks (task_id, endpoint, status, created_at, ended_at) values (%s, 'e', %s, %s, %s)",
            (key, status, created, ended),
        )

    def event(self, key: str, at: str = "2026-03-08 06:00:00", ident: int | None = None) -> None:
        self.db.execute(
            "insert into events (id, event_id, task_id, kind, happened) values (%s, %s, 't', 'C', %s)", (ident, key, at)
        )


@pytest.fixture
def platform(mariadb_db: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    for statement in DDL:
        mariadb_db.execute(statement)
    monkeypatch.setenv("TAIL_DSN", mariadb_db.dsn)
    path = tmp_path / "monitoring.yaml"
    path.write_text(MAPPING)
    return Platform(mariadb_db, load_settings(path))


def test_new_and_changed_rows_are_found_without_updated_at(platform: Platform) -> None:
    """E-604, E-606: new ids, and open rows read again by key."""
    platform.task("a", "RUN", ended=None)
    platform.cycle()
    platform.db.execute("update tasks set status = 'DONE', ended_at = '2026-03-08 06:31:00' where task_id = 'a'")
    platform.task("b")
    result = platform.cycle(2)
    assert platform.rows("select task_key, status from raw.task order by 1") == [("a", "succeeded"), ("b", "succeeded")]
    assert result.tables["tasks", "task"].written.updated == 1


def test_repeating_a_cycle_changes_nothing(platform: Platform) -> None:
    """E-602: the same rows read again leave no new version and no dirty key."""
    platform.task("a")
    platform.event("e1")
    platform.cycle()
    with platform.warehouse.writer("test") as con:
        con.execute("delete from meta.dirty_task")
    before = platform.rows("select * from raw.task union all by name select * from raw.task_event")
    platform.cycle(1)
    assert platform.rows("select * from raw.task union all by name select * from raw.task_event") == before
    assert platform.rows("select * from meta.dirty_task") == []


def test_rows_of_the_overlap_are_fetched_only_where_they_differ(platform: Platform) -> None:
    """E-605 to E-607: a final row that changed is found within the overlap; what the store has is not fetched again."""
    platform.db.execute("alter table tasks modify task_id varchar(64) collate utf8mb4_bin not null")
    for key in ("same", "other", "gone"):
        platform.task(key, created="2026-03-08 06:28:00", ended="2026-03-08 06:29:00")
    platform.task("waits", "RUN", created="2026-03-08 01:00:00", ended=None)
    platform.cycle()
    platform.cycle(1)
    platform.db.execute("update tasks set status = 'BAD' where task_id = 'other'")
    with platform.warehouse.writer("test") as con:
        con.execute("update raw.task set deleted_at = changed_at, deleted_reason = 'hard' where task_key = 'gone'")
    platform.task("new", created="2026-03-08 06:30:00", ended="2026-03-08 06:31:00")
    result = platform.cycle(2)
    assert platform.rows("select task_key, status, deleted_at from raw.task order by 1") == [
        ("gone", "succeeded", None), ("new", "succeeded", None), ("other", "failed", None), ("same", "succeeded", None),
        ("waits", "running", None),
    ]  # fmt: skip
    assert result.tables["tasks", "task"].rows_read == 3
    assert platform.cycle(3).tables["tasks", "task"].rows_read == 0


def test_another_mapping_types_the_rows_of_the_overlap_again(platform: Platform, tmp_path: Path) -> None:
    """E-202, E-606: open rows and those of the overlap follow a changed status map, though the source did not change."""
    platform.db.execute("alter table tasks modify task_id varchar(64) collate utf8mb4_bin not null")
    platform.task("odd", "NEWWORD", created="2026-03-08 01:00:00", ended=None)
    platform.task("late", "NEWWORD", created="2026-03-08 06:28:00", ended="2026-03-08 06:29:00")
    platform.cycle()
    platform.cycle(1)
    assert platform.rows("select distinct status from raw.task") == [("unknown",)]
    path = tmp_path / "known.yaml"
    path.write_text(MAPPING.replace("BAD: failed", "BAD: failed, NEWWORD: cancelled"))
    platform.settings = load_settings(path)
    platform.cycle(2)
    assert platform.rows("select distinct status from raw.task") == [("cancelled",)]


def test_tasks_that_share_a_key_keep_the_newest_row(platform: Platform) -> None:
    """E-602: without a unique key an older row of a key, read again alone, would replace the newer one."""
    platform.db.execute("alter table tasks drop key task_id")
    platform.task("twice", "BAD", created="2026-03-08 06:28:00", ended="2026-03-08 06:29:00")
    platform.task("twice", "DONE", created="2026-03-08 06:28:00", ended="2026-03-08 06:29:30")
    for minute in range(3):
        platform.cycle(minute)
        assert platform.rows("select task_key, status from raw.task") == [("twice", "succeeded")]


def test_late_rows_with_old_times_are_found_by_their_new_ids(platform: Platform) -> None:
    """E-604: a late row carries an old time and a new id; its task is marked."""
    platform.event("e1")
    platform.cycle()
    platform.event("late", at="2026-03-06 01:00:00")
    platform.cycle(30)
    assert platform.rows("select event_key from raw.task_event order by 1") == [("e1",), ("late",)]


@pytest.mark.parametrize("table", ["task", "task_event"])
def test_new_rows_with_lower_ids_are_found_by_their_time_where_the_server_gives_no_ids(
    platform: Platform, table: str
) -> None:
    """E-604, E-607: ids of several writers, each with a range of its own, do not rise."""
    source, key = {"task": ("tasks", "task_key"), "task_event": ("events", "event_key")}[table]
    platform.db.execute(f"alter table {source} modify id bigint not null")
    columns = "task_id, endpoint, status, created_at" if table == "task" else "event_id, task_id, kind, happened"
    values = "%s, 'e', 'RUN', %s" if table == "task" else "%s, 't', 'C', %s"
    add = f"insert into {source} (id, {columns}) values (%s, {values})"
    platform.db.execute(add, (9_000_000, "high", "2026-03-08 06:29:00"))
    platform.cycle()
    platform.cycle(15)
    platform.db.execute(add, (5, "low", "2026-03-08 06:44:30"))
    platform.cycle(16)
    assert platform.rows(f"select {key} from raw.{table} order by 1") == [("high",), ("low",)]


def test_transactions_that_commit_late_are_found(platform: Platform) -> None:
    """E-604: an id becomes visible after higher ids were read."""
    platform.event("first")
    platform.cycle()
    slow = platform.db.connect()
    slow.begin()
    with slow.cursor() as cursor:
        cursor.execute(
            "insert into events (event_id, task_id, kind, happened) values ('slow', 't', 'C', '2026-03-08 06:31:00')"
        )
    platform.event("fast")
    platform.cycle(1)
    assert ("slow",) not in platform.rows("select event_key from raw.task_event")
    slow.commit()
    slow.close()
    platform.cycle(2)
    assert ("slow",) in platform.rows("select event_key from raw.task_event")


def test_keys_that_differ_by_case_are_two_tasks(platform: Platform) -> None:
    """E-401: keys are compared byte by byte, whatever the server's collation."""
    platform.task("x9")
    platform.task("X9")
    platform.cycle()
    assert platform.rows("select task_key from raw.task order by 1") == [("X9",), ("x9",)]


def test_zero_dates_and_unknown_status_are_kept_as_anomalies(platform: Platform) -> None:
    """E-304, E-202: a bad value is NULL or unknown and an anomaly, never a crash and never a zero."""
    platform.db.execute("set session sql_mode = ''")
    with platform.db.connect() as raw, raw.cursor() as cursor:
        cursor.execute("set session sql_mode = ''")
        cursor.execute(
            "insert into tasks (task_id, endpoint, status, created_at, ended_at) values ('z', 'e', 'WAT', '2026-03-08 06:00:00', '0000-00-00')"
        )
        raw.commit()
    platform.cycle()
    assert platform.rows("select status, raw_status, ended_at from raw.task") == [("unknown", "WAT", None)]
    assert platform.rows("select kind from raw.anomaly order by 1") == [("unmapped_status",), ("zero_date",)]


def test_clock_of_the_source_ahead_never_moves_a_mark(platform: Platform) -> None:
    """E-306: future rows are stored and wait; the mark stays, so rows of the present are still found."""
    platform.cycle()
    platform.task("future", created="2026-03-08 06:41:00", ended="2026-03-08 06:41:30")
    platform.cycle(1)
    assert platform.rows("select kind from raw.anomaly") == [("future_time",)]
    assert platform.rows("select count(*) from meta.pending_instant")[0][0] >= 1
    platform.task("now", created="2026-03-08 06:31:30", ended="2026-03-08 06:32:00")
    platform.cycle(2)
    assert ("now",) in platform.rows("select task_key from raw.task")


def _state(platform: Platform) -> list[list[tuple[Any, ...]]]:
    return [
        platform.rows("select * from raw.task order by task_key"),
        platform.rows("select src_table, max_id, holes, time_marks from meta.extract_mark order by 1"),
        platform.rows("select source_id, as_of from meta.source_state"),
    ]


def test_a_missing_column_stops_the_source_and_leaves_everything_as_it_was(platform: Platform) -> None:
    """E-613, E-702: no row and no mark changes; the error is recorded; the gap is filled when the column returns."""
    platform.task("a")
    platform.cycle()
    before = _state(platform)
    platform.db.execute("alter table tasks rename column ended_at to gone_at")
    with pytest.raises(SchemaDrift, match="ended_at"):
        platform.cycle(1)
    assert _state(platform) == before
    assert "ended_at" in platform.rows("select last_error from meta.source_state")[0][0]
    platform.db.execute("alter table tasks rename column gone_at to ended_at")
    platform.task("b")
    platform.cycle(2)
    assert len(platform.rows("select * from raw.task")) == 2
    assert platform.rows("select last_error from meta.source_state") == [(None,)]


def test_a_table_that_disappears_and_returns_is_read_without_manual_action(platform: Platform) -> None:
    """E-702: while it is gone the source's minutes stay open; afterwards the gap is read."""
    platform.event("e1")
    platform.cycle()
    as_of = platform.rows("select as_of from meta.source_state")
    platform.db.execute("rename table events to events_away")
    with pytest.raises(SchemaDrift, match="events"):
        platform.cycle(1)
    assert platform.rows("select as_of from meta.source_state") == as_of
    platform.db.execute("rename table events_away to events")
    platform.event("e2")
    platform.cycle(2)
    assert platform.rows("select event_key from raw.task_event order by 1") == [("e1",), ("e2",)]


def test_a_source_that_is_down_changes_nothing(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-613: no default, no zero row."""
    platform.task("a")
    platform.cycle()
    before = _state(platform)
    monkeypatch.setenv("TAIL_DSN", "mysql://nobody:nothing@127.0.0.1:1/none")
    with pytest.raises(SourceUnavailable) as caught:
        platform.cycle(1)
    assert "nothing" not in str(caught.value)
    assert _state(platform) == before


def test_a_slow_statement_ends_at_its_limit(platform: Platform) -> None:
    """E-601: a lock on the table makes the statement slow; it ends with an error, and nothing changed."""
    platform.task("a")
    platform.cycle()
    before = _state(platform)
    quick = platform.settings.extract.model_copy(update={"query_timeout_s": 1})
    platform.settings = platform.settings.model_copy(update={"extract": quick})
    holder = platform.db.connect()
    with holder.cursor() as cursor:
        cursor.execute("lock tables tasks write")
        with pytest.raises(ProductError):
            platform.cycle(1)
        cursor.execute("unlock tables")
    holder.close()
    assert _state(platform) == before
    platform.cycle(2)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
def test_the_zone_of_the_process_does_not_matter(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """M-101, E-005: 8 March 2026 is a daylight-saving day in New York."""
    platform.task("a", created="2026-03-08 02:30:00", ended="2026-03-08 06:59:59")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        platform.cycle()
        assert platform.rows("select created_at, ended_at from raw.task") == [
            (datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 6, 59, 59))
        ]
    finally:
        os.environ.pop("TZ", None)
        time.tzset()


def test_a_row_read_twice_keeps_when_its_status_was_first_seen(platform: Platform) -> None:
    """M-210: the instant a status was first seen does not move when other columns change."""
    platform.task("a", "RUN", ended=None)
    platform.cycle()
    platform.db.execute("update tasks set endpoint = 'f' where task_id = 'a'")
    platform.cycle(3)
    assert platform.rows("select endpoint, status_seen_at from raw.task") == [("f", NOW)]


def test_a_table_read_again_does_not_bring_back_what_retention_removed(platform: Platform, tmp_path: Path) -> None:
    """E-901: of a small table without ids everything is read each time; a changed old row that is kept still counts."""
    path = tmp_path / "rescan.yaml"
    path.write_text(
        MAPPING.replace(
            "        table: tasks\n        row_id: id\n", "        table: tasks\n        strategy: rescan\n"
        )
    )
    platform.settings = load_settings(path)
    for key, created in (
        ("gone", "2026-03-06 01:00:00"),
        ("kept", "2026-03-06 02:00:00"),
        ("new", "2026-03-08 06:00:00"),
    ):
        platform.task(key, created=created)
    platform.cycle()
    with platform.warehouse.writer("retention") as con:
        con.execute("delete from raw.task where task_key = 'gone'")
        con.execute("update meta.source_state set raw_from = timestamp '2026-03-07 00:00:00'")
    platform.db.execute("update tasks set status = 'BAD' where task_id = 'kept'")
    result = platform.cycle(1)
    assert platform.rows("select task_key, status from raw.task order by 1") == [
        ("kept", "failed"),
        ("new", "succeeded"),
    ]
    assert result.tables["tasks", "task"].strategy == "rescan"
    assert result.tables["tasks", "task"].written.pruned == 1


def test_rows_of_the_first_load_are_rows_read(platform: Platform) -> None:
    """S-350: what ``mp_extract_rows_total`` counts begins with the history, which is most of what is ever read."""
    for day in (6, 7):
        platform.task(f"t{day}", created=f"2026-03-0{day} 01:00:00")
        platform.event(f"e{day}", at=f"2026-03-0{day} 01:00:00")
    counted = "select src_table, rows_total from meta.extract_mark order by 1"
    platform.cycle()
    assert platform.rows(counted) == [("events", 2), ("tasks", 2)]
    platform.event("e8")
    platform.cycle(3)
    assert platform.rows(counted) == [("events", 3), ("tasks", 2)]


def test_the_first_load_proves_the_days_without_rows(platform: Platform) -> None:
    """E-609: a day of which the store has rows is left to its own comparison, although the source has none."""
    platform.task("a", created="2026-03-06 01:00:00")
    platform.cycle()
    proven = 'select distinct "day"::varchar from meta.reconciliation where entity = \'task\' and equal and "day" is not null order by 1'
    assert platform.rows(proven) == [("2026-03-05",), ("2026-03-06",), ("2026-03-07",), ("2026-03-08",)]
    with platform.warehouse.writer("test") as con:
        con.execute("delete from meta.reconciliation")
        con.execute("delete from meta.extract_mark")
    platform.db.execute("delete from tasks")

    def prove(first: int, last: int) -> int:
        days = date(2026, 3, first), date(2026, 3, last)
        source = platform.settings.sources[0]
        return prove_empty_days(platform.settings, source, platform.warehouse, FixedClock(NOW), *days, NOW)

    assert prove(6, 6) == 1, "the table of events is empty"
    assert prove(5, 7) == 5
    assert platform.rows(proven) == [("2026-03-05",), ("2026-03-07",)]


def test_no_proof_at_all_when_every_day_has_rows(platform: Platform) -> None:
    platform.task("a", created="2026-03-06 01:00:00")
    platform.event("e", at="2026-03-06 01:00:00")
    platform.cycle()
    source = platform.settings.sources[0]
    day = date(2026, 3, 6)
    assert prove_empty_days(platform.settings, source, platform.warehouse, FixedClock(NOW), day, day, NOW) == 0


def test_a_large_table_without_ids_is_read_by_creation_and_compared_whole_every_hour(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-608: cycles take new and open rows of it; what they cannot see is found within the hour."""
    monkeypatch.setattr("monitoring_pipelines.source.tail.RESCAN_ROWS", 4)
    platform.db.execute("alter table tasks drop column id, drop key created_at")
    path = tmp_path / "rescan.yaml"
    path.write_text(MAPPING.replace("        row_id: id\n        key: task_id\n", "        key: task_id\n"))
    platform.settings = load_settings(path)
    for n in range(12):
        platform.task(f"t{n}", created=f"2026-03-07 {n:02d}:00:00", ended=f"2026-03-07 {n:02d}:01:00")
    platform.task("old", created="2026-02-01 00:00:00")
    platform.task("open", "RUN", created="2026-03-07 01:00:00", ended=None)
    platform.db.execute("analyze table tasks")
    platform.cycle()
    platform.task("new", created="2026-03-08 06:30:30", ended="2026-03-08 06:30:31")
    platform.db.execute("update tasks set status = 'DONE', ended_at = '2026-03-08 06:31:00' where task_id = 'open'")
    platform.db.execute("update tasks set status = 'BAD' where task_id = 't3'")
    platform.db.execute("delete from tasks where task_id = 't4'")
    result = platform.cycle(2)
    assert result.tables["tasks", "task"].strategy == "rescan"
    assert result.tables["tasks", "task"].rows_read < 5
    found = "select task_key, status from raw.task where task_key not like 't%' order by 1"
    assert platform.rows(found) == [("new", "succeeded"), ("open", "succeeded")]

    pipe = Pipeline.of(platform.settings, FixedClock(NOW + timedelta(minutes=3)))
    assert unverified_days(pipe) == []
    pipe = Pipeline.of(platform.settings, FixedClock(NOW + timedelta(minutes=63)))
    assert unverified_days(pipe) == [datetime(2026, 3, 8)]
    reconcile(pipe, date(2026, 3, 8))
    seen = "select task_key, status, deleted_reason from raw.task where task_key in ('t3', 't4', 'old') order by 1"
    assert platform.rows(seen) == [("t3", "failed", None), ("t4", "succeeded", "hard")]
    assert unverified_days(pipe) == []
