"""What the state store knows of the product becomes rows of the warehouse, and statistics like those of a source."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.source.own import move_own_rows
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state.tables import collected, notification, notification_attempt, self_job_run
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.windows import close_minutes, due_work, prepare, refresh_due

T0 = datetime(2026, 2, 1, 10)


class Own:
    """A state store, a warehouse and a clock."""

    def __init__(self, folder: Path, scrapes: list[dict[str, Any]]) -> None:
        settings = {"paths": {"data": str(folder)}, "scrapes": scrapes}
        self.settings = Settings.model_validate(settings).attach(None, folder)
        self.store = StateStore.of(self.settings)
        self.now = T0

    @property
    def warehouse(self) -> Warehouse:
        """The store of raw rows."""
        return Warehouse(self.settings.warehouse_path, clock=FixedClock(self.now))

    def cycle(self, minutes: float) -> dict[str, int]:
        """Move and compute at so many minutes after ten; rows moved."""
        self.now = at(minutes)
        moved = move_own_rows(self.settings, self.warehouse, FixedClock(self.now), self.store)
        with self.warehouse.writer("test") as con:
            prepare(con)
            close_minutes(con, self.now)
            refresh_due(con, due_work(con, self.now).hours, self.now)
        return {entity: count for entity, count in moved.rows.items() if count}

    def add(self, table: Any, *rows: dict[str, Any]) -> None:
        """Rows of the state store."""
        with self.store.begin() as con:
            con.execute(insert(table), list(rows))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query on the warehouse."""
        with self.warehouse.reader("test") as con:
            return con.execute(sql).fetchall()


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """An empty product."""
    return Own(tmp_path, [{"target": "feed", "url": "http://127.0.0.1:1/metrics", "interval_s": 20, "source": "feeds"}])


def at(minutes: float) -> datetime:
    """So many minutes after ten."""
    return T0 + timedelta(minutes=minutes)


def job(key: str, ended: float, outcome: str = "success") -> dict[str, Any]:
    """A finished run of the quick check."""
    return {"run_key": key, "job_id": "quick_check", "started_at": at(ended - 1), "ended_at": at(ended), "outcome": outcome,
            "duration_ms": 1500.5, "trigger": "schedule", "changed_at": at(ended)}  # fmt: skip


def message(key: str, created: float, state: str = "pending", **more: Any) -> dict[str, Any]:
    """A message of the product about an alert of another source."""
    return {"notification_id": key, "source_id": "shop", "alert_ids": ["a"], "group_key": "g", "channel": "ops",
            "channel_type": "webhook", "kind": "firing", "state": state, "attempts": 0, "due_at": at(created),
            "created_at": at(created), **more}  # fmt: skip


def test_without_a_state_store_there_is_nothing_to_move_and_nothing_is_created(own: Own) -> None:
    """A product that never ran has no rows of its own."""
    assert own.cycle(0) == {}
    assert not Path(str(own.store.url.database)).exists()
    assert own.query("SELECT * FROM meta.source_state") == []


def test_own_runs_are_jobs_of_the_source_self(own: Own) -> None:
    """E-001, E-602: moved once, also when a run changes later, and computed like mapped runs; no endpoint is."""
    own.add(self_job_run, job("1", 1), job("2", 2, "failure"))
    assert own.cycle(4) == {"job_run": 2}
    assert own.cycle(5) == {}
    figures = "SELECT source_id, job_id, success_count, failure_count, duration_sum_ms FROM mart.job_hourly_stats"
    assert [tuple(map(str, row)) for row in own.query(figures)] == [("_self", "quick_check", "1", "1", "3001.000")]
    with own.store.begin() as con:
        con.execute(
            update(self_job_run).where(self_job_run.c.run_key == "2").values(outcome="success", changed_at=at(6))
        )
    assert own.cycle(7) == {"job_run": 1}
    assert own.query("SELECT success_count, failure_count FROM mart.job_hourly_stats") == [(2, 0)]
    assert own.query("SELECT DISTINCT family FROM meta.window_progress") == [("job",)]


def test_messages_are_followed_until_they_are_final_and_every_attempt_counts(own: Own) -> None:
    """M-702: a message that ends hours after its creation is still seen, with all its attempts."""
    own.add(notification, message("m1", 1))
    assert own.cycle(3) == {"notification": 1}
    for number in range(2):
        own.add(notification_attempt, {"notification_id": "m1", "attempt_no": number, "channel": "ops", "at": at(100 + number), "ok": number == 1, "latency_ms": 20.5})  # fmt: skip
    with own.store.begin() as con:
        con.execute(update(notification).values(state="sent", attempts=2, sent_at=at(101), final_at=at(101)))
    assert own.cycle(105) == {"notification": 1}
    assert own.cycle(106) == {}
    rows = own.query(
        "SELECT hour(stat_hour), created, sent, attempts_ok, attempts_failed FROM mart.notification_hourly_stats ORDER BY 1"
    )
    assert rows == [(10, 1, 0, 0, 0), (11, 0, 1, 1, 1)]


def test_messages_are_rows_of_the_product_whatever_source_their_alert_is_about(own: Own) -> None:
    """E-001: a source whose alert was sent does not get statistics of messages by that."""
    own.add(notification, message("m1", 1), message("m2", 2) | {"source_id": "farm"})
    own.add(notification_attempt, {"notification_id": "m1", "attempt_no": 1, "channel": "ops", "at": at(1), "ok": True, "latency_ms": 20.5})  # fmt: skip
    assert own.cycle(3) == {"notification": 2}
    assert own.query("SELECT DISTINCT source_id FROM raw.notification") == [("_self",)]
    assert own.query("SELECT DISTINCT source_id FROM raw.notification_attempt") == [("_self",)]
    assert own.query("SELECT DISTINCT source_id FROM mart.notification_minute_stats") == [("_self",)]
    assert own.query("SELECT DISTINCT source_id FROM meta.window_progress") == [("_self",)], "no hour of theirs is due"


def test_samples_of_collectors_belong_to_their_source_and_are_moved_once(own: Own) -> None:
    """E-124, E-122: integers stay exact; a crash after the warehouse was written repeats and changes nothing."""
    values = {
        "process_id": "feed",
        "at": at(1).isoformat() + "Z",
        "rss_bytes": 9007199254740993,
        "tcp_by_state": {"LISTEN": 1},
    }
    row = {"source_id": "feeds", "entity": "process_sample", "key": "feed", "at": at(1), "row": values}
    own.add(collected, row)
    assert own.cycle(3) == {"process_sample": 1}
    with own.store.begin() as con:
        assert con.execute(select(collected.c.moved_at)).scalars().all() == [at(3)]
        con.execute(update(collected).values(moved_at=None))
    assert own.cycle(4) == {}
    figures = "SELECT source_id, last_rss_bytes, samples_expected, samples_received FROM mart.resource_minute_stats ORDER BY stat_minute"
    assert own.query(figures) == [("feeds", 9007199254740993, 3, 1), ("feeds", None, 3, 0)]


def test_a_sample_that_comes_late_restates_what_lies_between_its_neighbours(own: Own) -> None:
    """M-701, M-803: the increments before and after it are divided anew."""

    def counter(minutes: float, value: float) -> dict[str, Any]:
        values = {
            "process_id": "feed",
            "series": "trade",
            "kind": "ok",
            "at": at(minutes).isoformat() + "Z",
            "value": value,
        }
        return {"source_id": "feeds", "entity": "ingest_counter", "key": "feed", "at": at(minutes), "row": values}

    own.add(collected, counter(0, 0), counter(10, 100))
    own.cycle(12)
    query = "SELECT minute(stat_minute), increase::DOUBLE FROM mart.ingest_minute_stats WHERE series = 'trade' AND minute(stat_minute) IN (1, 8) ORDER BY 1"
    assert own.query(query) == [(1, 10.0), (8, 10.0)]
    own.add(collected, counter(5, 90))
    own.cycle(13)
    assert own.query(query) == [(1, 18.0), (8, 2.0)]
    assert own.query(
        "SELECT sum(increase)::DOUBLE, max(revision) FROM mart.ingest_minute_stats WHERE series = '*'"
    ) == [(100.0, 2)]
    assert own.query("SELECT increase::DOUBLE FROM mart.ingest_hourly_stats WHERE series = 'trade'") == [(100.0,)]
