"""Recovery hooks (A-701 to A-704), the dead man's switch (A-601) and the push to an Alertmanager."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import pytest

from monitoring_pipelines.alerts import alertmanager, deadman, duty, recovery, watch
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.heartbeats import beat
from monitoring_pipelines_tests.alerts.conftest import T0
from monitoring_pipelines_tests.support.receiver import Receiver

LIVE = """
recovery:
  mode: {mode}
  targets:
    collector: {{enabled: {enabled}, kind: webhook, url_env: MP_TEST_HOOK}}
"""


def journal(world, action: str = "restart") -> list[tuple[float, str]]:
    rows = [row for row in world.rows(tables.recovery_request, "at", "request_id") if row["action"] == action]
    return [((row["at"] - T0).total_seconds(), row["result"]) for row in rows]


def play(world, until: float) -> None:
    """Ticks every 30 s with the hooks called as the engine does."""
    while world.now <= until:
        done = world.tick()
        recovery.execute(world.settings, world.state, done.executions)
        world.clock.advance(30)


@pytest.fixture
def hook(clock, monkeypatch):
    with Receiver(clock) as receiver:
        monkeypatch.setenv("MP_TEST_HOOK", receiver.url)
        yield receiver


def test_by_default_a_request_is_only_written_down(world, hook):
    """A-701."""
    world.says()
    play(world, 330)
    assert journal(world) == [(0, "would_restart"), (300, "would_restart")]
    assert hook.requests == []


@pytest.mark.parametrize(("mode", "enabled"), [("observe", "true"), ("execute", "false")])
def test_nothing_is_called_unless_the_mode_and_the_target_say_so(make_world, hook, mode, enabled):
    world = make_world(more=LIVE.format(mode=mode, enabled=enabled))
    world.says()
    play(world, 60)
    assert [result for _, result in journal(world)] == ["would_restart"]
    assert hook.requests == []


def test_cool_down_and_three_executions_a_day_then_one_critical_alert(make_world, hook):
    """A-703."""
    world = make_world(more=LIVE.format(mode="execute", enabled="true"))
    world.says()
    play(world, 1300)
    assert journal(world) == [
        (0, "executed"), (30, "cooldown"), (300, "executed"), (330, "cooldown"), (600, "executed"), (630, "cooldown"),
        (900, "exhausted"), (1200, "exhausted"),
    ]  # fmt: skip
    assert [(r.at - T0).total_seconds() for r in hook.requests] == [0, 300, 600]
    assert hook.requests[0].json == {
        "target": "collector", "action": "restart", "reason": "target.down is firing", "level": None,
    }  # fmt: skip
    alerts = [a for a in world.alerts() if a["type"] == recovery.EXHAUSTED]
    assert [(a["severity"], a["state"], a["labels"]) for a in alerts] == [
        ("critical", "firing", {"target": "collector"})
    ]


def test_a_hook_that_fails_counts_and_is_journaled(make_world, hook):
    hook.answer = lambda _: (500, b"", {})
    world = make_world(more=LIVE.format(mode="execute", enabled="true"))
    world.says()
    play(world, 0)
    (row,) = world.rows(tables.recovery_request)
    assert row["result"] == "failed"
    assert "answered 500" in row["detail"]["hook"]


def test_a_command_gets_its_fixed_arguments_and_the_request_in_its_environment(make_world, tmp_path):
    script = tmp_path / "hook.py"
    script.write_text(
        f"import os, sys, json; json.dump([sys.argv[1:], os.environ['MP_RECOVERY_TARGET']], open({str(tmp_path / 'out')!r}, 'w'))"
    )
    more = f"""
recovery:
  mode: execute
  targets:
    collector: {{enabled: true, kind: command, command: ['{sys.executable}', '{script}', '--restart']}}
"""
    world = make_world(more=more)
    world.says()
    play(world, 0)
    assert json.loads((tmp_path / "out").read_text()) == [["--restart"], "collector"]
    assert journal(world) == [(0, "executed")]


def resource(world, samples: list[dict[str, Any]], **more: Any) -> None:
    values = {"labels": {"process": "p"}, "details": {"samples": samples}, "condition": "false", "severity": "medium"}
    world.says("resource.memory", **(values | more))


MIB = 1 << 20


@pytest.mark.parametrize(
    ("samples", "asked"),
    [
        ([{"cpu_pct": v} for v in (95, 95, 10, 91, 10)], True),
        ([{"cpu_pct": v} for v in (95, 95, 95, 90, 10, 91, 10)], False),
        ([{"cpu_pct": v} for v in (None, 91, 92, 93)], True),
        ([{"rss_bytes": (800 + n) * MIB} for n in range(10)], True),
        ([{"rss_bytes": (700 + n) * MIB} for n in range(10)], False),
        ([{"rss_bytes": (700 + n) * MIB, "mem_pct": 86} for n in range(10)], True),
        ([{"rss_bytes": (900 + n) * MIB} for n in range(9)], False),
        ([{"rss_bytes": v * MIB} for v in (900, 901, 902, 903, 902, 904, 905, 906, 907, 908)], False),
    ],
)
def test_processes_that_are_sick_are_reported(world, samples, asked):
    """A-702."""
    resource(world, samples)
    play(world, 0)
    assert bool(journal(world)) is asked


def test_an_unhealthy_target_is_reported_before_its_alert_fires(world):
    world.says("target.health_down", for_s=60, details={"health": "unhealthy"})
    play(world, 0)
    assert journal(world) == [(0, "would_restart")]


def test_load_shedding_follows_the_memory_level_once_a_minute(world):
    """A-704."""
    for condition, severity, until in (
        ("false", "medium", 0), ("true", "medium", 30), ("true", "critical", 60), ("false", "medium", 180),
    ):  # fmt: skip
        world.says("resource.memory_level", condition, severity, labels={"process": "p"})
        play(world, until)
    levels = [(row["detail"]["level"], row["result"]) for row in world.rows(tables.recovery_request, "at")]
    assert levels == [("moderate", "would_shed"), ("normal", "would_shed")], "aggressive lasted less than the cool-down"


def test_load_is_shed_by_its_own_hook_and_never_by_the_one_that_restarts(make_world, hook):
    live = LIVE.format(mode="execute", enabled="true")
    world = make_world(more=live)
    world.says("resource.memory_level", severity="critical", labels={"process": "collector"})
    play(world, 0)
    assert journal(world, "shed_load") == [(0, "would_shed")]
    assert hook.requests == []
    world.config["more"] = live.replace("}}", "}").replace(
        "url_env: MP_TEST_HOOK", "url_env: NO_SUCH_HOOK, load_shedding: {url_env: MP_TEST_HOOK}"
    )
    world.says("resource.memory_level", severity="medium", labels={"process": "collector"})
    play(world, 60)
    assert journal(world, "shed_load")[-1] == (60, "executed")
    assert [got.json["level"] for got in hook.requests] == ["moderate"]


def test_a_drill_restarts_nothing(world):
    from monitoring_pipelines.alerts.drills import start_drill

    start_drill(world.state, "target.down", world.clock.now(), 100, None, "li")
    play(world, 60)
    assert journal(world) == []


@pytest.fixture
def lifeline(make_world, hook):
    return make_world(more="deadman: {url_env: MP_TEST_HOOK}")


def beats(world, *components: str) -> None:
    with world.state.begin() as con:
        for name in components:
            beat(con, name, 30, world.clock.now())


def test_the_dead_mans_switch_pings_once_a_minute_while_all_three_beat(lifeline, hook):
    """A-601."""
    world = lifeline
    results = []
    for _ in range(5):
        beats(world, *deadman.VITAL)
        results.append(deadman.ping(world.settings, world.state, world.clock))
        world.clock.advance(30)
    assert results == ["sent", None, "sent", None, "sent"]
    assert [((r.at - T0).total_seconds(), r.method) for r in hook.requests] == [(0, "GET"), (60, "GET"), (120, "GET")]


@pytest.mark.parametrize("dead", deadman.VITAL)
def test_no_ping_while_one_of_them_is_silent(lifeline, hook, dead):
    world = lifeline
    beats(world, *deadman.VITAL)
    world.clock.advance(61)
    beats(world, *(name for name in deadman.VITAL if name != dead))
    assert deadman.ping(world.settings, world.state, world.clock) == "withheld"
    assert hook.requests == []


def test_no_ping_before_they_ever_beat_and_none_without_an_address(lifeline, world, hook):
    assert deadman.ping(lifeline.settings, lifeline.state, lifeline.clock) == "withheld"
    lifeline.config["more"] = ""
    assert deadman.ping(lifeline.settings, lifeline.state, lifeline.clock) is None


def test_standing_by_sends_at_the_due_instant(world):
    """A-301: it waits for what is due soon and leaves what is due later."""
    world.says()
    world.tick()
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.clock.advance(seconds)

    world.clock.advance(2.25)
    done = duty.stand_by(world.settings, world.state, world.clock, ahead_s=9, most_s=35, sleep=sleep)
    assert (done.sent, world.instants) == (2, [10]), "the message, and the file of a critical alert"
    assert max(slept) <= duty.LOOK_S
    before = world.now
    duty.stand_by(world.settings, world.state, world.clock, ahead_s=9, most_s=35, sleep=sleep)
    assert world.now == before
    assert [b["component"] for b in world.rows(tables.component_heartbeat, "component")] == ["dispatcher", "evaluator"]


def test_alerts_are_pushed_to_an_alertmanager_and_their_ends_too(make_world, hook):
    world = make_world(alerts="  alertmanager: {url_env: MP_TEST_HOOK}")
    world.says(value=0.0)
    world.tick()
    assert alertmanager.push(world.settings, world.state, world.clock.now()) is None
    world.says(condition="false")
    world.clock.advance(30)
    world.tick()
    alertmanager.push(world.settings, world.state, world.clock.now())
    first, second = (r.json for r in hook.requests)
    assert hook.requests[0].path == "/api/v2/alerts"
    (posted,) = first
    assert posted["labels"] == {
        "alertname": "target.down", "type": "target.down", "source": "collector", "severity": "critical",
        "service": "collector", "target": "collector",
    }  # fmt: skip
    assert (posted["startsAt"], posted["endsAt"]) == ("2026-02-01T06:00:00.000000Z", "2026-02-01T06:02:00.000000Z")
    assert second[0]["endsAt"] == "2026-02-01T06:00:30.000000Z"
    hook.answer = lambda _: (503, b"", {})
    assert "503" in (alertmanager.push(world.settings, world.state, world.clock.now()) or "")


def dagster_says(world, dagster, healthy: bool) -> None:
    seen = (world.clock.now() - datetime(1970, 1, 1)).total_seconds()
    daemon = {
        "daemonType": "SENSOR",
        "required": True,
        "healthy": healthy,
        "lastHeartbeatTime": seen,
        "lastHeartbeatErrors": [],
    }
    data = {
        "instance": {"daemonHealth": {"allDaemonStatuses": [daemon]}},
        "workspaceOrError": {"__typename": "Workspace", "locationEntries": [
            {"name": "x", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation", "repositories": []}}
        ]},
    }  # fmt: skip
    dagster.answer = lambda _: (200, json.dumps({"data": data}).encode(), {})


def component_alerts(world) -> dict[str, str]:
    return {a["labels"]["component"]: a["state"] for a in world.alerts() if a["type"] == "self.heartbeat"}


def test_a_silent_dagster_is_told_from_outside_and_its_return_too(make_world, clock):
    """Issue: what runs inside Dagster cannot report that it does not run."""
    with Receiver(clock) as dagster:
        world = make_world()
        world.says()
        world.tick()
        beats(world, "dispatcher")
        dagster_says(world, dagster, healthy=True)
        assert not watch.look(world.settings, world.state, clock, dagster.url), "all is well"
        world.run(11)
        beats(world, "evaluator", "dispatcher")
        dagster_says(world, dagster, healthy=False)
        assert watch.look(world.settings, world.state, clock, dagster.url)
        assert component_alerts(world) == {"dagster.daemon.SENSOR": "firing"}
        clock.advance(100)
        assert watch.look(world.settings, world.state, clock, dagster.url)
        assert component_alerts(world) == {
            "dagster.daemon.SENSOR": "firing", "evaluator": "firing", "dispatcher": "firing",
        }  # fmt: skip
        assert [title for _, title in world.sent][1:] == ["[FIRING] self.heartbeat (_self)"], "sent from outside"
        clock.advance(600)
        watch.look(world.settings, world.state, clock, dagster.url)
        assert "[REPEAT] target.down (collector)" in [title for _, title in world.sent], "repeats go on"
        dagster_says(world, dagster, healthy=True)
        beats(world, "evaluator", "dispatcher")
        watch.look(world.settings, world.state, clock, dagster.url)
        assert set(component_alerts(world).values()) == {"resolved"}
        beating = {b["component"]: b["at"] for b in world.rows(tables.component_heartbeat)}
        assert beating["api"] == clock.now()


def test_a_sensor_that_no_code_location_has_any_more_ends_its_alert(make_world, clock):
    with Receiver(clock) as dagster:
        world = make_world()
        dagster_says(world, dagster, healthy=True)
        for name in ("dagster.sensor.old_sensor", "dagster.daemon.SENSOR", "evaluator"):
            world.says("self.heartbeat", severity="high", source_id="_self", labels={"component": name}, service=None)
        world.tick()
        world.forgets()
        beats(world, "evaluator", "dispatcher")
        watch.look(world.settings, world.state, clock, dagster.url)
        assert component_alerts(world) == {
            "dagster.sensor.old_sensor": "resolved", "dagster.daemon.SENSOR": "resolved", "evaluator": "resolved",
        }  # fmt: skip
        events = world.rows(tables.alert_event, "event_id")
        assert [e["reason"] for e in events if e["to_state"] == "resolved"].count("no longer configured") == 1
