"""Killed processes and full disks leave the state before or the state after, never something between (E-602, E-613)."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import duckdb
import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.lake import Lake, read_manifest
from monitoring_pipelines.warehouse.publish import LOCK_NAME, STAGING_NAME, publish
from monitoring_pipelines_tests.warehouse.conftest import Actor, Fill
from monitoring_pipelines_tests.warehouse.test_publish import TODAY

KILLS = 12


def make_pair_tables(warehouse: Warehouse) -> None:
    with warehouse.writer("init") as con:
        con.execute("CREATE TABLE first(n BIGINT, i UBIGINT)")
        con.execute("CREATE TABLE second(n BIGINT, i UBIGINT)")


def kill_within_a_round(process: subprocess.Popen[str], dice: random.Random) -> None:
    """Kill a looping actor at a random point of a round, whatever the speed of the machine."""
    assert process.stdout.readline() == "ready\n"
    assert process.stdout.readline() == "round\n"
    began = time.monotonic()
    assert process.stdout.readline() == "round\n"
    time.sleep(dice.random() * (time.monotonic() - began))
    process.kill()
    process.wait()


def content(warehouse: Warehouse, table: str) -> list[tuple[object, ...]]:
    with warehouse.reader() as con:
        return con.execute(f"SELECT n, count(*) FROM {table} GROUP BY n ORDER BY n").fetchall()


def test_killing_a_writer_at_any_point_leaves_whole_transactions(warehouse: Warehouse, actor: Actor):
    make_pair_tables(warehouse)
    dice = random.Random(20260201)
    reached = 0
    for _ in range(KILLS):
        kill_within_a_round(actor("pairs", warehouse.path), dice)
        first, second = content(warehouse, "first"), content(warehouse, "second")
        assert first == second
        assert all(rows == 3000 for _, rows in first)
        newest = first[-1][0] if first else 0
        assert newest > reached
        reached = newest


def test_killing_a_publisher_at_any_point_leaves_a_readable_consistent_set(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, actor: Actor
):
    fill(TODAY, 20, 1)
    with warehouse.writer("first") as con:
        publish(con, lake_path, clock)
    dice = random.Random(20260202)
    versions = set()
    for _ in range(KILLS):
        kill_within_a_round(actor("publishing", warehouse.path, lake_path), dice)
        lake = Lake(lake_path)
        versions.add(lake.version)
        assert one_value(lake) >= 1
    assert len(versions) == KILLS
    with warehouse.writer("recover") as con:
        manifest = publish(con, lake_path, clock)
        expected = con.execute("SELECT DISTINCT value FROM mart.t_minute_stats").fetchall()
    assert [(one_value(Lake(lake_path)),)] == expected
    assert manifest.waiting == 0
    assert not (lake_path / STAGING_NAME).exists()
    assert [path.name for path in (lake_path / LOCK_NAME).iterdir()] == ["guard"]


def one_value(lake: Lake) -> float:
    """The value all three grains of this version share."""
    with lake.connect() as con:
        rows = con.execute(
            "SELECT DISTINCT value FROM (SELECT value FROM mart.t_minute_stats UNION ALL SELECT value FROM "
            "mart.t_hour_stats UNION ALL SELECT value FROM mart.t_date_stats)"
        ).fetchall()
    assert len(rows) == 1
    return float(rows[0][0])


def test_readers_see_whole_versions_while_two_publishers_run(
    warehouse: Warehouse, fill: Fill, lake_path: Path, clock: FixedClock, actor: Actor
):
    fill(TODAY, 20, 1)
    with warehouse.writer("first") as con:
        publish(con, lake_path, clock)
    publishers = [actor("publishing", warehouse.path, lake_path) for _ in range(2)]
    for publisher in publishers:
        assert publisher.stdout.readline() == "ready\n"
    values, versions = [], []
    while len(set(values)) < 8:
        lake = Lake(lake_path)
        versions.append(lake.version)
        values.append(one_value(lake))
        assert all(publisher.poll() is None for publisher in publishers)
    assert versions == sorted(versions)
    assert values == sorted(values)


def test_a_full_disk_undoes_the_transaction_and_keeps_what_was_stored(warehouse: Warehouse, actor: Actor):
    make_pair_tables(warehouse)
    process = actor("fill_disk", warehouse.path, 12_000_000)
    output = process.communicate()[0]
    assert output.startswith("full: no space left for warehouse.duckdb")
    assert process.returncode == 0
    first = content(warehouse, "first")
    assert first == content(warehouse, "second")
    assert first
    assert all(rows == 100_000 for _, rows in first)
    with warehouse.writer("goes on") as con:
        con.execute("INSERT INTO first VALUES (-1, 1)")


@pytest.mark.parametrize(
    ("endpoints", "limit_bytes"),
    [(50, 0), (50, 900), (50, 6000), (1, 2000)],
    ids=["at the first byte", "in a footer", "in the data", "in the manifest"],
)
def test_a_full_disk_keeps_the_published_set_and_leaves_nothing_behind(
    warehouse: Warehouse,
    fill: Fill,
    lake_path: Path,
    clock: FixedClock,
    actor: Actor,
    endpoints: int,
    limit_bytes: int,
):
    fill(TODAY, endpoints, 1)
    with warehouse.writer("first") as con:
        before = publish(con, lake_path, clock)
        publish(con, lake_path, clock)
    fill(TODAY, endpoints, 2)
    with warehouse.writer("noise") as con:
        # Values that do not compress: with 50 endpoints the file is larger than every limit tried.
        con.execute("UPDATE mart.t_minute_stats SET value = random()")
        con.execute("CHECKPOINT")
    output = actor("publish_on_full_disk", warehouse.path, lake_path, limit_bytes).communicate()[0]
    assert output.startswith("full: no space left")
    assert read_manifest(lake_path) == before
    assert {str(p.relative_to(lake_path)) for p in lake_path.rglob("*.parquet")} == before.files()
    assert not list(lake_path.glob(".manifest*"))
    with warehouse.writer("again") as con:
        rows = con.execute("SELECT * FROM mart.t_minute_stats ORDER BY ALL").fetchall()
        publish(con, lake_path, clock)
    with Lake(lake_path).connect() as con:
        assert con.execute("SELECT * FROM mart.t_minute_stats ORDER BY ALL").fetchall() == rows


def test_a_write_refused_by_a_full_disk_does_not_stop_readers_of_the_file(warehouse: Warehouse, actor: Actor):
    make_pair_tables(warehouse)
    actor("fill_disk", warehouse.path, 12_000_000).communicate()
    with warehouse.reader() as con:
        assert con.execute("SELECT count(*) > 0 FROM first").fetchone() == (True,)
    with duckdb.connect(str(warehouse.path), read_only=True) as con:
        assert con.execute("SELECT count(*) > 0 FROM second").fetchone() == (True,)
