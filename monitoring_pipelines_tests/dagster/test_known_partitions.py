"""What was computed outside of a run is known to Dagster afterwards: no partition looks missing in the UI."""

from datetime import timedelta

from dagster import AssetCheckKey, AssetKey

from monitoring_pipelines import pipeline
from monitoring_pipelines.orchestration.asset_checks import predicate
from monitoring_pipelines.orchestration.catalog import load_catalog
from monitoring_pipelines.orchestration.check_specs import places
from monitoring_pipelines.orchestration.known_partitions import (
    report_check_run,
    report_first_checks,
    report_known_partitions,
    report_stored_tables,
)
from monitoring_pipelines.orchestration.metadata import key_of
from monitoring_pipelines.orchestration.partitions import DAY, HOUR
from monitoring_pipelines.partition_keys import day_key, hour_key
from monitoring_pipelines.quality.runs import execute
from monitoring_pipelines.state import StateStore
from monitoring_pipelines_tests.dagster.conftest import NOW, add_late_task, hour


def test_computed_hours_and_days_and_verified_days_are_reported_once(site, instance):
    origin, reached = site.query(
        "SELECT origin, computed_through FROM meta.source_state JOIN meta.window_progress USING (source_id)"
    )[0]
    hours = {hour_key(origin + HOUR * n) for n in range(-(-(reached - origin) // HOUR))}
    days = {day_key(row[0]) for row in site.query("SELECT DISTINCT stat_date FROM mart.endpoint_daily_stats")}
    verified = {
        day_key(row[0])
        for row in site.query('SELECT DISTINCT "day" FROM meta.reconciliation WHERE "day" > DATE \'1970-01-01\'')
    }

    count = report_known_partitions(instance, site.pipe)

    for table in pipeline.HOUR_TABLES:
        assert instance.get_materialized_partitions(key_of(table)) == hours
    assert instance.get_materialized_partitions(key_of(pipeline.DAY_TABLES[0])) == days
    assert instance.get_materialized_partitions(AssetKey(["audit", "reconciliation"])) == verified
    tables = (*pipeline.HOUR_TABLES, *pipeline.DAY_TABLES)
    assert count == sum(len(instance.get_materialized_partitions(key_of(table))) for table in tables) + len(verified)
    newest = instance.get_latest_materialization_event(key_of(pipeline.HOUR_TABLES[1])).asset_materialization
    assert newest.partition == max(hours)
    rows = site.query("SELECT count(*) FROM mart.endpoint_hourly_stats WHERE stat_hour = ?", [hour(0)])[0][0]
    assert newest.metadata["rows"].value == rows > 0
    assert report_known_partitions(instance, site.pipe) == 0


def test_a_day_that_is_due_again_is_not_called_computed(site, instance):
    site.write(
        "INSERT INTO meta.dirty_day SELECT source_id, 'endpoint', stat_date, now() FROM mart.endpoint_daily_stats"
    )
    report_known_partitions(instance, site.pipe)
    assert not instance.get_materialized_partitions(key_of(pipeline.DAY_TABLES[0]))


def test_audits_have_a_result_before_the_first_run(site, instance):
    report_first_checks(instance, site.pipe)
    tables = {audit.name: f"mart.{audit.family}_hourly_stats" for audit in load_catalog().audits}
    keys = [AssetCheckKey(key_of(table), predicate(name, table)) for name, table in tables.items()]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert set(found) == set(keys)
    assert all(record.event.asset_check_evaluation.passed for record in found.values())


def test_results_of_a_check_run_from_the_command_line_are_those_of_the_asset_checks(site, instance):
    run = execute(site.pipe, StateStore.of(site.pipe.settings), "full")
    judged = places(site.pipe.settings, load_catalog().tables)
    answered = {
        outcome.check_id: outcome.status == "passed"
        for outcome in run.outcomes
        if outcome.status in ("passed", "findings", "error") and outcome.check_id in judged
    }
    assert report_check_run(instance, site.pipe, run) == len(answered)
    keys = {check: AssetCheckKey(key_of(judged[check].table), judged[check].name) for check in answered}
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys.values()))
    assert {c: found[k].event.asset_check_evaluation.passed for c, k in keys.items()} == answered
    assert False in answered.values()


def test_tables_filled_outside_of_a_run_are_no_missing_upstream(site, instance):
    assert report_stored_tables(instance, site.pipe) > 0
    for name in ("raw.task", "raw.task_event", "core.task_attempt", "core.worker_interval"):
        event = instance.get_latest_materialization_event(key_of(name)).asset_materialization
        assert event.metadata["rows"].value == site.query(f"SELECT count(*) FROM {name}")[0][0] > 0
    assert report_stored_tables(instance, site.pipe) == 0


def test_the_first_load_leaves_no_day_to_compare(new_site):
    """Days in which the first load found nothing are proven with it, instead of being compared right after it."""
    pipeline.tick(new_site.pipe)
    assert pipeline.unverified_days(new_site.pipe) == []
    late = NOW - DAY * 20
    empty = 'SELECT sum(source_rows), bool_and(equal) FROM meta.reconciliation WHERE "day" = ?'
    assert new_site.query(empty, [late.date()]) == [(0, True)]
    # A row that appears there later is read, and comparing the day again counts it.
    add_late_task(new_site.source, late, "late")
    new_site.clock = type(new_site.clock)(NOW + timedelta(minutes=1))
    pipeline.tick(new_site.pipe)
    pipeline.reconcile(new_site.pipe, late.date())
    rows, equal = new_site.query(empty, [late.date()])[0]
    assert rows > 0
    assert equal
