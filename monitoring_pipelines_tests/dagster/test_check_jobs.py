"""Quick, full and deep checks through Dagster: what they run, store and show, also when there is nothing to say."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetCheckSeverity, AssetKey, DagsterInstance

from monitoring_pipelines.quality import registry
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines_tests.dagster.outputs_site import NOW, OutputsSite

SCHEDULED = {"due_at": "2025-03-10T12:00:00Z", "trigger": "schedule", "dagster/schedule_name": "s"}
QUICK, FULL, DEEP = "quick_check_job", "full_check_job", "deep_check_job"


@pytest.fixture
def site(tmp_path: Path) -> OutputsSite:
    return OutputsSite.make(tmp_path / "site")


def run(site: OutputsSite, instance: DagsterInstance, job: str, **more):
    return site.job(job).execute_in_process(instance=instance, raise_on_error=False, **more)


def evaluations(result) -> dict[str, object]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def metadata(evaluation) -> dict[str, object]:
    return {name: getattr(value, "value", value) for name, value in evaluation.metadata.items()}


def test_quick_check_runs_without_configuration_and_is_stored(site, instance):
    """C-020, C-022, C-101; S-701."""
    site.tasks(40, 33, NOW - timedelta(minutes=10))
    result = run(site, instance, QUICK, tags=SCHEDULED)
    assert result.success
    assert set(evaluations(result)) == {"outputs_complete", "sources_readable"}
    outputs = evaluations(result)["outputs_complete"]
    assert (outputs.check_name, outputs.passed, outputs.severity) == (
        "outputs_complete",
        False,
        AssetCheckSeverity.WARN,
    )
    shown = metadata(outputs)
    assert shown["success_tasks"] == 40
    assert shown["missing_count"] == 7
    assert shown["completion_rate"] == 82.5
    assert (shown["window_from"], shown["window_to"]) == ("2025-03-10T11:00:00Z", "2025-03-10T12:00:00Z")
    assert shown["page"] == "http://127.0.0.1:8787/consistency?source=shop"
    saved = stored.load(site.state, shown["check_run"])
    assert (saved.type, saved.trigger, saved.status, saved.scheduled_at) == (
        "quick",
        "schedule",
        "issues_detected",
        NOW,
    )
    assert saved.dagster_run_id == result.run_id


@pytest.mark.parametrize(
    ("complete", "passed", "severity"),
    [(40, True, AssetCheckSeverity.WARN), (39, False, AssetCheckSeverity.WARN), (31, False, AssetCheckSeverity.ERROR)],
)
def test_bands_decide_about_warning_and_error(site, instance, complete, passed, severity):
    """C-002: low and medium warn, high and critical are errors."""
    site.tasks(40, complete, NOW - timedelta(minutes=10))
    outputs = evaluations(run(site, instance, QUICK))["outputs_complete"]
    assert (outputs.passed, outputs.severity) == (passed, severity)


def test_too_little_data_is_neither_passed_nor_failed(site, instance):
    """A user is not told that outputs are complete when there was no task."""
    result = run(site, instance, QUICK)
    assert result.success
    assert set(evaluations(result)) == {"sources_readable"}
    (newest, *_), _ = stored.page(site.state)
    assert newest.status == "healthy"


def test_hours_back_changes_the_window_and_wrong_ones_are_refused(site, instance):
    """S-411."""
    site.tasks(10, 9, NOW - timedelta(hours=5))
    config = {"ops": {"check_catalogue": {"config": {"hours_back": 6}}}}
    shown = metadata(evaluations(run(site, instance, QUICK, run_config=config))["outputs_complete"])
    assert shown["window_from"] == "2025-03-10T06:00:00Z"
    for job, hours in ((QUICK, 0), (QUICK, 721), (DEEP, 5)):
        bad = {"ops": {"check_catalogue": {"config": {"hours_back": hours}}}}
        assert not run(site, instance, job, run_config=bad).success


def test_unreachable_source_is_an_error_not_a_pass(site, instance):
    """C-025."""
    site.tasks(10, 10, NOW - timedelta(minutes=10))
    assert evaluations(run(site, instance, QUICK))["outputs_complete"].passed
    (site.root / "shop.db").rename(site.root / "away.db")
    site.clock.instant += timedelta(minutes=15)
    result = run(site, instance, QUICK)
    assert result.success
    outputs = evaluations(result)["outputs_complete"]
    assert (outputs.passed, outputs.severity) == (False, AssetCheckSeverity.WARN)
    assert metadata(outputs)["status"] == "error"
    reading = evaluations(result)["sources_readable"]
    assert (reading.passed, reading.severity) == (False, AssetCheckSeverity.ERROR)


def test_full_check_shows_every_check_of_its_run_that_has_an_answer(site, instance):
    site.tasks(40, 38, NOW - timedelta(minutes=10))
    result = run(site, instance, FULL)
    assert result.success
    saved = stored.load(site.state, metadata(evaluations(result)["outputs_complete"])["check_run"])
    answered = {o.check_id for o in saved.outcomes if o.status in ("passed", "findings", "error")} & {
        "source",
        *registry.checks(),
    }
    shown = {check.metadata["check_id"] for check in specs(site) if check.name in evaluations(result)}
    reports = {"change_point", "tasks.slots"}
    judged = {check_id for check_id in shown if registry.checks().get(check_id) not in registry.checks_of("live")}
    assert judged == answered - reports


def specs(site):
    graph = site.defs().resolve_asset_graph()
    return [
        type("Spec", (), {"name": key.name, "key": key, "metadata": graph.get_check_spec(key).metadata})()
        for key in graph.asset_check_keys
        if "check_id" in graph.get_check_spec(key).metadata
    ]


def test_deep_check_stores_and_shows_expectations(site, instance):
    """Great Expectations suites run in the deep check and their results are stored with it."""
    site.tasks(30, 30, NOW - timedelta(hours=2))
    result = run(site, instance, DEEP)
    assert result.success
    found = [e for e in result.get_asset_check_evaluations() if e.check_name == "expectations"]
    assert {e.asset_key for e in found} >= {AssetKey(["quality", "tasks"]), AssetKey(["quality", "outputs"])}
    assert all(e.passed for e in found)
    (newest, *_), _ = stored.page(site.state, run_type="deep")
    outcome = {o.check_id: o for o in stored.load(site.state, newest.run_id).outcomes}["expectations.task"]
    assert outcome.expectation["rows"] == 30
    assert json.dumps(outcome.expectation)


def test_repeating_a_scheduled_run_replaces_its_result(site, instance):
    """S-703."""
    site.tasks(40, 33, NOW - timedelta(minutes=10))
    first = metadata(evaluations(run(site, instance, QUICK, tags=SCHEDULED))["outputs_complete"])
    site.clock.instant += timedelta(minutes=1)
    second = metadata(evaluations(run(site, instance, QUICK, tags=SCHEDULED))["outputs_complete"])
    assert first["check_run"] == second["check_run"]
    assert stored.page(site.state)[1] == 1


def test_a_check_run_that_was_made_again_belongs_to_the_run_that_made_it_last(site, instance):
    """S-703: its page leads to the run of Dagster whose result is stored."""
    site.tasks(40, 33, NOW - timedelta(minutes=10))
    results = [run(site, instance, QUICK, tags=SCHEDULED) for _ in range(2)]
    ((kept,), _) = stored.page(site.state)
    assert kept.dagster_run_id == results[1].run_id != results[0].run_id


def test_checks_whose_inputs_are_not_mapped_do_not_exist(tmp_path, instance):
    """Not applicable is shown as no mark at all; a green one would claim what nobody looked at."""
    site = OutputsSite.make(tmp_path / "site")
    names = {spec.name for spec in specs(site)}
    assert "outputs_complete" in names
    assert "jobs_succeed" not in names
    site.config.write_text(site.config.read_text() + "checks: {disabled: [missing_outputs]}\n")
    assert "outputs_complete" not in {spec.name for spec in specs(site)}


def test_a_single_check_is_evaluated_over_the_last_day_and_stores_no_run(site, instance):
    """As the button on an asset's page does it."""
    site.tasks(40, 33, NOW - timedelta(hours=20))
    assert run(site, instance, QUICK).success
    _, before = stored.page(site.state)
    key = next(spec.key for spec in specs(site) if spec.name == "outputs_complete")
    everything = site.defs().resolve_implicit_global_asset_job_def()
    alone = everything.get_subset(asset_selection=set(), asset_check_selection={key})
    result = alone.execute_in_process(instance=instance)
    assert metadata(evaluations(result)["outputs_complete"])["missing_count"] == 7
    assert stored.page(site.state)[1] == before


def test_checks_of_a_partition_look_at_its_window(site, instance):
    """The statistics of an hour are judged with the hour; the result belongs to no check run."""
    site.tasks(40, 33, NOW - timedelta(hours=20))
    site.tasks(10, 9, NOW - timedelta(hours=3), prefix="later")
    assert site.job("minute_tick_job").execute_in_process(instance=instance).success
    result = site.job("hourly_stats_job").execute_in_process(instance=instance, partition_key="2025-03-10-08:00")
    assert result.success
    judged = evaluations(result)["completeness_expectations"]
    shown = metadata(judged)
    assert (shown["window_from"], shown["window_to"]) == ("2025-03-10T08:00:00Z", "2025-03-10T09:00:00Z")
    assert not judged.passed
    assert "90.0" in shown["expectations_that_do_not_hold"]
    assert stored.page(site.state)[1] == 0


def test_a_filled_partition_says_whether_its_outputs_are_complete(site, instance):
    """The catalogue's check beside the statistics it judges: window, counts, rate, worst endpoint, our page."""
    site.tasks(40, 33, NOW - timedelta(hours=20))
    site.tasks(10, 7, NOW - timedelta(hours=3), prefix="later")
    assert site.job("minute_tick_job").execute_in_process(instance=instance).success
    everything = site.defs().resolve_implicit_global_asset_job_def()
    hour = everything.get_subset(asset_selection={AssetKey(["mart", "output_hourly_stats"])})
    result = hour.execute_in_process(instance=instance, partition_key="2025-03-10-08:00")
    judged = evaluations(result)["outputs_complete"]
    assert (judged.passed, judged.severity) == (False, AssetCheckSeverity.ERROR)
    shown = metadata(judged)
    assert (shown["window_from"], shown["window_to"]) == ("2025-03-10T08:00:00Z", "2025-03-10T09:00:00Z")
    assert (shown["success_tasks"], shown["missing_count"], shown["completion_rate"]) == (10, 3, 70.0)
    assert shown["worst_endpoint"] == "w (3 of 10 missing)"
    assert shown["page"] == "http://127.0.0.1:8787/consistency?source=shop"
    day = everything.get_subset(asset_selection={AssetKey(["mart", "output_daily_stats"])})
    found = evaluations(day.execute_in_process(instance=instance, partition_key="2025-03-09"))["outputs_complete"]
    assert (metadata(found)["window_from"], metadata(found)["success_tasks"]) == ("2025-03-09T00:00:00Z", 40)
    assert stored.page(site.state)[1] == 0


OWN = """
def few(ctx):
    (n,) = ctx.con.execute("SELECT count(*) FROM raw.task").fetchone()
    return [{"severity": "high", "message": f"only {n} tasks"}] if n < 5 else []
"""


def test_custom_checks_are_asset_checks_of_their_run_and_alone(tmp_path, instance, monkeypatch):
    """C-601."""
    (tmp_path / "own_dagster_checks.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    site = OutputsSite.make(tmp_path / "site", "checks: {custom: ['own_dagster_checks:few']}\n")
    site.tasks(4, 4, NOW - timedelta(minutes=10))
    judged = evaluations(run(site, instance, FULL))["custom_few"]
    assert judged.asset_key == AssetKey(["quality", "custom"])
    assert (judged.passed, judged.severity, judged.description) == (False, AssetCheckSeverity.ERROR, "only 4 tasks")
    assert metadata(judged)["check_run"]
    assert not alone(site, instance, "quality/custom", "custom_few").passed


def test_a_minute_tick_evaluates_no_check_of_the_catalogue(site, instance):
    """A tick is a minute's work; and a result stays visible although the tables are materialized every minute."""
    job = site.job("minute_tick_job")
    assert {node.name for node in job.nodes}.isdisjoint({"check_catalogue"})
    graph = site.defs().resolve_asset_graph()
    ticked = {key for key in job.asset_layer.selected_asset_keys if key.path[0] == "raw"}
    named = {spec.key.asset_key for spec in specs(site)}
    assert named.isdisjoint(ticked)
    assert all(graph.get(key).is_external for key in named if key.path[0] == "quality")


def alone(site, instance, asset: str, name: str):
    key = AssetCheckKey(AssetKey(asset.split("/")), name)
    everything = site.defs().resolve_implicit_global_asset_job_def()
    subset = everything.get_subset(asset_selection=set(), asset_check_selection={key})
    return evaluations(subset.execute_in_process(instance=instance)).get(name)


def test_matches_source_says_what_the_newest_comparison_found(site, instance):
    """E-609."""
    site.tasks(10, 10, NOW - timedelta(hours=3))
    assert site.job("minute_tick_job").execute_in_process(instance=instance).success
    assert alone(site, instance, "audit/reconciliation", "matches_source").passed
    with site.pipe.warehouse.writer("test") as con:
        con.execute("UPDATE meta.reconciliation SET equal = false WHERE src_table = 'tasks'")
    found = alone(site, instance, "audit/reconciliation", "matches_source")
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert "tasks" in metadata(found)["differs"]


COVERAGE = [
    (90, 100, True, AssetCheckSeverity.WARN), (89, 100, False, AssetCheckSeverity.WARN),
    (50, 100, False, AssetCheckSeverity.WARN), (49, 100, False, AssetCheckSeverity.ERROR), (0, 9, None, None),
]  # fmt: skip


def test_snapshot_coverage_has_the_limits_of_the_rule(site, instance):
    """C-503; fewer than ten expected snapshots say nothing."""
    site.tasks(10, 10, NOW - timedelta(hours=3))
    assert site.job("minute_tick_job").execute_in_process(instance=instance).success
    for received, expected, passed, severity in COVERAGE:
        with site.pipe.warehouse.writer("test") as con:
            con.execute("DELETE FROM mart.endpoint_hourly_stats WHERE stat_hour <> '2025-03-10 08:00:00'")
            con.execute(
                "UPDATE mart.endpoint_hourly_stats SET snapshots_received = ?, snapshots_expected = ?",
                [received, expected],
            )
        found = alone(site, instance, "mart/endpoint_hourly_stats", "snapshots_cover_every_minute")
        assert (found and found.passed, found and found.severity) == (passed, severity), (received, expected)
