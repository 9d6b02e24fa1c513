"""Schedules and sensors: what they request, when they skip, and what happens to runs whose process is gone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import create_run_for_test, instance_for_test

from monitoring_pipelines import pipeline
from monitoring_pipelines.orchestration import liveness
from monitoring_pipelines.orchestration.liveness import RunLife, fail_lost_runs
from monitoring_pipelines.orchestration.partitions import contiguous
from monitoring_pipelines.partition_keys import hour_key
from monitoring_pipelines_tests.dagster.conftest import NOW, hour


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """One with storage on disk: schedules look at it through a reference."""
    with instance_for_test() as stored:
        yield stored


def evaluate_schedule(site, instance, name: str):
    repository = site.defs().get_repository_def()
    with build_schedule_context(
        instance=instance,
        repository_def=repository,
        scheduled_execution_time=NOW,
        resources=repository.get_top_level_resources(),
    ) as context:
        return repository.get_schedule_def(name).evaluate_tick(context)


def evaluate_sensor(site, instance, name: str):
    repository = site.defs().get_repository_def()
    with build_sensor_context(
        instance=instance, repository_def=repository, resources=repository.get_top_level_resources()
    ) as context:
        return repository.get_sensor_def(name).evaluate_tick(context)


def ranges(tick) -> list[tuple[str, str, str]]:
    return [
        (r.job_name, r.tags[ASSET_PARTITION_RANGE_START_TAG], r.tags[ASSET_PARTITION_RANGE_END_TAG])
        for r in tick.run_requests
    ]


def test_minute_tick_is_requested_when_none_runs(site, instance):
    tick = evaluate_schedule(site, instance, "minute_tick_job_every_minute")
    assert len(tick.run_requests) == 1


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_minute_tick_skips_while_the_previous_one_is_unfinished(site, instance, status):
    run = create_run_for_test(instance, job_name="minute_tick_job", status=status)
    tick = evaluate_schedule(site, instance, "minute_tick_job_every_minute")
    assert not tick.run_requests
    assert run.run_id in tick.skip_message


def test_run_whose_process_is_gone_is_failed_and_the_tick_goes_on(site, instance, monkeypatch):
    """After a power cut runs stay STARTED for ever; nothing may wait for them."""
    monkeypatch.setattr(liveness, "GRACE", timedelta(0))
    data = site.settings.data_path
    dead = create_run_for_test(instance, job_name="minute_tick_job")
    alive = create_run_for_test(instance, job_name="hourly_stats_job")
    for run in (dead, alive):
        instance.report_dagster_event(
            DagsterEvent(DagsterEventType.PIPELINE_START.value, run.job_name), run_id=run.run_id
        )
    code = (
        "from pathlib import Path; import os; from monitoring_pipelines.orchestration.liveness import RunLife; "
        f"RunLife(Path({str(data)!r}), {dead.run_id!r}).hold(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": os.getcwd()})
    life = RunLife(data, alive.run_id)
    life.hold()
    assert fail_lost_runs(instance, data) == [dead.run_id]
    life.release()
    assert instance.get_run_by_id(dead.run_id).status == DagsterRunStatus.FAILURE
    assert instance.get_run_by_id(alive.run_id).status == DagsterRunStatus.STARTED
    tick = evaluate_schedule(site, instance, "minute_tick_job_every_minute")
    assert len(tick.run_requests) == 1


def test_hourly_and_daily_schedules_name_the_closed_partition(site, instance):
    (request,) = evaluate_schedule(site, instance, "hourly_stats_job_hourly").run_requests
    assert request.partition_key == hour_key(hour(1))
    (request,) = evaluate_schedule(site, instance, "daily_stats_job_daily").run_requests
    assert request.partition_key == "2025-03-09"


def test_sensor_is_silent_while_ticks_keep_up(site, instance):
    tick = evaluate_sensor(site, instance, "dirty_hours_sensor")
    assert not tick.run_requests
    assert "nothing is due" in tick.skip_message


def test_sensor_requests_exactly_the_hours_a_tick_leaves(site, instance):
    """After a long downtime: one request per gapless range, oldest first (M-802), with keys that dedupe."""
    site.clock.instant += timedelta(days=3)
    pipeline.tick(site.pipe)
    left = pipeline.backlog(site.pipe).hours
    first = evaluate_sensor(site, instance, "dirty_hours_sensor")
    expected = [("hourly_stats_job", hour_key(a), hour_key(b)) for a, b in contiguous(left, pipeline.HOUR, 168)]
    assert len(left) > pipeline.TICK_HOURS
    assert [r for r in ranges(first) if r[0] == "hourly_stats_job"] == expected[:5]
    again = evaluate_sensor(site, instance, "dirty_hours_sensor")
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in first.run_requests]


def test_sensor_waits_for_its_own_runs(site, instance):
    site.clock.instant += timedelta(days=3)
    pipeline.tick(site.pipe)
    create_run_for_test(instance, job_name="hourly_stats_job", status=DagsterRunStatus.STARTED, tags={"cause": "due"})
    tick = evaluate_sensor(site, instance, "dirty_hours_sensor")
    assert "hourly_stats_job" not in {r.job_name for r in tick.run_requests}


def test_requested_work_is_requested_again_later_when_it_is_still_due(site, instance):
    site.clock.instant += timedelta(days=3)
    pipeline.tick(site.pipe)
    first = evaluate_sensor(site, instance, "dirty_hours_sensor").run_requests[0]
    site.clock.instant += timedelta(minutes=20)
    second = evaluate_sensor(site, instance, "dirty_hours_sensor").run_requests[0]
    assert first.run_key != second.run_key
    assert first.tags == second.tags


def test_days_never_compared_are_requested_and_then_not_again(site, instance):
    """E-609: first load and proof are one asset; the first partition is the configured first day."""
    assert pipeline.unverified_days(site.pipe) == [], "the first load proved every day, those without rows too"
    site.write('DELETE FROM meta.reconciliation WHERE "day" IS NOT NULL')
    tick = evaluate_sensor(site, instance, "reconciliation_sensor")
    assert ranges(tick)[0][1] == "2025-03-01"
    for day in pipeline.unverified_days(site.pipe):
        pipeline.reconcile(site.pipe, day.date())
    assert pipeline.unverified_days(site.pipe) == []
    site.clock.instant += timedelta(hours=25)
    assert len(pipeline.unverified_days(site.pipe)) == 13, (
        "the preset's source keeps ten days; two more show what it removed, and there is today"
    )
    today = site.clock.instant.replace(hour=0, minute=0)
    site.write("UPDATE meta.source_state SET raw_from = ?", [today - timedelta(days=2)])
    assert pipeline.unverified_days(site.pipe) == [today - timedelta(days=n) for n in (2, 1, 0)], "E-901: no reload"


def test_sensors_are_quiet_before_anything_was_extracted(new_site, instance):
    for name in ("dirty_hours_sensor", "first_load_sensor"):
        tick = evaluate_sensor(new_site, instance, name)
        assert not tick.run_requests
        assert tick.skip_message
    assert not new_site.settings.warehouse_path.exists()


def test_source_added_beside_others_is_loaded_by_its_own_job(site, instance):
    """E-506: the others' ticks do not wait for its history."""
    text = site.config.read_text() + site.config.read_text().split("sources:\n")[1].replace("id: shop", "id: other")
    site.config.write_text(text)
    (request,) = evaluate_sensor(site, instance, "first_load_sensor").run_requests
    assert request.tags["source"] == "other"
    tick = site.job("minute_tick_job").execute_in_process(instance=instance)
    assert tick.success
    assert pipeline.loaded_sources(site.pipe) == {"shop"}
    load = site.job("first_load_job").execute_in_process(instance=instance, tags={"source": "other"})
    assert load.success
    assert pipeline.loaded_sources(site.pipe) == {"shop", "other"}


def test_contiguous_groups_without_gaps_and_bounded():
    hours = [hour(n) for n in (9, 8, 7, 3, 2)]
    assert contiguous(hours, pipeline.HOUR, 168) == [(hour(9), hour(7)), (hour(3), hour(2))]
    assert contiguous(hours, pipeline.HOUR, 2) == [(hour(9), hour(8)), (hour(7), hour(7)), (hour(3), hour(2))]
