"""What may be removed, what must stay, and what is remembered about it (E-901, E-902)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.core_tables import CORE_DDL
from monitoring_pipelines.warehouse.publish import publish
from monitoring_pipelines.warehouse.retention import RetentionReport, apply_retention, prune_raw_slice
from monitoring_pipelines_tests.warehouse.conftest import NOW, Fill, Limits
from monitoring_pipelines_tests.warehouse.test_publish import OLD, TODAY

DAY = timedelta(days=1)
LIMIT = datetime(2026, 1, 24)


class Store:
    """A warehouse with one source and short ways to put rows in and count them."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.run(
            "INSERT INTO meta.source_state(source_id, as_of, closed_through, origin) VALUES "
            "('s', TIMESTAMP '2026-02-03 10:29', TIMESTAMP '2026-02-03 10:28', TIMESTAMP '2026-01-01')",
            *(f"CREATE TABLE {name}({columns})" for name, columns in CORE_DDL.items()),
        )

    def run(self, *statements: str) -> None:
        with self.warehouse.writer("test") as con:
            for statement in statements:
                con.execute(statement)

    def task(self, key: str, at: datetime, status: str = "succeeded", ended: datetime | None = None) -> None:
        end = ended or at
        self.run(
            "INSERT INTO raw.task BY NAME SELECT 's' AS source_id, "
            f"'{key}' AS task_key, '{status}' AS status, TIMESTAMP '{at}' AS created_at, "
            f"TIMESTAMP '{end}' AS ended_at, hash('{key}') AS task_hash",
            "INSERT INTO raw.task_event BY NAME SELECT 's' AS source_id, 'e' || i || '-' || "
            f"'{key}' AS event_key, '{key}' AS task_key, "
            f"CASE i WHEN 0 THEN TIMESTAMP '{at}' ELSE TIMESTAMP '{end}' END "
            f"AS \"at\", hash('{key}') AS task_hash FROM range(2) AS r(i)",
            "INSERT INTO raw.task_output BY NAME SELECT 's' AS source_id, "
            f"'o-{key}' AS output_key, '{key}' AS task_key, "
            f"TIMESTAMP '{end}' AS created_at, hash('{key}') AS task_hash",
            f'INSERT INTO core.task_instant(source_id, task_key, "at", kind, task_hash) VALUES '
            f"('s', '{key}', TIMESTAMP '{at}', 'submitted', hash('{key}'))",
            f"INSERT INTO core.task_attempt(source_id, task_key, started_at, ended_at, task_hash) VALUES "
            f"('s', '{key}', TIMESTAMP '{at}', TIMESTAMP '{end}', hash('{key}'))",
        )

    def values(self, sql: str) -> list[object]:
        with self.warehouse.reader() as con:
            return [row[0] for row in con.execute(sql).fetchall()]

    def tasks(self) -> list[object]:
        """Keys of tasks that are whole: row, both events, output, instant and attempt; half ones are an error."""
        counts = {
            table: self.values(f"SELECT task_key || count(*) // {number} FROM {table} GROUP BY task_key ORDER BY 1")
            for table, number in (
                ("raw.task", 1),
                ("raw.task_event", 2),
                ("raw.task_output", 1),
                ("core.task_instant", 1),
            )
        }
        assert len({tuple(keys) for keys in counts.values()}) == 1, counts
        return self.values("SELECT task_key FROM raw.task ORDER BY 1")

    def raw_from(self) -> datetime:
        return self.values("SELECT raw_from FROM meta.source_state")[0]


@pytest.fixture
def store(warehouse: Warehouse) -> Store:
    return Store(warehouse)


def prune(store: Store, **options: object) -> RetentionReport:
    return apply_retention(store.warehouse, Limits(), FixedClock(NOW), **options)


def test_finished_tasks_older_than_the_limit_go_with_all_their_rows(store: Store):
    store.task("old", LIMIT - DAY)
    store.task("older", LIMIT - 5 * DAY)
    store.task("at_limit", LIMIT)
    store.task("young", NOW)
    report = prune(store)
    assert store.tasks() == ["at_limit", "young"]
    assert store.raw_from() == LIMIT == report.raw_from["s"]
    assert report.removed["raw.task_event", "s"] == 4
    assert report.finished
    assert store.values("SELECT rows_removed FROM meta.retention_run WHERE table_name = 'raw.task'") == [2]


def test_a_task_that_lives_across_the_limit_stays_whole(store: Store):
    store.task("long", LIMIT - 3 * DAY, ended=LIMIT + DAY)
    prune(store)
    assert store.tasks() == ["long"]


@pytest.mark.parametrize("status", ["created", "queued", "running"])
def test_open_tasks_stay_however_old_they_are(store: Store, status: str):
    store.task("open", LIMIT - 9 * DAY, status=status)
    store.task("done", LIMIT - 9 * DAY)
    prune(store)
    assert store.tasks() == ["open"]


def test_tasks_with_an_open_attempt_or_wait_stay(store: Store):
    for key in ("attempt", "wait", "done"):
        store.task(key, LIMIT - 2 * DAY)
    store.run("UPDATE core.task_attempt SET ended_at = NULL WHERE task_key = 'attempt'")
    store.run(
        "INSERT INTO core.task_wait(source_id, task_key, from_at, task_hash) "
        "VALUES ('s', 'wait', TIMESTAMP '2026-01-20', hash('wait'))"
    )
    prune(store)
    assert store.tasks() == ["attempt", "wait"]


def test_what_was_open_goes_once_it_has_ended(store: Store):
    store.task("open", LIMIT - 4 * DAY, status="running")
    prune(store)
    store.run("UPDATE raw.task SET status = 'failed'")
    prune(store)
    assert store.tasks() == []


def test_tasks_of_open_alerts_and_plans_stay(store: Store):
    store.task("alerted", LIMIT - 2 * DAY)
    store.task("other", LIMIT - 2 * DAY)
    prune(store, protect={"s": ["alerted"]})
    assert store.tasks() == ["alerted"]


def test_nothing_of_a_day_that_is_not_closed_goes(store: Store):
    store.run("UPDATE meta.source_state SET closed_through = TIMESTAMP '2026-01-15 23:59'")
    store.task("closed", datetime(2026, 1, 14, 12))
    store.task("unclosed", datetime(2026, 1, 15, 1))
    report = prune(store)
    assert store.tasks() == ["unclosed"]
    assert "not closed" in report.postponed["s"]
    store.run("UPDATE meta.source_state SET closed_through = NULL, raw_from = NULL")
    assert "nothing of it is closed" in prune(store).postponed["s"]


def test_nothing_of_a_day_whose_statistics_are_not_computed_goes(store: Store):
    store.run(
        "INSERT INTO meta.window_progress VALUES ('s', 'endpoint', TIMESTAMP '2026-01-15 12:00')",
    )
    store.task("computed", datetime(2026, 1, 14, 12))
    store.task("not_computed", datetime(2026, 1, 15, 1))
    assert "not computed" in prune(store).postponed["s"]
    assert store.tasks() == ["not_computed"]


@pytest.mark.parametrize(
    "mark",
    [
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) VALUES ('s', 'endpoint', TIMESTAMP '2026-01-18 05:00', NULL, '')",
        "INSERT INTO meta.dirty_worker VALUES ('s', 'w', TIMESTAMP '2026-01-18 05:00', NULL)",
        "INSERT INTO meta.dirty_task VALUES ('s', 'same_day', NULL)",
    ],
)
def test_a_dirty_day_and_everything_after_it_stays(store: Store, mark: str):
    store.task("before", datetime(2026, 1, 17, 3))
    store.task("same_day", datetime(2026, 1, 18, 3))
    store.task("after", datetime(2026, 1, 19, 3))
    store.run(mark)
    report = prune(store)
    assert store.tasks() == ["after", "same_day"]
    assert store.raw_from() == datetime(2026, 1, 18)
    assert "2026-01-18" in report.postponed["s"]


def test_marks_and_time_of_one_source_do_not_hold_up_another(store: Store):
    store.run(
        "INSERT INTO meta.source_state(source_id, closed_through) VALUES ('t', TIMESTAMP '2026-01-01')",
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) VALUES ('t', 'endpoint', TIMESTAMP '2026-01-01 05:00', NULL, '')",
        "INSERT INTO raw.probe_result BY NAME SELECT 't' AS source_id, TIMESTAMP '2026-01-03' AS \"at\"",
    )
    store.task("old", LIMIT - DAY)
    prune(store)
    assert store.tasks() == []
    assert store.values("SELECT count(*) FROM raw.probe_result") == [1]


def test_samples_counters_and_runs_go_by_their_own_time(store: Store):
    for table in ("process_sample", "probe_result", "ingest_counter"):
        store.run(
            f"INSERT INTO raw.{table} BY NAME SELECT 's' AS source_id, t AS \"at\" FROM "
            "(VALUES (TIMESTAMP '2026-01-23 23:59:59'), (TIMESTAMP '2026-01-24')) AS v(t)"
        )
    store.run(
        "INSERT INTO raw.job_run BY NAME SELECT 's' AS source_id, o AS outcome, TIMESTAMP '2026-01-20' AS started_at "
        "FROM (VALUES ('success'), ('running')) AS v(o)"
    )
    prune(store)
    for table in ("process_sample", "probe_result", "ingest_counter"):
        assert store.values(f'SELECT "at" FROM raw.{table}') == [LIMIT]
    assert store.values("SELECT outcome FROM raw.job_run") == ["running"]


def test_counters_of_a_job_never_go_back(store: Store, tmp_path: Path):
    """M-502: what retention removes stays counted, once, also when the day is loaded again."""

    def runs(*instants: str) -> None:
        for at in instants:
            store.run(
                "INSERT INTO raw.job_run BY NAME SELECT 's' AS source_id, 'j' AS job_id, o AS outcome, d AS duration_ms, "
                f"TIMESTAMP '{at}' AS started_at, TIMESTAMP '{at}' AS ended_at FROM "
                "(VALUES ('success', 100), ('failure', 300), ('timeout', -1), ('skipped', NULL)) AS v(o, d)"
            )
        store.run("INSERT INTO meta.publish_job VALUES ('s', 'j')")

    def figures() -> list[object]:
        with store.warehouse.writer("publish") as con:
            publish(con, tmp_path / "lake", FixedClock(NOW), budget_s=60)
        return store.values(
            "SELECT [success_count, failure_count, timeout_count, skipped_count, duration_n, total_duration_ms] FROM core.job_figure"
        )

    runs("2026-01-20", "2026-01-21 05:00:00", "2026-02-01")
    assert figures() == [[3, 6, 3, 3, 6, 1200]]
    prune(store)
    assert store.values("SELECT count(*) FROM raw.job_run") == [4]
    runs("2026-02-02")
    assert figures() == [[4, 8, 4, 4, 8, 1600]]
    runs("2026-01-20")
    assert figures() == [[4, 8, 4, 4, 8, 1600]]
    prune(store)
    runs("2026-02-03")
    assert figures() == [[5, 10, 5, 5, 10, 2000]]


def test_ended_workers_go_and_open_ones_keep_events_and_their_first_sample(store: Store):
    store.run(
        "INSERT INTO core.worker_life(source_id, worker_key, start_at, end_at) VALUES "
        "('s', 'open', TIMESTAMP '2026-01-10', NULL), "
        "('s', 'ended', TIMESTAMP '2026-01-10', TIMESTAMP '2026-01-19')",
        "INSERT INTO raw.worker BY NAME SELECT 's' AS source_id, k AS worker_key, d AS deleted_at FROM "
        "(VALUES ('open', NULL), ('ended', TIMESTAMP '2026-01-19'), ('known', NULL)) AS v(k, d)",
        "INSERT INTO raw.worker_event BY NAME SELECT 's' AS source_id, k AS worker_key, "
        "TIMESTAMP '2026-01-10' AS \"at\" "
        "FROM (VALUES ('open'), ('ended')) AS v(k)",
        "INSERT INTO raw.worker_snapshot BY NAME SELECT 's' AS source_id, k AS worker_key, t AS \"at\" "
        "FROM (VALUES ('open'), ('ended')) AS v(k), "
        "range(TIMESTAMP '2026-01-10', TIMESTAMP '2026-01-11', INTERVAL 6 HOUR) AS r(t)",
    )
    prune(store)
    assert store.values("SELECT worker_key FROM raw.worker ORDER BY 1") == ["known", "open"]
    assert store.values("SELECT worker_key FROM raw.worker_event") == ["open"]
    assert store.values("SELECT \"at\" FROM raw.worker_snapshot WHERE worker_key = 'open'") == [datetime(2026, 1, 10)]
    assert store.values("SELECT worker_key FROM core.worker_life") == ["open"]


def test_the_concurrency_in_force_at_the_limit_stays(store: Store):
    store.run(
        "INSERT INTO raw.worker_concurrency VALUES ('s', 'w', TIMESTAMP '2026-01-01', 1), "
        "('s', 'w', TIMESTAMP '2026-01-20', 2), ('s', 'w', TIMESTAMP '2026-01-30', 3)"
    )
    prune(store)
    assert store.values("SELECT concurrency FROM raw.worker_concurrency ORDER BY 1") == [2, 3]


def test_late_beyond_retention_stays_visible_though_its_hour_is_old(store: Store):
    store.run(
        "INSERT INTO raw.anomaly VALUES "
        "('s', 'late_beyond_retention', 'x', 'k', TIMESTAMP '2026-01-01', '', TIMESTAMP '2026-02-03', 1), "
        "('s', 'zero_date', 'task', 'k', TIMESTAMP '2026-01-01', '', TIMESTAMP '2026-01-01', 1)"
    )
    prune(store)
    assert store.values("SELECT kind FROM raw.anomaly") == ["late_beyond_retention"]


def test_a_run_without_time_removes_a_slice_at_most_and_the_next_goes_on(store: Store):
    for days in range(1, 9):
        store.task(f"t{days}", LIMIT - days * DAY)
    report = prune(store, budget_s=0)
    assert not report.finished
    assert len(store.tasks()) == 8
    assert prune(store).finished
    assert store.tasks() == []


def test_each_hour_is_a_transaction_of_its_own(store: Store):
    for hour in range(5):
        store.task(f"t{hour}", LIMIT - DAY + timedelta(hours=hour))
    before = store.warehouse.stats.count
    prune(store)
    assert store.warehouse.stats.count - before >= 5


def test_a_busy_hour_goes_in_parts(store: Store):
    store.run(
        "INSERT INTO raw.task_event BY NAME SELECT 's' AS source_id, 'e' || i AS event_key, 't' || i AS task_key, "
        "TIMESTAMP '2026-01-20 05:00' + to_milliseconds(i * 36) AS \"at\", hash('t' || i) AS task_hash "
        "FROM range(100000) AS r(i)"
    )
    report = RetentionReport()
    with store.warehouse.writer("slice") as con:
        assert prune_raw_slice(con, "s", Limits(), NOW, report)
    assert store.raw_from() == datetime(2026, 1, 20, 5, 30)
    assert report.rows == 50_000
    prune(store)
    assert store.values("SELECT count(*) FROM raw.task_event") == [0]


def test_statistics_go_by_the_limit_of_their_grain_and_so_do_their_files(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(OLD, 1, 1)
    fill(TODAY, 1, 1)
    with warehouse.writer("publish") as con:
        publish(con, lake_path, clock)
    report = apply_retention(warehouse, Limits(), clock)
    assert report.removed["mart.t_minute_stats", "*"] == 60
    with warehouse.writer("publish") as con:
        assert con.execute("SELECT count(*) FROM mart.t_hour_stats").fetchone() == (2,)
        tables = publish(con, lake_path, clock).tables
    assert list(tables["mart.t_minute_stats"].partitions) == ["2026-02-03T09"]
    assert len(tables["mart.t_hour_stats"].partitions) == 2


def test_statistics_of_dirty_days_stay(warehouse: Warehouse, fill: Fill, clock: FixedClock):
    fill(OLD, 1, 1)
    with warehouse.writer("dirty") as con:
        con.execute(
            "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) VALUES ('s', 'endpoint', ?, NULL, '')",
            [OLD],
        )
    assert apply_retention(warehouse, Limits(), clock).rows == 0


def test_running_twice_changes_nothing_more(store: Store):
    store.task("old", LIMIT - DAY)
    prune(store)
    assert prune(store).rows == 0
    assert store.raw_from() == LIMIT
