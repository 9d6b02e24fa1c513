"""Runs and due times of the product's own jobs: what is written when they end well, badly, late or never (S-702)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_schedule_context, build_sensor_context
from dagster._core.test_utils import create_run_for_test, instance_for_test
from sqlalchemy import select

from monitoring_pipelines.orchestration.ledger import sync
from monitoring_pipelines.self_jobs import product_jobs
from monitoring_pipelines.state import checks as stored_checks
from monitoring_pipelines.state import self_jobs
from monitoring_pipelines.state.tables import check_run, component_heartbeat, self_job_run
from monitoring_pipelines_tests.dagster.outputs_site import NOW, OutputsSite

CHECK_JOBS = ("quick_check_job", "full_check_job", "deep_check_job")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as stored:
        yield stored


@pytest.fixture
def site(tmp_path: Path) -> OutputsSite:
    return OutputsSite.make(tmp_path / "site")


def sensor(site: OutputsSite, instance: DagsterInstance, cursor: str | None = None):
    repository = site.defs().get_repository_def()
    with build_sensor_context(
        instance=instance, repository_def=repository, resources=repository.get_top_level_resources(), cursor=cursor
    ) as context:
        return repository.get_sensor_def("run_failure_sensor").evaluate_tick(context)


def schedule(site: OutputsSite, instance: DagsterInstance, name: str, due: datetime):
    repository = site.defs().get_repository_def()
    with build_schedule_context(
        instance=instance, repository_def=repository, scheduled_execution_time=due,
        resources=repository.get_top_level_resources(),
    ) as context:  # fmt: skip
        return repository.get_schedule_def(name).evaluate_tick(context)


def rows(site: OutputsSite, job: str | None = None) -> list:
    wanted = select(self_job_run).order_by(self_job_run.c.scheduled_at, self_job_run.c.run_key)
    with site.state.read() as con:
        return [row for row in con.execute(wanted) if job in (None, row.job_id)]


def check_rows(site: OutputsSite, status: str) -> list[tuple]:
    wanted = select(check_run.c.type, check_run.c.scheduled_at, check_run.c.count).where(check_run.c.status == status)
    with site.state.read() as con:
        return sorted(tuple(row) for row in con.execute(wanted))


def beats(site: OutputsSite) -> dict[str, float]:
    with site.state.read() as con:
        return {row.component: row.period_s for row in con.execute(select(component_heartbeat))}


def test_successful_run_is_written_with_its_times_and_beats(site, instance):
    result = site.job("quick_check_job").execute_in_process(
        instance=instance, tags={"due_at": "2025-03-10T12:00:00Z", "dagster/schedule_name": "s"}
    )
    sensor(site, instance)
    (row,) = rows(site)
    assert (row.run_key, row.job_id, row.outcome, row.trigger) == (
        result.run_id,
        "quick_check_job",
        "success",
        "schedule",
    )
    assert row.scheduled_at == NOW
    assert row.started_at <= row.ended_at
    assert row.duration_ms == pytest.approx((row.ended_at - row.started_at) / timedelta(milliseconds=1))
    assert beats(site) == {"quick": 900.0}


def test_failed_run_keeps_the_reason_and_the_component_lives(site, instance):
    (site.root / "shop.db").unlink()
    (site.root / "shop.dsn").unlink()
    site.job("minute_tick_job").execute_in_process(instance=instance, raise_on_error=False)
    tick = sensor(site, instance)
    (row,) = rows(site)
    assert (row.outcome, row.trigger) == ("failure", "manual")
    assert "shop" in row.error_message
    assert "1 of them failed" in tick.skip_message
    assert set(beats(site)) == {"extract"}, "nothing was aggregated"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (DagsterRunStatus.CANCELED, "failure"), (DagsterRunStatus.FAILURE, "failure"),
        (DagsterRunStatus.STARTED, "running"), (DagsterRunStatus.NOT_STARTED, "running"),
    ],
)  # fmt: skip
def test_every_end_of_a_run_is_written(site, instance, status, outcome):
    create_run_for_test(instance, job_name="full_check_job", status=status)
    sensor(site, instance)
    assert [row.outcome for row in rows(site)] == [outcome]


def test_run_that_goes_on_is_completed_later_and_evaluating_again_changes_nothing(site, instance):
    run = create_run_for_test(instance, job_name="full_check_job", status=DagsterRunStatus.STARTED)
    first = sensor(site, instance)
    instance.report_run_canceled(run)
    second = sensor(site, instance, first.cursor)
    (row,) = rows(site)
    assert (row.outcome, row.error_message) == ("failure", "the run was canceled")
    sensor(site, instance, second.cursor)
    assert [tuple(r) for r in rows(site)] == [tuple(row)]


def test_run_that_dagster_forgot_does_not_run_for_ever(site, instance):
    run = create_run_for_test(instance, job_name="full_check_job", status=DagsterRunStatus.STARTED)
    cursor = sensor(site, instance).cursor
    instance.delete_run(run.run_id)
    sensor(site, instance, cursor)
    assert [(row.outcome, row.error_message) for row in rows(site)] == [("failure", "the run was deleted")]


def test_a_storm_of_failures_is_seen_in_one_evaluation(site, instance):
    """Dagster's run-status sensors handle five runs an evaluation."""
    for _ in range(60):
        create_run_for_test(instance, job_name="hourly_stats_job", status=DagsterRunStatus.FAILURE)
    jobs = product_jobs(site.settings)
    done = sync(instance, site.state, jobs, NOW, None)
    assert len(done.failed) == 60
    assert len(rows(site)) == 60


def test_runs_that_are_no_product_job_are_left_out(site, instance):
    create_run_for_test(instance, job_name="__ASSET_JOB", status=DagsterRunStatus.FAILURE)
    sensor(site, instance)
    assert rows(site) == []


def test_due_check_is_requested_with_its_due_time(site, instance):
    """C-020."""
    (request,) = schedule(site, instance, "quick_check_job_quarter_hourly", NOW).run_requests
    assert request.tags["due_at"] == "2025-03-10T12:00:00Z"
    assert request.tags["trigger"] == "schedule"


def test_check_that_would_overlap_is_skipped_and_recorded_once(site, instance):
    """C-021: the types are independent."""
    create_run_for_test(instance, job_name="quick_check_job", status=DagsterRunStatus.STARTED)
    for _ in range(2):
        tick = schedule(site, instance, "quick_check_job_quarter_hourly", NOW)
        assert not tick.run_requests
        assert "still goes on" in tick.skip_message
    assert check_rows(site, "skipped") == [("quick", NOW, 1)]
    assert [(row.job_id, row.outcome) for row in rows(site)] == [("quick_check_job", "skipped")]
    assert schedule(site, instance, "full_check_job_hourly", NOW).run_requests


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("quick_check_job_quarter_hourly", "quick_check_job"), ("minute_tick_job_every_minute", "minute_tick_job"),
        ("hourly_stats_job_hourly", "hourly_stats_job"), ("maintenance_job_daily", "maintenance_job"),
    ],
)  # fmt: skip
def test_switched_off_job_is_not_started_and_stays_off(site, instance, name, job):
    """S-426."""
    with site.state.begin() as con:
        self_jobs.switch(con, [job], False, "ann", NOW)
    site.state.dispose()
    assert "switched off" in schedule(site, instance, name, NOW).skip_message
    with site.state.begin() as con:
        self_jobs.switch(con, [job], True, "ann", NOW)
    assert schedule(site, instance, name, NOW).run_requests


def test_downtime_records_every_due_time_once_and_asks_for_one_full_check(site, instance):
    """C-023."""
    cursor = sensor(site, instance).cursor
    site.clock.instant = NOW + timedelta(hours=3, minutes=7)
    tick = sensor(site, instance, cursor)
    (request,) = tick.run_requests
    assert (request.job_name, request.tags["trigger"]) == ("full_check_job", "catchup")
    missed = check_rows(site, "missed")
    quick = [NOW + timedelta(minutes=15 * n) for n in range(1, 13)]
    full = [NOW + timedelta(hours=n) for n in (1, 2, 3)]
    assert missed == [("full", at, 1) for at in full] + [("quick", at, 1) for at in quick]
    assert {row.outcome for row in rows(site)} == {"missed"}
    assert {row.job_id for row in rows(site)} >= {"quick_check_job", "full_check_job", "minute_tick_job"}
    again = sensor(site, instance, tick.cursor)
    assert not again.run_requests
    assert check_rows(site, "missed") == missed


def test_long_downtime_is_summed_up(site, instance):
    """C-023: one summary row per type for what is older than 24 h."""
    cursor = sensor(site, instance).cursor
    site.clock.instant = NOW + timedelta(days=3)
    (request,) = sensor(site, instance, cursor).run_requests
    assert request.run_key.startswith("catchup:")
    summaries = [row for row in check_rows(site, "missed") if row[2] > 1]
    assert [(kind, count) for kind, _, count in summaries] == [("deep", 2), ("full", 47), ("quick", 191)]


def test_first_start_has_missed_nothing(site, instance):
    assert not sensor(site, instance).run_requests
    assert check_rows(site, "missed") == []


def test_due_times_that_became_runs_are_not_missed(site, instance):
    cursor = sensor(site, instance).cursor
    due = NOW + timedelta(minutes=15)
    site.job("quick_check_job").execute_in_process(
        instance=instance, tags={"due_at": f"{due.isoformat()}Z", "dagster/schedule_name": "s"}
    )
    site.clock.instant = NOW + timedelta(minutes=22)
    tick = sensor(site, instance, cursor)
    assert not tick.run_requests
    assert check_rows(site, "missed") == []


def test_a_run_that_waits_to_start_is_not_missed(site, instance):
    cursor = sensor(site, instance).cursor
    due = NOW + timedelta(minutes=15)
    create_run_for_test(
        instance,
        job_name="quick_check_job",
        status=DagsterRunStatus.NOT_STARTED,
        tags={"due_at": f"{due.isoformat()}Z"},
    )
    site.clock.instant = NOW + timedelta(minutes=22)
    assert not sensor(site, instance, cursor).run_requests


def test_late_tick_of_a_check_is_left_to_the_catch_up(site, instance):
    """After downtime Dagster still starts the newest due time; a window that old is covered by the full check."""
    site.clock.instant = NOW + timedelta(minutes=6)
    tick = schedule(site, instance, "quick_check_job_quarter_hourly", NOW)
    assert not tick.run_requests
    assert "missed" in tick.skip_message


def test_catch_up_run_is_stored_as_such(site, instance):
    result = site.job("full_check_job").execute_in_process(
        instance=instance, tags={"trigger": "catchup", "dagster/sensor_name": "run_failure_sensor"}
    )
    sensor(site, instance)
    assert [(row.run_key, row.trigger) for row in rows(site)] == [(result.run_id, "catchup")]
    (run, *_), _ = stored_checks.page(site.state)
    assert run.trigger == "catchup"


def test_registry_names_every_scheduled_job(site):
    """S-702: what Dagster schedules, the registry knows, with the same cron line and zone."""
    jobs = product_jobs(site.settings)
    schedules = {s.job_name: s for s in site.defs().get_repository_def().schedule_defs}
    assert {job.id for job in jobs.values() if job.cron} == set(schedules)
    for job_id, found in schedules.items():
        assert (jobs[job_id].cron, jobs[job_id].zone) == (found.cron_schedule, found.execution_timezone)
