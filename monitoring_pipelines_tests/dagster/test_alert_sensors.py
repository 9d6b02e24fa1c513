"""The sensors of alerting in a real Dagster instance: they evaluate, send at the due instant, and start no run."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from dagster import DagsterInstance, build_sensor_context, instance_for_test

from monitoring_pipelines import pipeline
from monitoring_pipelines.alerts import drills
from monitoring_pipelines.clock import SystemClock
from monitoring_pipelines.orchestration import alert_sensors
from monitoring_pipelines.quality import runs
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines_tests.support.receiver import Receiver

ALERTS = """
alerts: {group_wait_s: 0.5, routes: {critical: {channels: [hook]}}}
channels: [{id: hook, type: webhook, webhook_file: hook.url}]
"""


@pytest.fixture
def stored_instance():
    with instance_for_test() as instance:
        yield instance


def evaluate(site, instance: DagsterInstance, name: str, cursor: str | None = None):
    repository = site.defs().get_repository_def()
    with build_sensor_context(
        instance=instance, repository_def=repository, resources=repository.get_top_level_resources(), cursor=cursor
    ) as context:
        return repository.get_sensor_def(name).evaluate_tick(context)


@pytest.fixture
def alert_site(site):
    site.clock = SystemClock()
    with Receiver(site.clock) as hook:
        (site.root / "hook.url").write_text(hook.url)
        site.config.write_text(site.config.read_text() + ALERTS)
        site.hook = hook
        yield site


def test_an_alert_goes_from_its_rule_to_the_receiver_through_the_sensors(alert_site, stored_instance):
    site = alert_site
    state = StateStore.of(site.settings)
    drills.start_drill(state, "target.down", site.clock.now(), 600, None, "test")
    tick = evaluate(site, stored_instance, "alert_sensor")
    assert not tick.run_requests
    assert "fired" in tick.skip_message
    row = next(a for a in stored.list_alerts(state)[0] if a["is_drill"])
    posts = [r for r in site.hook.requests if row["alert_id"] in {a["alert_id"] for a in r.json["alerts"]}]
    assert len(posts) == 1
    late = posts[0].at - row["fired_at"] - timedelta(seconds=0.5)
    assert timedelta(0) <= late, "not before the group wait is over"
    state.dispose()


def test_a_publication_and_a_check_run_are_evaluated_at_the_next_look_and_otherwise_only_every_tick(
    site, stored_instance, monkeypatch
):
    monkeypatch.setattr(alert_sensors, "STAY_S", 0.0)
    cursor = None

    def look() -> str:
        nonlocal cursor
        site.clock.advance(10)
        tick = evaluate(site, stored_instance, "alert_sensor", cursor)
        cursor = tick.cursor or cursor
        return "idle" if "nothing new" in tick.skip_message else "evaluated"

    assert [look() for _ in range(7)] == ["evaluated", "idle", "idle", "evaluated", "idle", "idle", "evaluated"]
    pipeline.tick(site.pipe)
    assert [look(), look()] == ["evaluated", "idle"]
    state = StateStore.of(site.settings)
    runs.execute(site.pipe, state, "quick", trigger="manual")
    assert [look(), look()] == ["evaluated", "idle"]
    state.dispose()


def test_a_tick_that_waits_evaluates_what_is_published_meanwhile(site, stored_instance):
    cursor = evaluate(site, stored_instance, "alert_sensor").cursor
    publishing = threading.Timer(1.0, pipeline.tick, [site.pipe])
    publishing.start()
    tick = evaluate(site, stored_instance, "alert_sensor", cursor)
    publishing.join()
    assert "observations" in tick.skip_message
    assert tick.cursor != cursor


def test_the_notification_sensor_is_quiet_when_nothing_is_due(alert_site, stored_instance):
    tick = evaluate(alert_site, stored_instance, "notification_sensor")
    assert not tick.run_requests
    assert tick.skip_message == "0 sent, 0 failed"


def test_both_sensors_run_by_default(site):
    repository = site.defs().get_repository_def()
    for name in ("alert_sensor", "notification_sensor"):
        assert repository.get_sensor_def(name).default_status.value == "RUNNING"
