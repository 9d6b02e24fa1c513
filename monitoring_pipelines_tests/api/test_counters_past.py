"""Counters of ``/metrics`` grow by exactly what is new, whatever retention has removed (S-303)."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.api.routes.metrics import collector_of
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse import counters
from monitoring_pipelines.warehouse.lake import MANIFEST_NAME
from monitoring_pipelines.warehouse.retention import apply_retention
from monitoring_pipelines.warehouse.schema import ensure_schema, transaction
from monitoring_pipelines_tests.api.conftest import NOW, make_settings
from monitoring_pipelines_tests.api.world import World
from monitoring_pipelines_tests.warehouse.conftest import Limits

DAY = timedelta(days=1)
TODAY = NOW.replace(hour=0)
#: Days of different ages, in two months: two files of daily rows.
OLD = [TODAY - n * DAY for n in (40, 39, 12)]
FAMILIES = (
    "mp_endpoint_tasks_total", "mp_outputs_created_total", "mp_ingest_messages_total", "mp_anomalies_total",
    "mp_extract_rows_total", "scheduler_notification_success_total", "scheduler_notification_failure_total",
)  # fmt: skip


class Site:
    """A store whose days are written as the pipeline would have, and what a scrape says of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.clock = make_settings(folder, monkeypatch, {}), FixedClock(NOW)
        self.world = World(self.settings, self.clock)
        self.world.source()
        self.services = Services.of(self.settings, self.clock)
        self.anomalies = 0

    def day(self, at: datetime, n: int = 1, *, with_hour: bool = False) -> None:
        """One closed day with ``n`` of everything, and an anomaly counted ``n`` times; ``with_hour``: its hourly row, too."""
        rows = {
            "endpoint_daily_stats": {"endpoint": "e", "tasks_submitted": n, "tasks_completed": n},
            "output_daily_stats": {"endpoint": "e", "outputs_created": n},
            "ingest_daily_stats": {"process_id": "p", "series": "x", "increase": n + 0.25},
            "notification_daily_stats": {"channel": "ops", "attempts_ok": n, "attempts_failed": n},
        }
        if with_hour:
            rows["endpoint_hourly_stats"] = {"endpoint": "e", "tasks_submitted": n, "tasks_completed": n}
        for table, values in rows.items():
            bucket = "stat_hour" if "hourly" in table else "stat_date"
            self._insert(f"mart.{table}", values | {"source_id": "shop", "state": "closed", "revision": 1, bucket: at})
            self.world.write(World._changed(f"mart.{table}", at))
        self.anomalies += 1
        self._insert("raw.anomaly", {"source_id": "shop", "kind": "zero_date", "entity": "task", "key": f"k{self.anomalies}",
                                     "at": at, "first_seen_at": at, "count": n})  # fmt: skip

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names, places = ", ".join(f'"{name}"' for name in values), ", ".join(f"${name}" for name in values)
        self.world.write((f"INSERT INTO {table} ({names}) VALUES ({places})", values))

    def prune(self, **more: Any) -> None:
        self.world.publish()
        apply_retention(self.world.warehouse, Limits(**{"day_days": 30} | more), self.clock)

    def publish(self) -> None:
        self.world.publish()

    def told(self) -> dict[str, float]:
        """Samples of the counters in the text."""
        text = collector_of(self.services).everything_text().whole().decode()
        lines = (re.fullmatch(r"(\w+)(\{.*\})? (\S+)", line) for line in text.splitlines() if line[0] != "#")
        return {f"{found[1]}{found[2]}": float(found[3]) for found in lines if found and found[1] in FAMILIES}

    def stored(self, sql: str) -> list[tuple[Any, ...]]:
        with self.world.warehouse.reader() as con:
            return con.execute(sql).fetchall()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Site(tmp_path, monkeypatch)
    yield made
    made.services.close()


def counts(n: int, days: int) -> dict[str, float]:
    """What is told of ``n`` of everything on so many days."""
    outcomes = dict.fromkeys(("submitted", "completed"), n)
    return {
        **{f'mp_endpoint_tasks_total{{source="shop",endpoint="e",outcome="{name}"}}': k for name, k in outcomes.items()},
        'mp_outputs_created_total{source="shop",origin="app"}': n,
        'mp_ingest_messages_total{source="shop",process="p",series="x"}': n + days / 4,
        'mp_anomalies_total{source="shop",kind="zero_date"}': n,
        'scheduler_notification_success_total{channel="OPS"}': n,
        'scheduler_notification_failure_total{channel="OPS"}': n,
    }  # fmt: skip


def test_counters_grow_by_exactly_what_is_new_after_retention_removed_what_they_counted(site: Site) -> None:
    for at in (*OLD, TODAY - DAY):
        site.day(at, 10)
    site.publish()
    assert site.told() == counts(40, 4)
    site.prune()
    assert site.stored("SELECT count(*) FROM mart.endpoint_daily_stats") == [(2,)]
    assert site.stored("SELECT count(*) FROM raw.anomaly") == [(1,)]
    site.publish()
    assert site.told() == counts(40, 4)
    site.day(TODAY - 2 * DAY)
    site.publish()
    assert site.told() == counts(41, 5)
    site.prune()
    site.publish()
    assert site.told() == counts(41, 5)
    site.day(TODAY - 3 * DAY, 2)
    site.publish()
    assert site.told() == counts(43, 6)
    site.clock.advance(20 * 86400)  # the day of age 12 goes as well: amounts of two runs add up
    site.world.source()
    site.prune()
    assert site.stored("SELECT min(stat_date) FROM mart.endpoint_daily_stats") == [((TODAY - 3 * DAY).date(),)]
    site.day(TODAY, 5)
    site.publish()
    assert site.told() == counts(48, 7)


def test_nothing_is_counted_twice_while_files_still_hold_what_was_removed(site: Site) -> None:
    """Files of old days may be rewritten by a later publication than the one that tells what was removed."""
    for at in (*OLD, TODAY - DAY):
        site.day(at, 10)
    site.prune()
    site.world.write(("DELETE FROM meta.publish_pending", {}))
    site.publish()
    with site.services.published.look() as look:
        assert look.value(f"SELECT count(*) FROM {look.table('mart.endpoint_daily_stats')}") == 4
    assert site.told() == counts(40, 4)
    site.day(TODAY - 2 * DAY)
    site.publish()
    assert site.told() == counts(41, 5)


def test_a_day_computed_again_after_its_row_was_removed_counts_once(site: Site) -> None:
    for at in (*OLD, TODAY - DAY):
        site.day(at, 10)
    site.prune()
    site.publish()
    rebuilt = "INSERT INTO mart.endpoint_daily_stats (source_id, endpoint, stat_date, tasks_submitted, tasks_completed, state) "
    for _ in range(2):
        site.world.write(
            (rebuilt + "VALUES ('shop', 'e', $at, 10, 10, 'closed')", {"at": OLD[1]}),
            World._changed("mart.endpoint_daily_stats", OLD[1]),
        )
        site.publish()
        assert site.told() == counts(40, 4)
        site.prune()
    site.publish()
    assert site.told() == counts(40, 4)


def test_hours_of_removed_days_are_not_counted_when_a_source_has_no_day_left(site: Site) -> None:
    """Hours may be kept longer than days."""
    for at in OLD[:2]:
        site.day(at, 10, with_hour=True)
    site.publish()
    assert site.told() == counts(20, 2)
    site.prune()
    site.publish()
    assert site.stored("SELECT count(*) FROM mart.endpoint_daily_stats") == [(0,)]
    assert site.stored("SELECT count(*) FROM mart.endpoint_hourly_stats") == [(2,)]
    assert site.told() == counts(20, 2)
    site.day(TODAY - DAY)
    site.publish()
    assert site.told() == counts(21, 3)


def test_a_removal_that_fails_carries_nothing_over(site: Site) -> None:
    for at in (*OLD, TODAY - DAY):
        site.day(at, 10)
    site.publish()
    with pytest.raises(RuntimeError, match="power"), site.world.warehouse.writer("retention") as con, transaction(con):
        counters.remember_days(con, "mart.endpoint_daily_stats", OLD[2])
        con.execute("DELETE FROM mart.endpoint_daily_stats WHERE stat_date < ?", [OLD[2]])
        raise RuntimeError("power")
    assert site.stored("SELECT count(*) FROM meta.counter_past") == [(0,)]
    site.prune()
    site.publish()
    assert site.told() == counts(40, 4)


def test_files_of_a_program_without_the_table_are_read_and_its_store_goes_on(site: Site) -> None:
    """The counters that are held whole begin with what the stored rows tell; opening the store again adds nothing."""
    site.day(TODAY - DAY, 10)
    site.world.task("t")
    site.world.write(
        ("UPDATE core.task_attempt SET late_event_count = 3", {}),
        ("UPDATE mart.endpoint_daily_stats SET revision = 5", {}),
    )
    site.publish()

    def whole() -> list[str]:
        text = collector_of(site.services).everything_text().whole().decode()
        return re.findall(r"^(?:mp_late_events_total|mp_stat_restated_rows_total)\S* \S+$", text, re.MULTILINE)

    # As if an older program had made store and files.
    with site.world.warehouse.writer("older") as con:
        con.execute("DROP TABLE meta.counter_past")
        con.execute("UPDATE meta.schema_version SET fingerprint = 'older'")
    manifest = site.settings.lake_path / MANIFEST_NAME
    document = json.loads(manifest.read_text())
    del document["tables"]["meta.counter_past"]
    manifest.write_text(json.dumps(document))
    assert site.told() == counts(10, 1)
    assert whole() == ['mp_late_events_total{source="shop"} 3']
    for _ in range(2):
        site.publish()
        assert site.told() == counts(10, 1)
        assert whole() == [
            'mp_late_events_total{source="shop"} 3', 'mp_stat_restated_rows_total{grain="minute"} 0',
            'mp_stat_restated_rows_total{grain="hour"} 0', 'mp_stat_restated_rows_total{grain="day"} 4',
        ]  # fmt: skip
        with site.world.warehouse.writer("again") as con:
            con.execute("UPDATE meta.schema_version SET fingerprint = 'older'")
            assert ensure_schema(con, NOW)


def test_an_amount_of_a_column_this_version_does_not_know_is_left_out_and_the_others_are_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer program may have written it: one unknown name must not end all scrapes."""
    site.day(TODAY - DAY, 10)
    site.world.write(
        (
            "INSERT INTO meta.counter_past VALUES ('mart.endpoint_daily_stats', 'shop', ['e', 'tasks_of_2030'], 5, NULL)",
            {},
        ),
    )
    site.publish()
    assert site.told() == counts(10, 1)
    assert "tasks_of_2030" in caplog.text
