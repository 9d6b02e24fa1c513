"""Tables published for look-ups: every change reaches its file, and only the files that changed are written again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.published.jobs import figures, overview
from monitoring_pipelines.published.reader import Published
from monitoring_pipelines.warehouse import serving
from monitoring_pipelines.warehouse.check_sql import query
from monitoring_pipelines.warehouse.connect import Warehouse, transaction
from monitoring_pipelines.warehouse.core_refresh import refresh_core
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.lake import Lake
from monitoring_pipelines.warehouse.maintenance import check_lake
from monitoring_pipelines.warehouse.publish import publish
from monitoring_pipelines.warehouse.serving import MERGE_AFTER, mark
from monitoring_pipelines.warehouse.task_summaries import SUMMARIES

HASH = "md5_number_lower(concat_ws(chr(31), 's', ?))"


class Store:
    """Raw tasks, attempts and outputs written directly, as the pipeline would have."""

    def __init__(self, warehouse: Warehouse, lake: Path, clock: FixedClock) -> None:
        self.warehouse, self.lake, self.clock = warehouse, lake, clock
        with warehouse.writer("tables") as con:
            ensure_core(con)

    def task(self, key: str, created: datetime | None, status: str = "succeeded") -> None:
        with self.warehouse.writer("task") as con, transaction(con):
            con.execute(f"DELETE FROM raw.task WHERE key_hash = {HASH}", [key])
            con.execute(
                "INSERT INTO raw.task (source_id, task_key, endpoint, status, created_at, ended_at, effective_end, is_deleted, "
                f"first_seen_at, changed_at, key_hash) VALUES ('s', ?, 'e', ?, ?, ?, ?, false, ?, ?, {HASH})",
                [key, status, created, created, created, self.clock.now(), self.clock.now(), key],
            )
            con.execute(f"INSERT INTO meta.publish_task SELECT {HASH}", [key])

    def attempt(self, key: str, number: int, started: datetime, outcome: str) -> None:
        ended = None if outcome == "open" else started + timedelta(seconds=5)
        with self.warehouse.writer("attempt") as con, transaction(con):
            con.execute(
                "INSERT INTO core.task_attempt (source_id, task_key, attempt_no, endpoint, worker_key, started_at, ended_at, "
                f"outcome, counted, late_event_count, task_hash) VALUES ('s', ?, ?, 'e', 'w', ?, ?, ?, ?, 0, {HASH})",
                [key, number, started, ended, outcome, outcome != "open", key],
            )
            con.execute(f"INSERT INTO meta.publish_task SELECT {HASH}", [key])

    def push(self) -> Lake:
        with self.warehouse.writer("publish") as con:
            publish(con, self.lake, self.clock, budget_s=60)
        return Lake(self.lake)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        lake = Lake(self.lake)
        with lake.connect() as con:
            return con.execute(sql).fetchall()


@pytest.fixture
def store(warehouse: Warehouse, lake_path: Path, clock: FixedClock) -> Store:
    return Store(warehouse, lake_path, clock)


def test_a_task_carries_its_attempts_and_what_they_add_up_to(store: Store) -> None:
    at = store.clock.now() - timedelta(minutes=5)
    store.task("again", at, "failed")
    store.attempt("again", 1, at, "timeout")
    store.attempt("again", 2, at + timedelta(minutes=1), "open")
    store.task("bare", at, "queued")
    store.push()
    found = store.rows(
        "SELECT task_key, status, attempts, open_attempts, timed_out, outputs, len(attempt_list) FROM core.task"
    )
    assert sorted(found) == [("again", "failed", 2, 1, 1, 0, 2), ("bare", "queued", 0, 0, 0, 0, None)]


def test_attempts_and_outputs_of_a_task_are_in_order_in_whatever_order_they_were_read(store: Store) -> None:
    at = store.clock.now() - timedelta(minutes=5)
    for key, numbers in (("three", (2, 3, 1)), ("one", (1,))):
        store.task(key, at)
        for number in numbers:
            store.attempt(key, number, at + timedelta(seconds=number), "completed")
            with store.warehouse.writer("output") as con:
                con.execute(
                    "INSERT INTO raw.task_output (source_id, output_key, task_key, created_at, valid, natural_key, "
                    f"first_seen_at, task_hash) VALUES ('s', ?, ?, ?, true, ?, ?, {HASH})",
                    [f"o{number}", key, at + timedelta(seconds=number), f"o{number}", at, key],
                )
    store.push()
    found = store.rows(
        "SELECT task_key, [a.attempt_no FOR a IN attempt_list], [o.output_key FOR o IN output_list], outputs FROM core.task"
    )
    assert sorted(found) == [("one", [1], ["o1"], 1), ("three", [1, 2, 3], ["o1", "o2", "o3"], 3)]


def test_events_of_a_task_are_published_however_wrong_the_clock_of_its_source_is(store: Store) -> None:
    read = store.clock.now() - timedelta(minutes=20)
    for key, created in (("ahead", read + timedelta(days=3)), ("right", read), ("behind", read - timedelta(days=3))):
        store.task(key, created)
        with store.warehouse.writer("event") as con:
            con.execute(
                'INSERT INTO raw.task_event (source_id, event_key, task_key, event_type, "at", first_seen_at, task_hash) '
                f"VALUES ('s', ?, ?, 'created', ?, ?, {HASH})",
                [key, key, created, read, key],
            )
    store.push()
    assert sorted(store.rows("SELECT task_key, len(event_list) FROM core.task")) == [
        ("ahead", 1),
        ("behind", 1),
        ("right", 1),
    ]


def test_leaked_slots_are_published_as_the_check_counts_them(store: Store) -> None:
    at = store.clock.now() - timedelta(minutes=5)
    for key in ("leaks", "freed"):
        store.task(key, at, "timed_out")
        store.attempt(key, 1, at, "timeout")
    store.push()
    assert store.rows("SELECT leaked FROM core.slot_figure") == [(2,)]
    with store.warehouse.writer("test") as con:
        con.execute("UPDATE core.task_attempt SET executor_ended_at = ended_at WHERE task_key = 'freed'")
        [row] = query(con, "leaked_slots", {})
    store.task("another", at)
    store.push()
    assert store.rows("SELECT leaked FROM core.slot_figure") == [(1,)] == [(row["leaked"],)]


def test_a_change_rewrites_only_the_file_of_the_task(store: Store) -> None:
    now = store.clock.now()
    for minutes in (1, 25, 200, 2000, 9000):
        store.task(f"t{minutes}", now - timedelta(minutes=minutes))
    before = store.push().manifest.tables["core.task"].partitions
    assert sorted(map(len, before)) == [10, 13, 13, 15, 15]  # a day, two hours, twice ten minutes
    store.task("t25", now - timedelta(minutes=25), "failed")
    after = store.push().manifest.tables["core.task"].partitions
    assert [key for key in after if after[key] != before[key]] == [f"{now - timedelta(minutes=30):%Y-%m-%dT%H%M}"]
    assert store.rows("SELECT status FROM core.task WHERE task_key = 't25'") == [("failed",)]


def test_a_day_too_large_for_memory_is_copied_in_parts_and_is_the_same_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = store.clock.now().replace(hour=0, minute=0) - timedelta(days=3)
    for minutes in range(0, 24 * 60, 25):
        at = day + timedelta(minutes=minutes)
        store.task(f"t{minutes}", at)
        store.attempt(f"t{minutes}", 1, at + timedelta(seconds=1), "completed")
    [whole] = store.push().manifest.tables["core.task"].partitions.values()
    content = store.rows("SELECT t FROM core.task AS t")
    summaries = {name: store.rows(f"SELECT t FROM {name} AS t") for name in SUMMARIES}
    monkeypatch.setattr(serving, "PIECE_TASKS", 7)
    store.task("t0", day, "failed")
    [parted] = store.push().manifest.tables["core.task"].partitions.values()
    assert (parted.rows, parted.file != whole.file) == (whole.rows, True)
    store.task("t0", day)
    [again] = store.push().manifest.tables["core.task"].partitions.values()
    assert again.rows == whole.rows
    assert store.rows("SELECT t FROM core.task AS t") == content
    assert {name: store.rows(f"SELECT t FROM {name} AS t") for name in SUMMARIES} == summaries


def test_rows_that_come_between_two_publications_of_their_file_are_in_the_second(store: Store) -> None:
    """The first publication's marks are still stored then: they must not hide that there is something new."""
    at = store.clock.now() - timedelta(minutes=3)
    for number in (1, 2, 3):
        with store.warehouse.writer("run") as con, transaction(con):
            con.execute(
                "INSERT INTO raw.job_run (source_id, run_key, job_id, started_at, outcome, first_seen_at) "
                "VALUES ('s', ?, 'j', ?, 'success', ?)",
                [f"r{number}", at, at],
            )
            mark(con, "raw.job_run", f"SELECT TIMESTAMP '{at}'", store.clock.now())
        store.push()
        assert store.rows("SELECT count(*) FROM raw.job_run") == [(number,)]


def test_ten_minute_files_become_one_hour_and_nothing_is_lost(store: Store) -> None:
    hour = store.clock.now().replace(minute=0)
    for minutes in range(0, 60, 7):
        store.task(f"t{minutes}", hour + timedelta(minutes=minutes))
    store.clock.instant = hour + timedelta(minutes=59)
    assert len(store.push().manifest.tables["core.task"].partitions) == 6
    store.clock.instant = hour + MERGE_AFTER
    assert list(store.push().manifest.tables["core.task"].partitions) == [f"{hour:%Y-%m-%dT%H}"]
    assert store.rows("SELECT count(*), count(DISTINCT task_key) FROM core.task") == [(9, 9)]


def test_a_task_known_only_by_its_events_exists_until_its_row_comes(store: Store) -> None:
    at = store.clock.now() - timedelta(minutes=3)
    with store.warehouse.writer("status") as con, transaction(con):
        con.execute(
            "INSERT INTO core.task_status (source_id, task_key, endpoint, status, created_at, ended_at, has_row, task_hash) "
            f"VALUES ('s', 'x', 'e', 'succeeded', ?, ?, false, {HASH})",
            [at, at, "x"],
        )
        con.execute(f"INSERT INTO meta.publish_task SELECT {HASH}", ["x"])
    store.attempt("x", 1, at, "completed")
    store.push()
    assert store.rows("SELECT task_key, status, attempts FROM core.task") == [("x", "succeeded", 1)]
    with store.warehouse.writer("status") as con:
        con.execute("DELETE FROM core.task_status")
    store.task("x", at)
    store.push()
    assert store.rows("SELECT task_key, status, attempts FROM core.task") == [("x", "succeeded", 1)]


def test_a_task_without_creation_time_is_found_at_first_sight(store: Store) -> None:
    store.task("x", None, "unknown")
    store.push()
    assert store.rows("SELECT task_key, bucket_at FROM core.task") == [("x", store.clock.now())]


def test_job_figures_follow_new_runs_and_use_the_last_thousand(store: Store) -> None:
    now = store.clock.now()
    with store.warehouse.writer("runs") as con, transaction(con):
        con.execute(
            "INSERT INTO raw.job_run (source_id, run_key, job_id, started_at, ended_at, duration_ms, outcome, trigger, first_seen_at) "
            "SELECT 's', 'r' || i, 'j', $now::TIMESTAMP - to_minutes(2000 - i), $now::TIMESTAMP - to_minutes(2000 - i), "
            "CASE WHEN i < 500 THEN 1000000 ELSE i END, CASE WHEN i % 10 = 0 THEN 'failure' ELSE 'success' END, 'schedule', "
            "$now FROM range(1500) AS t(i)",
            {"now": now},
        )
        con.execute("INSERT INTO meta.publish_job VALUES ('s', 'j')")
    store.push()
    assert store.rows(
        "SELECT success_count, failure_count, sample_count, min_duration_ms, max_duration_ms, p50_duration_ms, last_status "
        "FROM core.job_figure"
    ) == [(1350, 150, 1000, 500.0, 1499.0, 999.5, "success")]


def test_a_run_that_ends_in_the_future_is_none_yet_and_no_duration_is_negative(store: Store) -> None:
    """E-306, M-215: a wrong clock neither makes the newest run nor a negative figure; the run counts when its time has come."""
    now = store.clock.now()

    def found(as_of: datetime) -> list[tuple[Any, ...]]:
        with store.warehouse.writer("cycle") as con:
            con.execute("DELETE FROM meta.source_state")
            con.execute("INSERT INTO meta.source_state (source_id, as_of) VALUES ('s', ?)", [as_of])
            refresh_core(con, "s")
        store.push()
        return store.rows(
            "SELECT success_count, failure_count, last_status, last_duration_ms, sample_count FROM core.job_figure"
        )

    with store.warehouse.writer("runs") as con, transaction(con):
        con.execute("INSERT INTO meta.source_setting (source_id, future_tolerance_s) VALUES ('s', 5)")
        for key, outcome, started, ended in (("ahead", "success", 59, 60), ("back", "failure", 0, -1)):
            con.execute(
                "INSERT INTO raw.job_run (source_id, run_key, job_id, started_at, ended_at, outcome, first_seen_at, key_hash) "
                f"VALUES ('s', ?, 'j', ?, ?, ?, ?, {HASH})",
                [key, now + timedelta(minutes=started), now + timedelta(minutes=ended), outcome, now, key],
            )
        con.execute("INSERT INTO meta.publish_job VALUES ('s', 'j')")
        con.execute(
            "INSERT INTO meta.pending_instant VALUES ('s', 'job_run', 'ahead', ?::TIMESTAMP)",
            [now + timedelta(hours=1)],
        )
    assert found(now) == [(0, 1, "failure", None, 0)]
    assert found(now + timedelta(minutes=61)) == [(1, 1, "success", 60000.0, 1)]


def test_sums_of_durations_are_exact(store: Store) -> None:
    """M-106, M-502: adding milliseconds leaves no trace of binary fractions, so a mean in the middle is rounded up."""
    now = store.clock.now()
    with store.warehouse.writer("runs") as con, transaction(con):
        con.execute(
            "INSERT INTO raw.job_run (source_id, run_key, job_id, started_at, ended_at, outcome, first_seen_at) "
            "SELECT 's', i, 'j', $now::TIMESTAMP - to_microseconds(17005), $now::TIMESTAMP, 'success', $now FROM range(5) AS t(i)",
            {"now": now},
        )
        con.execute("INSERT INTO meta.publish_job VALUES ('s', 'j')")
    store.push()
    with Published(store.lake).look() as look:
        (job,) = figures(look, ["s"])
    expected = ("lifetime_avg_duration_ms", "avg_duration_ms", "p50_duration_ms", "last_duration_ms")
    assert [job[name] for name in expected] == [17.01] * 4
    assert overview([job])["avg_duration_ms"] == 17.01


def test_runs_missed_since_the_last_one_are_counted_until_one_finishes(store: Store) -> None:
    """A job that is due and does not run still has the state of its last run (M-502); this tells it from one that runs."""

    def run(job: str, outcome: str, minutes_ago: int) -> None:
        at = store.clock.now() - timedelta(minutes=minutes_ago)
        planned, ended = (at, None) if outcome == "missed" else (None, at)
        with store.warehouse.writer("runs") as con, transaction(con):
            con.execute(
                "INSERT INTO raw.job_run (source_id, run_key, job_id, scheduled_at, ended_at, outcome, first_seen_at) "
                "VALUES ('s', ?, ?, ?, ?, ?, ?)",
                [f"{job} {minutes_ago}", job, planned, ended, outcome, at],
            )
            con.execute("INSERT INTO meta.publish_job VALUES ('s', ?)", [job])

    def found() -> list[tuple[Any, ...]]:
        store.push()
        return store.rows("SELECT job_id, missed_count, missed_since_last FROM core.job_figure ORDER BY job_id")

    for minutes_ago in (50, 30, 20):
        run("never ran", "missed", minutes_ago)
        run("ran", "missed", minutes_ago)
    run("ran", "failure", 40)
    run("ran", "running", 10)
    assert found() == [("never ran", 3, 3), ("ran", 3, 2)]
    run("ran", "success", 5)
    assert found() == [("never ran", 3, 3), ("ran", 3, 0)]


def _summaries(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of every summary, and under ``expected`` what the rows of the tasks say."""
    found = {}
    for name, summary in SUMMARIES.items():
        stored = store.rows(f"SELECT * FROM {name}")
        computed = store.rows(summary.query("core.task"))
        found[name] = [tuple(map(str, row)) for row in stored], [tuple(map(str, row)) for row in computed]
    return found


def test_summaries_say_what_their_files_say_after_changes_and_merges(store: Store) -> None:
    hour = store.clock.now().replace(minute=0)
    for minutes in range(0, 60, 3):
        store.task(f"t{minutes}", hour + timedelta(minutes=minutes), "failed" if minutes % 9 == 0 else "succeeded")
    store.clock.instant = hour + timedelta(minutes=59)
    fine = store.push().manifest.tables
    assert all(set(fine[name].partitions) == set(fine["core.task"].partitions) for name in SUMMARIES)
    store.task("t9", hour + timedelta(minutes=9))
    store.clock.instant = hour + MERGE_AFTER
    merged = store.push().manifest.tables
    assert all(list(merged[name].partitions) == [f"{hour:%Y-%m-%dT%H}"] for name in SUMMARIES)
    for name, (stored, computed) in _summaries(store).items():
        assert stored == computed, name
    assert store.rows("SELECT sum(n)::INT FROM core.task_group") == [(20,)]


def test_files_published_without_summaries_get_them_with_the_next_publication(store: Store) -> None:
    store.task("t", store.clock.now() - timedelta(days=5))
    store.push()
    path = store.lake / "manifest.json"
    document = json.loads(path.read_text())
    for name in SUMMARIES:
        document["tables"][name]["partitions"] = {}
    path.write_text(json.dumps(document))
    tables = store.push().manifest.tables
    assert all(list(tables[name].partitions) == list(tables["core.task"].partitions) for name in SUMMARIES)


def test_a_damaged_summary_is_made_again(store: Store, warehouse: Warehouse) -> None:
    store.task("t", store.clock.now() - timedelta(days=5))
    entry = next(iter(store.push().manifest.tables["core.task_group"].partitions.values()))
    (store.lake / entry.file).write_bytes(b"nothing")
    assert check_lake(warehouse, store.lake, store.clock).damaged == [entry.file]
    store.push()
    assert store.rows("SELECT n FROM core.task_group") == [(1,)]
