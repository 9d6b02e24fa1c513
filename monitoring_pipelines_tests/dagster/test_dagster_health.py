"""Dagster seen from outside: every way in which it can be ill is told apart, and nothing ill is called well."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from monitoring_pipelines.collect.dagster_health import components, judge
from monitoring_pipelines_tests.dagster.live import free_port

NOW = datetime(2025, 3, 10, 12, 0)


def at(**ago: float) -> float:
    return (NOW - timedelta(**ago) - datetime(1970, 1, 1)).total_seconds()


def tick(status: str = "SUCCESS", error: str | None = None, **ago: float) -> dict[str, Any]:
    return {"status": status, "timestamp": at(**ago), "error": error and {"message": error}}


def said(
    daemon: dict[str, Any] | None = None, location: Any = None, schedule: list | None = None,
    sensor: list | None = None, status: str = "RUNNING",
) -> dict[str, Any]:  # fmt: skip
    healthy = {"daemonType": "SCHEDULER", "required": True, "healthy": True, "lastHeartbeatTime": at(seconds=5),
               "lastHeartbeatErrors": []}  # fmt: skip
    repository = {
        "schedules": [{
            "name": "hourly", "cronSchedule": "0 * * * *",
            "scheduleState": {"status": status, "ticks": [tick(minutes=10)] if schedule is None else schedule},
            "futureTicks": {"results": [{"timestamp": at(minutes=-50)}, {"timestamp": at(minutes=-110)}]},
        }],
        "sensors": [{
            "name": "alert_sensor", "minIntervalSeconds": 30,
            "sensorState": {"status": status, "ticks": [tick(seconds=20)] if sensor is None else sensor},
        }],
    }  # fmt: skip
    loaded = {"__typename": "RepositoryLocation", "repositories": [repository]}
    entry = {"name": "mp", "loadStatus": "LOADED", "locationOrLoadError": location or loaded}
    return {
        "instance": {"daemonHealth": {"allDaemonStatuses": [healthy | (daemon or {})]}},
        "workspaceOrError": {"__typename": "Workspace", "locationEntries": [entry]},
    }


def bad(answer: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    return {(one.kind, one.name): (one.state, one.reason) for one in judge(answer, NOW) if one.state != "ok"}


def test_all_is_well():
    assert bad(said()) == {}
    assert {one.kind for one in judge(said(), NOW)} == {"daemon", "code_location", "schedule", "sensor"}


def test_silent_daemon_is_down_and_says_since_when():
    found = bad(said({"healthy": False, "lastHeartbeatTime": at(minutes=7)}))
    assert found == {("daemon", "SCHEDULER"): ("down", "last heard of at 2025-03-10T11:53:00Z")}


def test_daemon_that_was_never_there():
    found = bad(said({"healthy": False, "lastHeartbeatTime": None}))
    assert found[("daemon", "SCHEDULER")][0] == "down"


def test_daemon_with_errors_is_failing_with_its_message():
    found = bad(said({"healthy": False, "lastHeartbeatErrors": [{"message": "disk full\n"}]}))
    assert found == {("daemon", "SCHEDULER"): ("failing", "disk full")}


def test_daemon_nobody_needs_is_not_looked_at():
    assert bad(said({"healthy": False, "required": False})) == {}


def test_code_location_that_does_not_load_is_down_with_its_error():
    found = bad(said(location={"__typename": "PythonError", "message": "ConfigError: monitoring.yaml:3"}))
    assert found == {("code_location", "mp"): ("down", "ConfigError: monitoring.yaml:3")}


def test_empty_workspace_is_no_health():
    answer = said() | {"workspaceOrError": {"__typename": "Workspace", "locationEntries": []}}
    assert bad(answer)[("code_location", "workspace")][0] == "down"


def test_stopped_schedules_and_sensors_are_named():
    assert {state for state, _ in bad(said(status="STOPPED")).values()} == {"stopped"}


def test_failing_evaluation_is_named_with_its_first_line():
    found = bad(said(sensor=[tick("FAILURE", "KeyError: x\n  File …", seconds=20)]))
    assert found == {("sensor", "alert_sensor"): ("failing", "KeyError: x")}


@pytest.mark.parametrize(("minutes", "state"), [(63, "ok"), (64, "late")])
def test_schedule_is_late_after_its_period_and_three_minutes(minutes, state):
    found = bad(said(schedule=[tick(minutes=minutes)])).get(("schedule", "hourly"), ("ok", ""))
    assert found[0] == state


@pytest.mark.parametrize(("seconds", "state"), [(300, "ok"), (301, "late")])
def test_sensor_is_late_after_ten_intervals(seconds, state):
    found = bad(said(sensor=[tick(seconds=seconds)])).get(("sensor", "alert_sensor"), ("ok", ""))
    assert found[0] == state


def test_what_was_never_evaluated_is_unknown_not_well():
    assert bad(said(schedule=[]))[("schedule", "hourly")][0] == "unknown"


def test_web_server_that_does_not_answer_is_the_only_thing_known():
    (only,) = components(f"http://127.0.0.1:{free_port()}", NOW, timeout_s=2)
    assert (only.kind, only.state) == ("webserver", "down")
    assert "does not answer" in only.reason
