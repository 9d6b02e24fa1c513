"""Tidying up changes nothing that can be queried."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse.connect import CLOSE_LOG_LIMIT, Warehouse
from monitoring_pipelines.warehouse.lake import Lake, read_manifest
from monitoring_pipelines.warehouse.maintenance import (
    check_lake,
    compact_lake,
    maintain,
    merge_log,
    rewrite_if_sparse,
    store_size,
)
from monitoring_pipelines.warehouse.publish import publish
from monitoring_pipelines_tests.warehouse.conftest import Fill
from monitoring_pipelines_tests.warehouse.test_publish import OLD, TODAY, YESTERDAY, push

MINUTES = "SELECT * FROM mart.t_minute_stats ORDER BY ALL"


def rows(lake: Path) -> list[tuple[object, ...]]:
    with Lake(lake).connect() as con:
        return con.execute(MINUTES).fetchall()


def test_days_are_compacted_one_by_one_even_while_changes_wait(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for day in range(3):
        for hour in range(3):
            fill(TODAY - timedelta(days=day, hours=hour), 1, hour)
        push(warehouse, lake_path, clock)
        clock.advance(-86_400)
    clock.advance(3 * 86_400)
    fill(TODAY, 1, 9)
    before = read_manifest(lake_path)
    assert sum(len(key) == 13 for key in before.tables["mart.t_minute_stats"].partitions) == 9
    assert compact_lake(warehouse, lake_path, clock) == 3  # two days of minutes, a week of hours
    keys = sorted(read_manifest(lake_path).tables["mart.t_minute_stats"].partitions)
    assert keys == ["2026-02-01", "2026-02-02", "2026-02-03T07", "2026-02-03T08", "2026-02-03T09"]
    with warehouse.reader() as con:
        assert rows(lake_path) == con.execute(MINUTES).fetchall()
    assert compact_lake(warehouse, lake_path, clock) == 0


def test_orphans_go_and_needed_files_stay(warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock):
    for value in (1, 2):
        fill(TODAY, 1, value)
        manifest = push(warehouse, lake_path, clock)
    orphan = lake_path / "mart" / "t_minute_stats" / "2020-01-01" / "0.parquet"
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    report = check_lake(warehouse, lake_path, clock)
    assert report.orphans == ["mart/t_minute_stats/2020-01-01/0.parquet"]
    assert not orphan.parent.exists()
    needed = manifest.files() | {retired.file for retired in manifest.retired}
    assert {path.relative_to(lake_path).as_posix() for path in lake_path.rglob("*.parquet")} == needed
    assert len(manifest.retired) == 3


def test_missing_cut_and_altered_files_are_written_again(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock
):
    for hour in (OLD, YESTERDAY, TODAY):
        fill(hour, 1, 1)
    manifest = push(warehouse, lake_path, clock)
    expected = rows(lake_path)
    files = [lake_path / entry.file for entry in manifest.tables["mart.t_minute_stats"].partitions.values()]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:50])
    files[2].write_bytes(bytes(files[2].stat().st_size))
    month = lake_path / manifest.tables["mart.t_date_stats"].partitions["2026-01"].file
    month.unlink()
    report = maintain(warehouse, lake_path, clock, deep=True)
    # Yesterday's was replaced by compaction before the check came to it.
    assert len(report.lake.damaged) == 3
    assert rows(lake_path) == expected
    assert check_lake(warehouse, lake_path, clock, deep=True).damaged == []
    with Lake(lake_path).connect() as con:
        assert con.execute("SELECT count(*) FROM mart.t_date_stats").fetchone() == (3,)


def test_merging_empties_the_log(warehouse: Warehouse):
    with warehouse.writer("w") as con:
        con.execute("CREATE TABLE t(a INT)")
    assert warehouse.log_bytes() > 0
    merge_log(warehouse)
    assert warehouse.log_bytes() == 0


def test_work_after_a_merge_has_all_threads_again(warehouse: Warehouse):
    with warehouse.writer("w") as con:
        before = con.execute("SELECT current_setting('threads')").fetchone()
        warehouse.merge(con, tidy=True)
        assert con.execute("SELECT current_setting('threads')").fetchone() == before


def test_a_long_log_is_merged_when_its_writer_closes(warehouse: Warehouse):
    with warehouse.writer("w") as con:
        con.execute("CREATE TABLE t(a UBIGINT)")
        for _ in range(40):
            con.execute("INSERT INTO t SELECT hash(random()) FROM range(50000)")
    assert warehouse.log_bytes() < CLOSE_LOG_LIMIT
    with warehouse.reader() as con:
        assert con.execute("SELECT count(*) FROM t").fetchone() == (2_000_000,)


def row_groups(warehouse: Warehouse) -> int:
    with warehouse.reader() as con:
        return con.execute("SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('t')").fetchone()[0]


def add_and_merge(warehouse: Warehouse) -> None:
    with warehouse.writer("w") as con:
        con.execute("INSERT INTO t SELECT hash(random()) FROM range(5000)")


def test_small_row_groups_are_joined_by_the_hourly_job_and_maintenance_and_by_others_only_when_these_do_not_run(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.CLOSE_LOG_LIMIT", 1)
    with warehouse.writer("w") as con:
        con.execute("CREATE TABLE t(a UBIGINT)")
    for _ in range(4):
        add_and_merge(warehouse)
    assert warehouse.log_bytes() == 0
    assert row_groups(warehouse) == 4
    merge_log(warehouse)
    assert row_groups(warehouse) == 1
    for _ in range(3):
        add_and_merge(warehouse)
    assert not warehouse.tidy()  # just done
    assert row_groups(warehouse) == 4
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.TIDY_EVERY_S", 0.0)
    add_and_merge(warehouse)
    assert row_groups(warehouse) == 5
    assert warehouse.tidy()
    assert row_groups(warehouse) == 1
    add_and_merge(warehouse)
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.TIDY_AT_LATEST_S", 0.0)
    add_and_merge(warehouse)
    assert row_groups(warehouse) < 3


def test_space_of_deleted_rows_is_reused_and_can_be_given_back(
    warehouse: Warehouse, lake_path: Path, clock: FixedClock
):
    with warehouse.writer("w") as con:
        con.execute("CREATE TABLE t(day INT, h UBIGINT)")
    sizes = []
    for day in range(12):
        with warehouse.writer("w") as con:
            con.execute("INSERT INTO t SELECT ?, hash(random()) FROM range(600000)", [day])
            con.execute("DELETE FROM t WHERE day < ?", [day - 2])
        merge_log(warehouse)
        sizes.append(store_size(warehouse, lake_path).warehouse_bytes)
    assert sizes[-1] <= 1.3 * sizes[5]
    with warehouse.writer("w") as con:
        con.execute("DELETE FROM t WHERE day < 11")
        order = con.execute("SELECT list(h) FROM (SELECT h FROM t)").fetchone()
    assert not rewrite_if_sparse(warehouse)
    assert rewrite_if_sparse(warehouse, least_bytes=1)
    assert store_size(warehouse, lake_path).warehouse_bytes < sizes[-1] / 2
    with warehouse.writer("w") as con:
        assert sorted(con.execute("SELECT list(h) FROM (SELECT h FROM t)").fetchone()[0]) == sorted(order[0])
        assert con.execute("SELECT count(*) FROM meta.identity").fetchone() == (1,)
        publish(con, lake_path, clock)
    assert list(warehouse.path.parent.glob("*.rewrite*")) == []


def test_maintenance_of_an_empty_store_does_nothing(warehouse: Warehouse, lake_path: Path, clock: FixedClock):
    with warehouse.writer("init"):
        pass
    report = maintain(warehouse, lake_path, clock)
    assert (report.compacted, report.rewritten, report.lake.orphans, report.lake.damaged) == (0, False, [], [])
    assert report.after.lake_files == 0
