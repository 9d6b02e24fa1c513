"""The health of targets, inputs and wholes (C-480 to C-485)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from monitoring_pipelines.collect.health import (
    TargetHealth,
    aggregate,
    freshness_limit,
    http_answer,
    of_heartbeat,
    of_inputs,
    worst,
)  # fmt: skip
from monitoring_pipelines.config.schema_alerts import HealthSettings

START = datetime(2026, 2, 1)
SETTINGS = HealthSettings()
INTERVAL_S = 30


def after(outcomes: str, health: TargetHealth | None = None) -> TargetHealth:
    """The state after probes: ``x`` failed, ``.`` good, one per interval."""
    health = health or TargetHealth()
    for number, outcome in enumerate(outcomes):
        health = health.after(START + timedelta(seconds=INTERVAL_S * number), outcome == ".", SETTINGS)
    return health


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", "unknown"), (".", "unknown"), ("..", "healthy"), ("..x", "degraded"), ("..xx", "degraded"),
        ("..xxx", "unhealthy"), ("..xx.xx", "degraded"), ("..xx.xxx", "unhealthy"), ("..xxx.", "unhealthy"),
        ("..xxx..", "healthy"), ("..xxx.x", "unhealthy"), ("..xxx.x.", "unhealthy"), ("..x.", "degraded"),
        ("..x..", "healthy"), ("x", "degraded"), ("xxx", "unhealthy"), ("..x.x.x.x.x", "degraded"),
    ],
)  # fmt: skip
def test_states_follow_streaks(outcomes, state):
    assert after(outcomes).state == state


def test_a_target_is_unknown_two_intervals_and_a_second_after_its_last_sample():
    health = after("..")
    last = health.at
    assert health.at_instant(last + timedelta(seconds=60.999), INTERVAL_S).state == "healthy"
    gone = health.at_instant(last + timedelta(seconds=61), INTERVAL_S)
    assert (gone.state, gone.since) == ("unknown", last + timedelta(seconds=61))
    assert gone.after(last + timedelta(seconds=90), True, SETTINGS).state == "unknown"
    assert gone.after(last + timedelta(seconds=90), False, SETTINGS).state == "degraded"


def test_a_stored_state_comes_back_as_it_was():
    import json

    from monitoring_pipelines.state.types import canonical_json

    health = after("..x")
    assert TargetHealth.from_json(json.loads(canonical_json(health.as_json()))) == health


@pytest.mark.parametrize("state", ["healthy", "degraded"])
def test_healthy_and_degraded_answer_200(state):
    assert http_answer(state, 1, SETTINGS).status_code == 200
    assert http_answer(state, 1e6, SETTINGS).grace is None


@pytest.mark.parametrize("state", ["unhealthy", "unknown"])
def test_a_bad_state_is_hidden_during_the_grace_and_says_so(state):
    hidden = http_answer(state, 119.999, SETTINGS)
    assert hidden.status_code == 200
    assert hidden.grace == {"applied": True, "uptime": 119.999, "grace_seconds": 120}
    assert http_answer(state, 120, SETTINGS).status_code == 503
    assert http_answer(state, 120, SETTINGS).grace is None


def test_freshness_limits_by_series():
    limits = {
        name: freshness_limit(name, SETTINGS)
        for name in ("trade", "orderbook", "liquidation", "funding_rate", "lsr_any", "other")
    }
    assert limits == {
        "trade": 60,
        "orderbook": 60,
        "liquidation": 3600,
        "funding_rate": 28800,
        "lsr_any": 28800,
        "other": 60,
    }
    assert freshness_limit("trade", HealthSettings(freshness={"trade": 5})) == 5


@pytest.mark.parametrize(
    ("ages", "state"),
    [
        ([("trade", 59.9), ("funding_rate", 20000)], "healthy"), ([("trade", 60), ("funding_rate", 20000)], "degraded"),
        ([("trade", 60), ("funding_rate", 28800)], "unhealthy"), ([], "unhealthy"), ([("trade", None)], "unhealthy"),
        ([("trade", None), ("orderbook", 1)], "degraded"),
    ],
)  # fmt: skip
def test_health_of_inputs_follows_their_freshness(ages, state):
    assert of_inputs(ages, SETTINGS) == state


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([], "unknown"), (["healthy"], "healthy"), (["healthy", "unknown"], "unknown"),
        (["degraded", "unknown"], "degraded"), (["degraded", "unhealthy", "healthy"], "unhealthy"),
    ],
)  # fmt: skip
def test_a_whole_is_as_healthy_as_its_parts(states, whole):
    assert aggregate(states) == whole


def test_a_heartbeat_older_than_thirty_seconds_is_unknown():
    assert of_heartbeat(START, START + timedelta(seconds=30), SETTINGS) == "healthy"
    assert of_heartbeat(START, START + timedelta(seconds=30.001), SETTINGS) == "unknown"
    assert of_heartbeat(START, START + timedelta(seconds=80), SETTINGS, period_s=60) == "healthy"


def test_the_worst_component_decides():
    assert worst([]) == "HEALTHY"
    assert worst(["HEALTHY", "ERROR", "WARNING"]) == "ERROR"
    assert worst(["CRITICAL", "ERROR"]) == "CRITICAL"
