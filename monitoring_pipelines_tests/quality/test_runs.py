"""Check runs against a real source: order, windows, overlap, failures, what is stored and written (C-020 to C-028)."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.quality import runs
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines_tests.quality.bench import NOW, Platform
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import VARIABLE

END = NOW - timedelta(minutes=30)


def fill(world, total=4, complete=3):
    for number in range(total):
        world.task(f"t{number}", END + timedelta(seconds=number), 1 if number < complete else 0)


def test_a_run_extracts_first_and_stores_run_results_and_findings(platform):
    world = platform()
    fill(world)
    run = world.run("quick")
    assert run.status == "issues_detected"
    assert stored.load(world.state, run.run_id) == run
    found = run.findings[0]
    assert (found.alert_type, found.severity, found.task_ids) == ("missing_task_outputs", "high", ("t3",))
    assert (run.window_from, run.window_to, run.window_hours) == (NOW - timedelta(hours=1), NOW, 1)


def test_a_clean_run_is_stored_too(platform):
    world = platform()
    fill(world, 4, 4)
    run = world.run("quick")
    assert (run.status, run.findings) == ("healthy", ())
    assert stored.page(world.state)[1] == 1


def test_the_window_of_a_scheduled_run_ends_at_its_due_time(platform):
    world = platform()
    run = world.run("quick", due_at=NOW - timedelta(minutes=1), trigger="schedule")
    assert (run.window_from, run.window_to) == (NOW - timedelta(minutes=61), NOW - timedelta(minutes=1))


def test_a_candidate_is_looked_up_at_the_source_before_it_is_reported(platform):
    world = platform()
    fill(world, 4, 4)
    world.run("quick")
    with world.pipe.warehouse.writer("lose a row") as con:
        con.execute("DELETE FROM raw.task_output WHERE task_key = 't2'")
    run = world.run("quick")
    assert run.findings == ()
    assert run.outcomes[1].metrics["tasks_with_outputs"] == 4


def test_a_task_that_left_the_source_is_not_reported(platform):
    world = platform()
    fill(world)
    world.run("quick")
    world.db.execute("delete from tasks where task_id = 't3'")
    assert world.run("quick").findings == ()


def test_a_result_line_is_appended_per_executed_run_under_the_local_date(platform):
    world = platform()
    fill(world)
    run = world.run("quick")
    world.run("quick")
    path = world.settings.logs_path / "monitoring_results" / "monitoring_20260203.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(lines) == 2
    assert lines[0]["run_id"] == run.run_id
    assert lines[0]["timestamp"] == "2026-02-03T04:00:00Z"
    assert lines[0]["timestamp_local"] == "2026-02-03 12:00:00"
    assert (lines[0]["status"], lines[0]["total_alerts"], lines[0]["alerts_by_severity"]) == (
        "issues_detected",
        1,
        {"high": 1},
    )
    assert lines[0]["metrics"]["shop"]["missing_outputs"]["missing_count"] == 1
    assert lines[0]["alerts"][0]["created_at_local"] == "2026-02-03 12:00:00"


def test_the_file_belongs_to_the_local_day_of_the_due_time(platform):
    world = platform()
    world.run("quick", due_at=NOW.replace(hour=16, minute=0) - timedelta(days=1), trigger="schedule")
    assert (world.settings.logs_path / "monitoring_results" / "monitoring_20260203.jsonl").exists()


def test_a_scheduled_run_that_would_overlap_is_skipped_and_a_manual_one_refused(platform):
    world = platform()
    with runs.lock_of(world.pipe, "quick").held("test", 1):
        run = world.run("quick", due_at=NOW, trigger="schedule")
        with pytest.raises(runs.CheckRunning):
            world.run("quick")
        assert runs.is_running(world.pipe, "quick")
    assert run.status == "skipped"
    assert [(r.status, r.run_id) for r in stored.page(world.state)[0]] == [("skipped", run.run_id)]
    assert not list(world.settings.logs_path.rglob("*.jsonl"))


@pytest.mark.parametrize("hours", [0, -1, 721, 1.5, "3", True])
def test_hours_back_is_a_whole_number_up_to_a_month(platform, hours):
    with pytest.raises(UsageError, match="hours_back"):
        platform().run("full", hours_back=hours)


def test_hours_back_is_not_for_deep_checks(platform):
    with pytest.raises(UsageError, match="deep"):
        platform().run("deep", hours_back=3)


def test_a_run_made_again_by_the_scheduler_replaces_the_first(platform):
    world = platform()
    fill(world)
    first = world.run("quick", due_at=NOW, trigger="schedule")
    again = world.run("quick", due_at=NOW, trigger="schedule")
    assert again.run_id == first.run_id
    assert stored.page(world.state)[1] == 1
    assert stored.load(world.state, first.run_id) == again


def test_an_unreachable_source_is_an_error_and_keeps_the_last_good_figures(platform):
    world = platform()
    fill(world)
    good = world.run("quick")
    world.clock.advance(60)
    world.db.execute("rename table task_outputs to gone")
    run = world.run("quick")
    assert run.status == "error"
    assert [found.alert_type for found in run.findings] == ["monitoring_error"]
    outcome = next(o for o in run.outcomes if o.check_id == "missing_outputs")
    assert (outcome.status, outcome.health, outcome.stale) == ("error", "unknown", True)
    assert outcome.metrics == good.outcomes[1].metrics
    assert outcome.as_of == good.outcomes[1].as_of
    assert list((world.settings.logs_path / "errors").glob("monitoring_error_*.json"))


def test_what_was_believed_at_an_instant_can_be_asked_later(platform):
    world = platform()
    fill(world)
    world.run("quick")
    world.clock.advance(600)
    world.output("t3", NOW)
    world.run("quick")
    then = stored.believed(world.state, "missing_outputs", "shop", at=NOW + timedelta(seconds=599))
    now = stored.believed(world.state, "missing_outputs", "shop")
    assert (then.outcome.metrics["missing_count"], now.outcome.metrics["missing_count"]) == (1, 0)
    assert stored.believed(world.state, "missing_outputs", "shop", at=NOW - timedelta(seconds=1)) is None


def test_a_run_whose_process_died_becomes_an_error(platform):
    world = platform()
    run = world.run("quick")
    with world.state.begin() as con:
        con.exec_driver_sql("update check_run set status = 'running', ended_at = null")
    world.run("quick")
    assert stored.load(world.state, run.run_id).status == "error"


def test_a_full_run_reconciles_its_window_first_and_finds_what_the_tail_missed(platform):
    world = platform()
    fill(world, 4, 4)
    world.run("quick")
    world.db.execute("delete from task_outputs where task_id = 't1'")
    assert world.run("quick").findings == ()
    run = world.run("full")
    found = next(f for f in run.findings if f.check_id == "missing_outputs")
    assert found.task_ids == ("t1",)
    ran = [outcome.check_id for outcome in run.outcomes]
    assert ran[:5] == ["source", "missing_outputs", "creation_delay", "trend", "ratio"]
    assert {"output_flow", "orphans", "tasks.invariants", "key_length"} <= set(ran)
    assert not [outcome for outcome in run.outcomes if outcome.status == "error"]


def test_orphans_are_looked_up_at_the_source(platform):
    world = platform()
    world.output("nobody", END)
    world.output("late", END)
    world.run("quick")
    world.task("late", END)
    with world.pipe.warehouse.writer("forget") as con:
        con.execute("DELETE FROM raw.task")
    run = world.run("full")
    assert next(f for f in run.findings if f.check_id == "orphans").task_ids == ("nobody",)


def test_keys_longer_than_the_output_tables_column(platform):
    world = platform()
    world.task("k" * 37, END)
    world.task("k" * 36, END)
    run = world.run("full")
    found = next(f for f in run.findings if f.check_id == "key_length")
    assert found.details == {"count": 1, "column_length": 36}


def test_a_deep_run_covers_three_days_with_trend_and_change_point(platform):
    world = platform()
    fill(world)
    run = world.run("deep")
    assert run.window_hours == 72
    assert [o.check_id for o in run.outcomes][:5] == ["source", "missing_outputs", "trend", "ratio", "change_point"]
    assert not [outcome for outcome in run.outcomes if outcome.status == "error"]


def test_a_run_that_is_interrupted_says_so_and_not_the_name_of_an_exception(platform):
    """C-021: the job was cancelled, or Ctrl-C; the run ends as an error and the next one may start."""

    world = platform()

    def say(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.execute(world.pipe, world.state, "quick", say=say)
    (run,), _ = stored.page(world.state, size=1)
    assert (run.status, run.error) == ("error", "the run was interrupted")
    assert not runs.is_running(world.pipe, "quick")


def test_a_crash_in_one_check_is_an_error_of_that_check_alone(platform):
    world = platform()
    fill(world, 4, 4)
    world.run("quick")
    with world.pipe.warehouse.writer("break") as con:
        con.execute("DROP TABLE core.task_instant")
        con.execute("CREATE VIEW core.task_instant AS SELECT 1 AS nothing")
    outcomes = runs.evaluate(world.pipe, world.state, ["tasks.failure_rate", "tasks.backlog"])
    by_check = {o.check_id: o for o in outcomes if o.source_id == "shop"}
    assert by_check["tasks.failure_rate"].status == "error"
    assert [(f.alert_type, f.severity, f.labels) for f in by_check["tasks.failure_rate"].findings] == [
        ("monitoring_error", "high", {"check": "tasks.failure_rate"})
    ]
    assert by_check["tasks.backlog"].status == "passed"


def test_a_server_that_dies_between_extraction_and_look_up_is_an_error_and_reports_nothing_unconfirmed(
    own_mariadb, tmp_path, monkeypatch
):
    database = TestDatabase(own_mariadb).create()
    monkeypatch.setenv(VARIABLE, database.dsn)
    world = Platform(tmp_path, database)
    fill(world)
    good = world.run("quick")
    run = world.run("quick", say=lambda line: own_mariadb.kill() if line == "shop: missing_outputs" else None)
    assert run.status == "error"
    assert [found.alert_type for found in run.findings] == ["monitoring_error"]
    by_check = {outcome.check_id: outcome for outcome in run.outcomes}
    assert (by_check["missing_outputs"].status, by_check["missing_outputs"].stale) == ("error", True)
    assert by_check["missing_outputs"].metrics == {o.check_id: o for o in good.outcomes}["missing_outputs"].metrics
    assert by_check["source"].status == "error"


def test_checks_of_other_sources_go_on_when_one_cannot_be_read(platform, tmp_path, monkeypatch):
    world = platform()
    fill(world, 4, 4)
    text = world.settings.file.read_text("utf-8")
    monkeypatch.setenv("MP_TEST_OTHER_DSN", "mysql://nobody@127.0.0.1:1/none")
    world.settings.file.write_text(
        text + "  - id: other\n    preset: tktool\n    read_dsn_env: MP_TEST_OTHER_DSN\n", "utf-8"
    )
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.pipeline import Pipeline

    pipe = Pipeline.of(load_settings(world.settings.file), world.clock)
    run = runs.execute(pipe, world.state, "quick")
    assert run.status == "error"
    assert set(run.failed_sources) == {"other"}
    by_source = {(o.source_id, o.check_id): o for o in run.outcomes}
    assert by_source["shop", "missing_outputs"].status == "passed"
    assert by_source["other", "missing_outputs"].status == "error"
    assert [(f.source_id, f.alert_type, f.severity) for f in run.findings] == [("other", "monitoring_error", "high")]
