"""Alerts about something that is not configured any more end, once, and say why."""

from __future__ import annotations

import pytest

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.alerts.configured import configured_checks
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import World

SOURCES = (
    "sources: [{id: shop, preset: tktool, read_dsn_file: shop.dsn}, {id: tts, preset: tktool, read_dsn_file: shop.dsn}]"
)


@pytest.fixture
def world(make_world) -> World:
    world = make_world(more=SOURCES)
    (world.root / "shop.dsn").write_text(f"sqlite:///{world.root}/shop.db")
    # Ticks as the sensor makes them, which know what is configured.
    world.tick = lambda: engine.apply(  # type: ignore[method-assign]
        world.settings, world.state, world.clock.now(), list(world.truth.values()),
        configured=configured_checks(world.settings),
    )  # fmt: skip
    return world


def ends(world: World) -> list[tuple[float, str]]:
    return [(at, title) for at, title in world.sent if title.startswith("[RESOLVED]")]


def reasons(world: World) -> list[str]:
    events = world.rows(tables.alert_event, "event_id")
    return [e["reason"] for e in events if e["kind"] == "transition" and e["to_state"] == "resolved"]


def test_a_configured_check_goes_on(world):
    world.check("full", ("high", "31 of 40"))
    world.run(3000)
    assert ends(world) == []


@pytest.mark.parametrize(
    ("check", "more"),
    [
        ("missing_outputs", SOURCES + "\nchecks: {disabled: [missing_outputs]}"),
        ("custom.gone", SOURCES),
        ("missing_outputs", SOURCES.replace("{id: shop", "{id: other")),
        ("missing_outputs", SOURCES.replace("{id: shop", "{id: shop, enabled: false")),
        ("orphans", SOURCES + "\nchecks: {full: {extended: false}}"),
    ],
    ids=["disabled", "custom", "source removed", "source off", "not extended"],
)
def test_an_alert_of_a_check_that_is_gone_ends_once_with_its_reason(world, check, more):
    world.config["more"] = SOURCES + ("\nchecks: {custom: ['my.mod:gone']}" if check == "custom.gone" else "")
    world.check("full", ("high", "31 of 40"), check=check)
    world.run(100)
    assert world.alert("missing_task_outputs")["state"] == "firing"
    world.config["more"] = more
    world.run(3000)
    assert ends(world) == [(120, "[RESOLVED] missing_task_outputs (shop)")]
    assert reasons(world) == ["no longer configured"]
    text = world.ops.requests[-1].json["markdown"]["text"]
    assert "No longer watched: 31 of 40" in text
    assert "this does not say that all is well" in text


def test_other_run_types_go_on_carrying_the_alert(world):
    """The full check is gone, the quick one still finds it."""
    world.config["more"] = SOURCES + "\nchecks: {custom: [{check: 'my.mod:mine', types: [quick, full]}]}"
    world.check("full", ("critical", "19 of 40"), check="custom.mine")
    world.check("quick", ("high", "31 of 40"), check="custom.mine")
    world.run(100)
    world.config["more"] = SOURCES + "\nchecks: {custom: [{check: 'my.mod:mine', types: [quick]}]}"
    world.run(3000)
    assert ends(world) == []
    assert world.alert("missing_task_outputs")["severity"] == "high"


def test_an_alert_that_nobody_was_told_of_ends_without_a_message(world):
    world.check("full", ("low", "39 of 40"))
    world.run(100)
    world.config["more"] = SOURCES + "\nchecks: {disabled: [missing_outputs]}"
    world.run(200)
    assert world.sent == []
    assert reasons(world) == ["no longer configured"]


RULE = "\nrules: [{id: slow, metric: endpoint_minute_stats.p95_execution_ms, op: '>', threshold: 1, severity: high}]"


@pytest.mark.parametrize(
    ("type_", "source", "before", "after"),
    [
        ("slow", "shop", SOURCES + RULE, SOURCES),
        ("slow", "shop", SOURCES + RULE, SOURCES + RULE.replace("id: slow", "id: slow, enabled: false")),
        ("self.extract_lag", "tts", SOURCES, SOURCES.replace("{id: tts", "{id: other")),
        ("repair_failed", "tts", SOURCES, SOURCES.replace("{id: tts", "{id: other")),
        ("resource.threads", "shop", SOURCES + "\nrules: [{id: resource.threads}]", SOURCES),
    ],
)
def test_an_alert_of_a_rule_that_is_gone_ends_with_its_reason(world, type_, source, before, after):
    """Through the rules themselves, which know their scopes."""
    world.config["more"] = before
    world.says(type_, severity="high", labels={}, source_id=source, service=None)
    world.run(20)
    world.forgets()
    world.config["more"] = after
    world.clock.advance(40)
    engine.tick(Pipeline.of(world.settings, world.clock), world.state, world.clock.now())
    world.run(70)
    assert ends(world) == [(60, f"[RESOLVED] {type_} ({source})")]
    assert reasons(world) == ["no longer configured"]
