"""What publishing guarantees to readers (E-131, DESIGN §2 rule 4)."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse import publish as publish_module
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.lake import Lake, LakeDamaged, LakeMissing, Manifest, partition_span, read_manifest
from monitoring_pipelines.warehouse.lock import FairLock
from monitoring_pipelines.warehouse.maintenance import compact_lake
from monitoring_pipelines.warehouse.publish import LOCK_NAME, Publication, publish, publish_in_slices
from monitoring_pipelines_tests.warehouse.conftest import NOW, Fill

TODAY = datetime(2026, 2, 3, 9)
YESTERDAY = datetime(2026, 2, 2, 7)
OLD = datetime(2026, 1, 20, 5)
ALWAYS = 3600.0


def push(warehouse: Warehouse, lake: Path, clock: FixedClock, budget_s: float = ALWAYS) -> Manifest:
    with warehouse.writer("publish") as con:
        return publish(con, lake, clock, budget_s=budget_s)


def column(lake: Lake, sql: str) -> list[object]:
    with lake.connect() as con:
        return [row[0] for row in con.execute(sql).fetchall()]


def parquet_files(lake: Path) -> set[str]:
    return {str(path.relative_to(lake)) for path in lake.rglob("*.parquet")}


def test_published_rows_equal_the_warehouse(warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock):
    for hour in (TODAY, YESTERDAY, OLD):
        fill(hour, 3, 1.5)
    push(warehouse, lake_path, clock)
    with warehouse.reader() as con:
        stored = con.execute("SELECT * FROM mart.t_minute_stats ORDER BY ALL").fetchall()
    with Lake(lake_path).connect() as con:
        assert con.execute("SELECT * FROM mart.t_minute_stats ORDER BY ALL").fetchall() == stored
        assert len(stored) == 3 * 3 * 60


def test_partitions_are_hours_then_six_hours_then_days_then_weeks_of_hours_and_months_of_days(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for hour in (TODAY, YESTERDAY, OLD):
        fill(hour, 1, 1)
    tables = push(warehouse, lake_path, clock).tables
    assert sorted(tables["mart.t_minute_stats"].partitions) == ["2026-01-20", "2026-02-02Q2", "2026-02-03T09"]
    assert sorted(tables["mart.t_hour_stats"].partitions) == ["2026-02-02", "2026-02-03", "2026-W04"]
    assert sorted(tables["mart.t_date_stats"].partitions) == ["2026-01", "2026-02"]


def test_a_year_of_three_grains_stays_below_a_thousand_files(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(OLD, 1, 1)
    with warehouse.writer("year") as con:
        con.execute(
            "INSERT INTO mart.t_hour_stats SELECT 's', 'e', h, 1, 1 FROM "
            "range(TIMESTAMP '2025-02-03', TIMESTAMP '2026-02-03', INTERVAL 1 HOUR) AS r(h)"
        )
        con.execute("INSERT INTO mart.t_minute_stats SELECT * FROM mart.t_hour_stats")
        con.execute("INSERT INTO mart.t_date_stats SELECT * FROM mart.t_hour_stats WHERE hour(stat_hour) = 0")
    manifest = push(warehouse, lake_path, clock)
    assert manifest.rows("mart.t_hour_stats") == 365 * 24 + 1
    assert len(parquet_files(lake_path)) < 1000
    assert len(replace(manifest, acknowledged=[]).to_json()) < 300_000


def test_equal_content_is_not_rewritten_and_makes_no_new_version(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(TODAY, 2, 1)
    first = push(warehouse, lake_path, clock)
    before = {path: (lake_path / path).stat().st_mtime_ns for path in parquet_files(lake_path)}
    fill(TODAY, 2, 1)
    second = push(warehouse, lake_path, clock)
    assert {path: (lake_path / path).stat().st_mtime_ns for path in parquet_files(lake_path)} == before
    assert second.tables == first.tables
    third = push(warehouse, lake_path, clock)
    fourth = push(warehouse, lake_path, clock)
    assert fourth.version == third.version


def test_a_reader_keeps_its_version_while_newer_ones_are_published(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(TODAY, 1, 1)
    push(warehouse, lake_path, clock)
    old = Lake(lake_path)
    with old.connect() as con:
        for value in range(2, 8):
            fill(TODAY, 1, value)
            clock.advance(60)
            push(warehouse, lake_path, clock)
            assert con.execute("SELECT DISTINCT value FROM mart.t_minute_stats").fetchall() == [(1.0,)]
            assert con.execute("SELECT value FROM mart.t_hour_stats").fetchall() == [(1.0,)]
    assert not old.is_current()
    assert column(Lake(lake_path), "SELECT DISTINCT value FROM mart.t_minute_stats") == [7.0]


def test_superseded_files_are_deleted_after_their_time(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for value in range(8):
        fill(TODAY, 1, value)
        push(warehouse, lake_path, clock)
        clock.advance(600)
    manifest = push(warehouse, lake_path, clock)
    kept = manifest.files() | {r.file for r in manifest.retired}
    assert parquet_files(lake_path) == kept
    assert len([file for file in kept if file.startswith("mart/t_minute_stats/2026-02-03T09/")]) <= 4


def test_newest_days_first_and_each_day_as_a_whole_when_time_is_short(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for hour in (OLD - timedelta(days=1), OLD, YESTERDAY, TODAY):
        fill(hour, 1, 1)
    manifest = push(warehouse, lake_path, clock, budget_s=0)
    days = "SELECT DISTINCT {}::DATE::VARCHAR AS d FROM {} ORDER BY d"
    for column_name, table in (("stat_minute", "mart.t_minute_stats"), ("stat_hour", "mart.t_hour_stats")):
        assert column(Lake(lake_path), days.format(column_name, table)) == ["2026-02-02", "2026-02-03"]
    assert manifest.waiting == 6
    for left in (3, 0):  # one older day each time, whatever the newest costs
        fill(TODAY, 1, 2)
        assert push(warehouse, lake_path, clock, budget_s=0).waiting == left
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_minute_stats") == [240]


def test_older_days_are_published_in_slices_between_which_the_warehouse_is_free(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publish_module, "SLICE_S", 0.0)
    for hour in (OLD, YESTERDAY, TODAY):
        fill(hour, 1, 1)
    slices = len(warehouse.stats.uses)
    manifest = publish_in_slices(Publication(lake_path, clock, budget_s=60), warehouse)
    assert len(warehouse.stats.uses) - slices > 3
    assert (manifest.waiting, manifest.rows("mart.t_minute_stats")) == (0, 180)


def test_who_waits_for_another_publisher_does_not_keep_the_warehouse_from_it(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publish_module, "SLICE_S", 0.0)
    for hour in (OLD, YESTERDAY, TODAY):
        fill(hour, 1, 1)
    found: list[Manifest] = []
    # The second waits for ever: were the first kept out of the warehouse, it would give up, and not the second.
    second = Publication(lake_path, clock, budget_s=60, lock_timeout_s=300)
    waits = threading.Thread(target=lambda: found.append(publish_in_slices(second, Warehouse(warehouse.path, 300))))
    with Publication(lake_path, clock, budget_s=60) as publication:
        with warehouse.writer("publish") as con:
            publication.stage(con)
        waits.start()
        queue = FairLock(lake_path / LOCK_NAME)
        while queue.queue_length() < 2:
            time.sleep(0.01)
        while publication.is_unfinished:
            with warehouse.writer("publish: older days", 20) as con:
                publication.go_on(con)
        published = publication.commit()
    waits.join()
    assert found == [published]


def test_a_publication_left_half_way_is_not_put_in_force(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
):
    for hour in (OLD, TODAY):
        fill(hour, 1, 1)
    with monkeypatch.context() as patch, warehouse.writer("publish") as con:
        patch.setattr(publish_module, "SLICE_S", 0.0)
        with Publication(lake_path, clock, budget_s=60) as publication:
            publication.stage(con)
            assert publication.is_unfinished
            with pytest.raises(RuntimeError, match="unfinished"):
                publication.commit()
    assert read_manifest(lake_path) is None
    assert push(warehouse, lake_path, clock).rows("mart.t_minute_stats") == 120


def test_a_late_row_of_an_old_day_rewrites_only_that_day(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for hour in (OLD, OLD + timedelta(days=1), TODAY):
        fill(hour, 1, 1)
    before = push(warehouse, lake_path, clock)
    fill(OLD + timedelta(hours=2), 1, 5)
    after = push(warehouse, lake_path, clock)
    changed = {
        key
        for key, entry in after.tables["mart.t_minute_stats"].partitions.items()
        if before.tables["mart.t_minute_stats"].partitions.get(key) != entry
    }
    assert changed == {"2026-01-20"}
    assert after.rows("mart.t_minute_stats") == 4 * 60


def test_hourly_files_become_one_file_a_day_with_the_same_rows(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for number in range(4):
        fill(YESTERDAY + timedelta(hours=number), 2, number)
    push(warehouse, lake_path, clock)
    rows = column(Lake(lake_path), "SELECT hash(t) FROM mart.t_minute_stats AS t ORDER BY 1")
    with Publication(lake_path, clock) as publication:
        with warehouse.writer("compact") as con:
            publication.stage(con, compact=True)
        manifest = publication.commit()
    assert list(manifest.tables["mart.t_minute_stats"].partitions) == ["2026-02-02"]
    assert column(Lake(lake_path), "SELECT hash(t) FROM mart.t_minute_stats AS t ORDER BY 1") == rows
    fill(YESTERDAY, 2, 99)
    manifest = push(warehouse, lake_path, clock)
    assert list(manifest.tables["mart.t_minute_stats"].partitions) == ["2026-02-02"]
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_minute_stats WHERE value = 99") == [120]


def test_hours_become_one_file_once_their_six_hours_are_over_for_two_hours(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    clock.advance(-3 * 3600)  # 07:30
    for hour in (3, 4, 5, 6):
        fill(TODAY.replace(hour=hour), 2, hour)
    hours = ["2026-02-03T03", "2026-02-03T04", "2026-02-03T05", "2026-02-03T06"]
    assert sorted(push(warehouse, lake_path, clock).tables["mart.t_minute_stats"].partitions) == hours
    rows = column(Lake(lake_path), "SELECT hash(t) FROM mart.t_minute_stats AS t ORDER BY 1")
    clock.advance(1799)
    assert sorted(push(warehouse, lake_path, clock).tables["mart.t_minute_stats"].partitions) == hours
    clock.advance(1)
    manifest = push(warehouse, lake_path, clock)
    assert sorted(manifest.tables["mart.t_minute_stats"].partitions) == ["2026-02-03Q1", "2026-02-03T06"]
    assert column(Lake(lake_path), "SELECT hash(t) FROM mart.t_minute_stats AS t ORDER BY 1") == rows
    assert push(warehouse, lake_path, clock).version == manifest.version
    fill(TODAY.replace(hour=5), 2, 99)
    manifest = push(warehouse, lake_path, clock)
    assert sorted(manifest.tables["mart.t_minute_stats"].partitions) == ["2026-02-03Q1", "2026-02-03T06"]
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_minute_stats WHERE value = 99") == [120]
    chosen = Lake(lake_path).select("mart.t_minute_stats", TODAY.replace(hour=5), TODAY.replace(hour=6))
    assert "2026-02-03Q1" in chosen
    assert "2026-02-03T06" not in chosen


def test_six_hours_have_a_name_of_their_own():
    assert partition_span("2026-02-01Q1") == (datetime(2026, 2, 1), datetime(2026, 2, 1, 6))
    assert partition_span("2026-02-01Q4") == (datetime(2026, 2, 1, 18), datetime(2026, 2, 2))


@pytest.mark.parametrize("value", ["0.125", "-999999999999999.999", "1000000000000000.001", "99999999999999999.999"])
def test_decimals_of_any_length_are_published_exactly(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, value: str
):
    fill(TODAY, 1, 1)
    with warehouse.writer("add") as con:
        con.execute("ALTER TABLE mart.t_minute_stats ADD COLUMN long DECIMAL(20,3)")
        con.execute(f"UPDATE mart.t_minute_stats SET long = {value} WHERE minute(stat_minute) = 5")
    push(warehouse, lake_path, clock)
    with Lake(lake_path).connect() as con:
        found = con.execute("SELECT typeof(long), long FROM mart.t_minute_stats WHERE long IS NOT NULL").fetchall()
        as_floats = Lake(lake_path).select("mart.t_minute_stats", columns=("stat_minute", "long"), floats=True)
        floats = con.execute(f"SELECT typeof(long), long FROM ({as_floats}) WHERE long IS NOT NULL").fetchall()
    assert found == [("DECIMAL(20,3)", Decimal(value))]
    assert floats == [("DOUBLE", float(value))]


def test_days_of_hours_become_one_file_a_week_with_the_same_rows(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    clock.advance(-86_400)  # Monday
    for days in range(6):  # back to Wednesday of the week before
        fill(YESTERDAY - timedelta(days=days), 2, days)
    assert len(push(warehouse, lake_path, clock).tables["mart.t_hour_stats"].partitions) == 6
    rows = column(Lake(lake_path), "SELECT hash(t) FROM mart.t_hour_stats AS t ORDER BY 1")
    assert compact_lake(warehouse, lake_path, clock) == 2  # a day of minutes, a week of hours
    assert sorted(Lake(lake_path).manifest.tables["mart.t_hour_stats"].partitions) == ["2026-02-02", "2026-W05"]
    assert column(Lake(lake_path), "SELECT hash(t) FROM mart.t_hour_stats AS t ORDER BY 1") == rows
    assert compact_lake(warehouse, lake_path, clock) == 0
    fill(YESTERDAY - timedelta(days=3), 2, 99)
    manifest = push(warehouse, lake_path, clock)
    assert sorted(manifest.tables["mart.t_hour_stats"].partitions) == ["2026-02-02", "2026-W05"]
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_hour_stats WHERE value = 99") == [2]
    week = Lake(lake_path).select("mart.t_hour_stats", datetime(2026, 1, 30), datetime(2026, 1, 31))
    assert "2026-W05" in week
    assert "2026-02-02" not in week


def test_a_week_belongs_to_the_year_of_its_thursday():
    assert partition_span("2026-W01") == (datetime(2025, 12, 29), datetime(2026, 1, 5))
    assert partition_span("2026-W53") == (datetime(2026, 12, 28), datetime(2027, 1, 4))


def test_removed_rows_remove_their_partition(warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock):
    fill(OLD, 1, 1)
    fill(TODAY, 1, 1)
    push(warehouse, lake_path, clock)
    fill(OLD, 0, 1)
    manifest = push(warehouse, lake_path, clock)
    assert list(manifest.tables["mart.t_minute_stats"].partitions) == ["2026-02-03T09"]
    assert list(manifest.tables["mart.t_date_stats"].partitions) == ["2026-02"]


def test_files_written_before_a_column_was_added_read_as_null(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(OLD, 1, 1)
    push(warehouse, lake_path, clock)
    with warehouse.writer("add") as con:
        con.execute("ALTER TABLE mart.t_minute_stats ADD COLUMN extra DECIMAL(20,3)")
    fill_again = "INSERT INTO mart.t_minute_stats VALUES ('s', 'e0', TIMESTAMP '2026-02-03 09:00', 1, 1, 2.5)"
    with warehouse.writer("new") as con:
        con.execute(fill_again)
        publish(con, lake_path, clock, [("mart.t_minute_stats", TODAY)])
    assert column(Lake(lake_path), "SELECT extra FROM mart.t_minute_stats WHERE extra IS NOT NULL")[0] is not None
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_minute_stats WHERE extra IS NULL") == [60]


def test_an_empty_table_is_a_view_without_rows(warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock):
    fill(TODAY, 0, 1)
    push(warehouse, lake_path, clock)
    with Lake(lake_path).connect() as con:
        assert con.execute("SELECT sum(n) FROM mart.t_minute_stats").fetchall() == [(None,)]
        assert con.execute("SELECT * FROM meta.anomaly_summary").fetchall() == []


def test_source_state_and_anomalies_are_published_with_the_manifest(
    warehouse: Warehouse, lake_path: Path, clock: FixedClock
):
    as_of = NOW - timedelta(minutes=1)
    with warehouse.writer("state") as con:
        con.execute("INSERT INTO meta.source_state(source_id, as_of) VALUES ('a', ?), ('b', NULL)", [as_of])
        con.execute(
            "INSERT INTO raw.anomaly VALUES ('a', 'zero_date', 'task', 'k1', ?, '', ?, 2), "
            "('a', 'zero_date', 'task', 'k2', ?, '', ?, 3)",
            [NOW] * 4,
        )
    push(warehouse, lake_path, clock)
    lake = Lake(lake_path)
    assert lake.as_of == as_of
    assert lake.manifest.sources["b"]["as_of"] is None
    assert column(lake, "SELECT n FROM meta.anomaly_summary") == [5]
    assert column(lake, "SELECT source_id FROM meta.source_state ORDER BY 1") == ["a", "b"]


def test_marks_survive_until_a_manifest_contains_them(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    fill(TODAY, 1, 1)
    with Publication(lake_path, clock) as publication, warehouse.writer("stage") as con:
        publication.stage(con)
    assert read_manifest(lake_path) is None
    push(warehouse, lake_path, clock)
    assert column(Lake(lake_path), "SELECT count(*) FROM mart.t_minute_stats") == [60]
    push(warehouse, lake_path, clock)
    with warehouse.reader() as con:
        assert con.execute("SELECT count(*) FROM meta.publish_pending").fetchone() == (0,)


def test_a_lost_or_foreign_or_broken_lake_is_written_again(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, tmp_path: Path
):
    fill(OLD, 1, 1)
    fill(TODAY, 1, 1)
    push(warehouse, lake_path, clock)
    push(warehouse, lake_path, clock)
    assert push(warehouse, tmp_path / "second", clock).rows("mart.t_minute_stats") == 120
    manifest = lake_path / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"warehouse_id": "another"}))
    assert push(warehouse, lake_path, clock).rows("mart.t_minute_stats") == 120
    manifest.write_text("{")
    with pytest.raises(LakeDamaged):
        Lake(lake_path)
    assert push(warehouse, lake_path, clock).rows("mart.t_minute_stats") == 120


def test_a_lake_connection_reads_nothing_but_the_lake(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, tmp_path: Path
):
    fill(TODAY, 1, 1)
    push(warehouse, lake_path, clock)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with Lake(lake_path).connect() as con:
        assert con.execute("SELECT count(*) FROM mart.t_hour_stats").fetchone() == (1,)
        with pytest.raises(duckdb.PermissionException):
            con.execute(f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')")
        with pytest.raises(duckdb.Error):
            con.execute("SET enable_external_access = true")


def test_a_lake_without_manifest_says_so(tmp_path: Path):
    with pytest.raises(LakeMissing, match="nothing has been published"):
        Lake(tmp_path)


def test_select_takes_only_files_of_the_window(warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock):
    for hour in (OLD, YESTERDAY, TODAY):
        fill(hour, 1, 1)
    push(warehouse, lake_path, clock)
    lake = Lake(lake_path)
    text = lake.select("mart.t_minute_stats", datetime(2026, 1, 20), datetime(2026, 1, 21))
    assert text.count(".parquet") == 1
    assert duckdb.sql(text).fetchall()[0][2].date() == OLD.date()
    assert "WHERE false" in lake.select("mart.t_minute_stats", datetime(2025, 1, 1), datetime(2025, 1, 2))
