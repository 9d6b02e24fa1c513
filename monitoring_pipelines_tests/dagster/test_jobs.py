"""Jobs in process, on a real source: the tick, partition runs of exactly a range, checks, maintenance."""

import os
import time
from datetime import datetime, timedelta

import pytest
from dagster import AssetKey, DagsterEventType, DagsterRunStatus
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from monitoring_pipelines import pipeline
from monitoring_pipelines.orchestration.maintenance import prune_superseded_runs
from monitoring_pipelines.partition_keys import hour_key
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines_tests.dagster.conftest import NOW, Site, add_late_task, connect_lake, hour

MINUTE = AssetKey(["mart", "endpoint_minute_stats"])
HOURLY = AssetKey(["mart", "endpoint_hourly_stats"])
DAILY = AssetKey(["mart", "endpoint_daily_stats"])


def tick(site, instance, **advance):
    site.clock.instant += timedelta(**advance)
    return site.job("minute_tick_job").execute_in_process(instance=instance)


def run_range(site, instance, first: datetime, last: datetime, job: str = "hourly_stats_job", **kwargs):
    tags = {ASSET_PARTITION_RANGE_START_TAG: hour_key(first), ASSET_PARTITION_RANGE_END_TAG: hour_key(last)}
    return site.job(job).execute_in_process(instance=instance, tags=tags, **kwargs)


def materialized(result, key: AssetKey) -> list[str | None]:
    return [
        event.materialization.partition
        for event in result.all_events
        if event.event_type == DagsterEventType.ASSET_MATERIALIZATION and event.asset_key == key
    ]


def test_first_tick_computes_and_publishes_everything_the_source_has(new_site, instance):
    """M-802: nothing has to be configured or backfilled by hand."""
    result = tick(new_site, instance)
    assert result.success
    hours = {row[0] for row in new_site.query("SELECT DISTINCT stat_hour FROM mart.endpoint_hourly_stats")}
    assert hours >= {hour(n) for n in range(6)}
    assert set(materialized(result, HOURLY)) >= {hour_key(h) for h in hours}
    assert materialized(result, AssetKey(["raw", "task"])) == [None]
    with connect_lake(new_site) as lake:
        published = lake.execute("SELECT count(*) FROM mart.endpoint_minute_stats").fetchone()
    assert published == tuple(new_site.query("SELECT count(*) FROM mart.endpoint_minute_stats")[0])


def test_tick_metadata_is_numeric_so_that_it_plots(site, instance):
    result = tick(site, instance, minutes=1)
    (event,) = [
        e
        for e in result.all_events
        if e.event_type == DagsterEventType.ASSET_MATERIALIZATION and e.asset_key == AssetKey(["meta", "window_run"])
    ]
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    assert metadata["lag_s"] == 60.0
    assert all(isinstance(metadata[name], int | float) for name in ("rows", "restated", "dirty_hours", "seconds"))


def test_repeated_tick_writes_nothing(site, instance):
    """M-804, S-703."""
    before = site.query("SELECT * FROM mart.endpoint_hourly_stats ORDER BY ALL")
    assert tick(site, instance).success
    assert site.query("SELECT * FROM mart.endpoint_hourly_stats ORDER BY ALL") == before


def test_a_tick_that_gives_the_warehouse_away_wherever_it_can_computes_the_same(new_site, loaded, monkeypatch):
    monkeypatch.setattr(Warehouse, "offer", lambda warehouse: True)
    pipe = new_site.pipe
    pipeline.tick(pipe)
    assert new_site.marts() == Site(loaded, new_site.clock).marts()
    uses = [use.purpose for use in pipe.warehouse.stats.uses]
    assert "core of shop: tasks" in uses
    assert uses.count("statistics") > 7  # hours


def test_runs_are_tagged_with_source_type_and_run_id(site, instance):
    """S-701."""
    result = tick(site, instance)
    tags = instance.get_run_by_id(result.run_id).tags
    assert (tags["source"], tags["type"], tags["run_id"]) == ("shop", "minute_tick", result.run_id)


def test_late_row_restates_hour_and_day_in_the_same_cycle(site, instance):
    """M-803."""
    late = hour(3) + timedelta(minutes=10)
    site.clock.instant = NOW + timedelta(hours=12)
    assert tick(site, instance).success
    completed = "SELECT sum(tasks_completed), max(revision) FROM mart.{} WHERE {} = ?"
    hour_before = site.query(completed.format("endpoint_hourly_stats", "stat_hour"), [hour(3)])[0]
    day_before = site.query(completed.format("endpoint_daily_stats", "stat_date"), [NOW.date()])[0]
    add_late_task(site.source, late, "late-1")
    result = tick(site, instance, minutes=1)
    hour_after = site.query(completed.format("endpoint_hourly_stats", "stat_hour"), [hour(3)])[0]
    day_after = site.query(completed.format("endpoint_daily_stats", "stat_date"), [NOW.date()])[0]
    assert hour_after == (hour_before[0] + 1, 2)
    assert day_after[0] == day_before[0] + 1
    assert day_after[1] > day_before[1]
    assert hour_key(hour(3)) in materialized(result, HOURLY)


def test_audits_stay_visible_while_the_hour_goes_on(site, instance):
    """A tick reports an open hour and day once; Dagster hides the checks of a table that is materialized again."""
    assert tick(site, instance, hours=1, minutes=1).success
    first = tick(site, instance, minutes=1)
    assert [materialized(first, key) for key in (HOURLY, DAILY)] == [[], []]
    assert materialized(first, MINUTE) == [hour_key(hour(-1))]
    assert hour_key(hour(-1)) in instance.get_materialized_partitions(HOURLY)
    closed = tick(site, instance, hours=1)
    assert materialized(closed, HOURLY) == [hour_key(hour(-1)), hour_key(hour(-2))]


def test_gap_of_downtime_is_healed_by_the_next_tick(site, instance):
    """M-802: windows come from the state of the store, not from the time of the tick."""
    result = tick(site, instance, hours=5, minutes=3)
    assert set(materialized(result, HOURLY)) >= {hour_key(hour(-n)) for n in range(6)}
    ((through, progress),) = site.query(
        "SELECT closed_through, computed_through FROM meta.source_state JOIN meta.window_progress USING (source_id) "
        "WHERE source_id = 'shop' AND family = 'endpoint'"
    )
    assert through == progress == NOW + timedelta(hours=5, minutes=2)


def test_range_run_recomputes_exactly_its_hours(site, instance):
    """A backfill needs no configuration and touches nothing outside its range."""
    for n in (2, 3, 5):
        site.write("UPDATE mart.endpoint_hourly_stats SET tasks_completed = -1 WHERE stat_hour = ?", [hour(n)])
        site.write("UPDATE mart.endpoint_minute_stats SET tasks_completed = -1 WHERE stat_minute = ?", [hour(n)])
    result = run_range(site, instance, hour(3), hour(2))
    assert result.success
    wrong = site.query("SELECT DISTINCT stat_hour FROM mart.endpoint_hourly_stats WHERE tasks_completed < 0")
    assert wrong == [(hour(5),)]
    wrong = site.query("SELECT DISTINCT stat_minute FROM mart.endpoint_minute_stats WHERE tasks_completed < 0")
    assert wrong == [(hour(5),)]
    assert materialized(result, MINUTE) == materialized(result, HOURLY) == [hour_key(hour(3)), hour_key(hour(2))]


def test_range_run_of_one_table_leaves_the_other(site, instance):
    site.write("UPDATE mart.endpoint_minute_stats SET tasks_completed = -1 WHERE stat_minute = ?", [hour(2)])
    site.write("UPDATE mart.endpoint_hourly_stats SET tasks_completed = -1 WHERE stat_hour = ?", [hour(2)])
    result = run_range(site, instance, hour(2), hour(2), asset_selection=[MINUTE])
    assert result.success
    assert site.query("SELECT count(*) FROM mart.endpoint_minute_stats WHERE tasks_completed < 0") == [(0,)]
    assert site.query("SELECT count(*) > 0 FROM mart.endpoint_hourly_stats WHERE tasks_completed < 0") == [(True,)]


def test_range_run_publishes_what_it_changed(site, instance):
    site.write("UPDATE mart.endpoint_hourly_stats SET tasks_completed = -1 WHERE stat_hour = ?", [hour(2)])
    assert run_range(site, instance, hour(2), hour(2)).success
    with connect_lake(site) as lake:
        found = lake.execute("SELECT min(tasks_completed) FROM mart.endpoint_hourly_stats").fetchone()
    assert found[0] >= 0


def test_row_groups_are_joined_by_a_run_of_partitions_and_not_by_a_tick(site, instance, monkeypatch):
    """A tick holds the lock for half a second; joining takes longer."""
    monkeypatch.setattr("monitoring_pipelines.warehouse.connect.CLOSE_LOG_LIMIT", 1)
    joined = site.pipe.warehouse.path.with_name(site.pipe.warehouse.path.name + ".tidied")
    two_hours_ago = time.time() - 7200
    os.utime(joined, (two_hours_ago, two_hours_ago))
    assert tick(site, instance, minutes=1).success
    assert joined.stat().st_mtime == two_hours_ago
    assert run_range(site, instance, hour(2), hour(2)).success
    assert joined.stat().st_mtime > two_hours_ago


def test_open_hour_and_hours_to_come_are_no_error(site, instance):
    """The current partition is open: it can be selected and holds what is closed so far."""
    result = run_range(site, instance, hour(1), hour(0))
    assert result.success
    states = dict(site.query("SELECT DISTINCT stat_hour, state FROM mart.endpoint_hourly_stats"))
    assert states[hour(0)] == "partial"
    assert states[hour(1)] == "closed"


def test_day_run_computes_its_day(site, instance):
    result = site.job("daily_stats_job").execute_in_process(instance=instance, partition_key="2025-03-10")
    assert result.success
    assert site.query("SELECT DISTINCT stat_date::VARCHAR, state FROM mart.endpoint_daily_stats") == [
        ("2025-03-10", "partial")
    ]


def test_dagster_calls_no_partition_unsynced_because_a_minute_has_passed(site, instance):
    """What must be computed again is known from the rows: a badge on every closed hour and day would say nothing."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    assert tick(site, instance).success
    assert run_range(site, instance, hour(2), hour(1)).success
    day = NOW.date().isoformat()
    assert site.job("daily_stats_job").execute_in_process(instance=instance, partition_key=day).success
    assert tick(site, instance, minutes=1).success
    graph = site.defs().get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    daily = AssetKey(["mart", "endpoint_daily_stats"])
    attempts = AssetKey(["core", "task_attempt"])
    for key, partition in ((HOURLY, hour_key(hour(1))), (daily, day), (attempts, None)):
        assert resolver.get_status(key, partition) == StaleStatus.FRESH, resolver.get_stale_causes(key, partition)


def test_audits_are_checks_and_find_a_broken_invariant(site, instance):
    """M-9xx as asset checks; a failed check leaves the run green."""
    clean = run_range(site, instance, hour(3), hour(2))
    graph = site.defs().resolve_asset_graph()
    known = {key for key in graph.asset_check_keys if "audit" in graph.get_check_spec(key).metadata}
    audits = [e for e in clean.get_asset_check_evaluations() if e.asset_check_key in known]
    assert all(e.passed for e in audits)
    assert HOURLY in {e.asset_key for e in audits}
    assert len(audits) >= 10
    site.write(
        "UPDATE mart.endpoint_hourly_stats SET tasks_completed = tasks_completed + 1 WHERE stat_hour = ?", [hour(2)]
    )
    everything = site.defs().resolve_implicit_global_asset_job_def()
    keys = {key for key in known if key.asset_key == HOURLY}
    alone = everything.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(
        instance=instance
    )
    assert alone.success
    failed = {e.check_name: e.metadata["bad_rows"].value for e in alone.get_asset_check_evaluations() if not e.passed}
    assert failed["hour_equals_sum_of_minutes"] >= 1


def test_reconciliation_run_repairs_a_day(site, instance):
    """E-609: what was lost in the store comes back, with its statistics."""
    expected = site.marts()
    site.write('DELETE FROM raw.task_event WHERE "at" >= ? AND "at" < ?', [hour(3), hour(2)])
    result = site.job("reconciliation_job").execute_in_process(instance=instance, partition_key="2025-03-10")
    assert result.success
    assert tick(site, instance).success
    assert site.marts() == expected
    (event,) = [e for e in result.all_events if e.event_type == DagsterEventType.ASSET_MATERIALIZATION]
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    assert metadata["unequal"] == 0
    assert metadata["rows_reread"] > 0


def test_unreachable_source_fails_the_run_and_changes_nothing(site, instance):
    """E-613, M-806: no zero row appears, and the reason is readable."""
    before = site.marts()
    site.source.rename(site.source.with_suffix(".gone"))
    site.clock.instant += timedelta(minutes=5)
    result = site.job("minute_tick_job").execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    assert site.marts() == before
    site.source.with_suffix(".gone").rename(site.source)
    assert tick(site, instance, minutes=1).success


def test_maintenance_runs_beside_ticks(site, instance):
    assert site.job("maintenance_job").execute_in_process(instance=instance).success
    assert tick(site, instance, minutes=1).success


@pytest.fixture
def old_runs(monkeypatch):
    from monitoring_pipelines.orchestration import maintenance

    monkeypatch.setattr(maintenance, "TICK_AGE", timedelta(seconds=-60))


@pytest.mark.usefixtures("old_runs")
def test_pruning_keeps_the_newest_run_of_every_partition(site, instance):
    """Dagster has no run retention; what the UI needs to call a partition materialized must stay."""
    kept = tick(site, instance, hours=1)
    runs = [tick(site, instance, minutes=1) for _ in range(3)]
    partitions = instance.get_materialized_partitions(HOURLY)
    assert prune_superseded_runs(instance) >= 2
    assert instance.get_materialized_partitions(HOURLY) == partitions
    assert not instance.has_run(runs[0].run_id)
    assert instance.has_run(runs[-1].run_id)
    assert instance.has_run(kept.run_id), "it alone computed the hours between"
    assert instance.get_run_by_id(runs[-1].run_id).status == DagsterRunStatus.SUCCESS
