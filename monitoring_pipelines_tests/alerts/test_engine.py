"""The whole evaluation with the shipped rules: restarts, failures of the rules, two evaluators (A-201, C-501)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.alerts import engine, rules
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.state.heartbeats import beat


@pytest.fixture
def tick(world):
    def run() -> engine.Evaluation:
        return engine.tick(Pipeline.of(world.settings, world.clock), world.state, world.clock.now())

    return run


def heartbeats(world) -> dict[str, str]:
    return {a["labels"]["component"]: a["state"] for a in world.alerts() if a["type"] == "self.heartbeat"}


def beats(world, *names: str, ago: float = 0.0) -> None:
    with world.state.begin() as con:
        for name in names:
            beat(con, name, 60, world.clock.now() - timedelta(seconds=ago))


def test_a_component_that_falls_silent_is_told(world, tick):
    beats(world, "extract")
    for _ in range(6):
        tick()
        world.clock.advance(30)
    assert heartbeats(world) == {"extract": "firing"}, "150 s without a heartbeat every 60 s"


def test_a_restart_of_the_whole_product_blames_nobody_who_comes_back_in_time(world, tick):
    beats(world, "extract", "sweeper")
    tick()
    world.clock.advance(3600)
    tick()
    assert heartbeats(world) == {}
    for _ in range(5):
        world.clock.advance(30)
        beats(world, "extract")
        tick()
    assert heartbeats(world) == {"sweeper": "firing"}, "the one that did not come back"


def test_rules_that_crash_are_an_alert_and_stop_nothing_else(world, tick, monkeypatch):
    world.says()
    world.run(10)

    def crash(*_):
        raise ZeroDivisionError("in a rule")

    monkeypatch.setattr(rules, "evaluate", crash)
    world.clock.advance(620)
    tick()
    assert (
        world.alert("self.check_error")["message"] == "the rules could not be evaluated: ZeroDivisionError: in a rule"
    )
    assert [n["kind"] for n in world.notes(group_key="critical/target.down/collector")] == ["firing", "repeat"]
    monkeypatch.undo()
    world.clock.advance(30)
    tick()
    assert world.alert("self.check_error")["state"] == "resolved"


def test_only_one_process_evaluates_at_a_time(world, tick):
    with engine.alone(world.settings) as mine:
        assert mine
        assert tick().skipped
    assert not tick().skipped
