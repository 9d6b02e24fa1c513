"""Targets: what is down, what is only degraded, and what absence means (C-421, C-422, C-440, C-480, C-482)."""

from __future__ import annotations

from monitoring_pipelines_tests.rules.conftest import COLLECTOR, World, find


def probe(world: World, second: float, status: int | None) -> None:
    values = {"target": "page", "kind": "http", "up": status is not None and 200 <= status < 300, "http_status": status}
    world.collect(second, ("probe_result", "http:page", values))


def health(world: World, kind: str = "scrape", target: str = "collector") -> str:
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import expectation

    with world.state.read() as con:
        row = con.execute(select(expectation.c.state).where(expectation.c.name == target)).scalar()
    return row[kind]["state"]


def test_a_target_that_was_never_seen_says_nothing(world: World):
    assert world.say(0, "target.down") is None


def test_a_scrape_that_fails_is_down_and_one_that_works_is_not(world: World):
    world.scrape(0)
    assert world.say(0, "target.down", target="collector").condition == "false"
    world.scrape(15, up=False)
    down = world.say(15, "target.down", target="collector")
    assert (down.condition, down.severity, down.severity_label, down.for_s) == ("true", "critical", "critical", 30)
    assert (down.alertname, down.service, down.value) == ("CollectorTargetDown", "collector", 0)


def test_a_health_page_fails_with_any_status_but_2xx_and_without_an_answer(world: World):
    for second, (status, condition) in enumerate(
        ((200, "false"), (204, "false"), (503, "true"), (301, "true"), (None, "true"))
    ):
        probe(world, 30 * second, status)
        said = world.say(30 * second, "target.health_down", target="page")
        assert (status, said.condition) == (status, condition)
        assert said.for_s == 60


def test_health_goes_through_the_states_as_the_evaluations_see_the_samples(world: World):
    states = []
    for n, ok in enumerate([True, True, False, False, False, True, True]):
        world.scrape(15 * n, up=ok)
        world.tick(15 * n)
        states.append(health(world))
    assert states == ["unknown", "healthy", "degraded", "degraded", "unhealthy", "unhealthy", "healthy"]


def test_samples_between_two_evaluations_all_count(world: World):
    for n, ok in enumerate([True, True, False, False, False]):
        world.scrape(5 * n, up=ok)
    said = [o for o in world.tick(20) if o.type == "target.down"]
    assert health(world) == "unhealthy"
    assert [o.condition for o in said] == ["false", "false", "true"]


def test_the_message_says_what_was_wrong_in_the_configured_language(world: World):
    values = {"target": "page", "kind": "http", "up": False, "http_status": None, "error": "Connection refused"}
    world.collect(0, ("probe_result", "http:page", values))
    assert "Connection refused" in world.say(0, "target.health_down").message
    probe(world, 30, 503)
    assert world.say(30, "target.health_down").message == "the health page of page fails: HTTP 503"
    world.configure(paths={"data": str(world.root)}, language="zh-CN", **COLLECTOR)
    probe(world, 60, None)
    assert world.say(60, "target.health_down").message == "目标 page 的健康检查失败：没有应答"


def test_degraded_alone_marks_no_target_down(world: World):
    """C-482: one failed probe followed by a good one leaves the target degraded, and no rule is true."""
    for n, ok in enumerate([True, True, False, True]):
        world.scrape(15 * n, up=ok)
        world.tick(15 * n)
    assert health(world) == "degraded"
    assert world.say(45, "target.down", target="collector").condition == "false"


def test_what_the_collector_does_not_ask_any_more_keeps_its_state_while_collecting_is_broken(world: World):
    world.scrape(0)
    assert world.say(0, "target.down", target="collector").condition == "false"
    assert (
        world.say(46, "target.down", target="collector").condition == "insufficient_data"
    )  # no heartbeat for 3 periods
    assert health(world) == "unknown"


def test_a_target_of_a_source_that_vanishes_from_its_table_is_down_until_it_is_back(warehouse_world: World):
    """C-440 for mapped tables: the source is read, but it has no newer rows of the target."""
    world = warehouse_world
    world.configure(
        paths={"data": str(world.root)},
        language="en",
        sources=[{"id": "shop", "preset": "collector", "read_dsn_env": "X"}],
    )
    for second in (0, 30, 60):
        world.put(
            "raw.probe_result",
            {"source_id": "shop", "target": "t", "kind": "scrape", "at": world.at(second), "up": True},
        )
    world.read_source(60)
    assert world.say(65, "target.down", target="t").condition == "false"
    world.read_source(120)
    assert world.say(125, "target.down", target="t").condition == "false"
    world.read_source(121)
    gone = world.say(125, "target.down", target="t")
    assert gone.condition == "true"
    assert "no sample since 2026-02-01 06:01:00" in gone.message
    # Extraction itself stops: the rule keeps its state, and the lag has its own alert.
    said = world.tick(121 + 181)
    assert find(said, "target.down", target="t").condition == "insufficient_data"
    assert find(said, "self.extract_lag").condition == "true"
    # Still absent when reading goes on, and false only when rows are back.
    world.read_source(330)
    assert world.say(331, "target.down", target="t").condition == "true"
    world.put(
        "raw.probe_result", {"source_id": "shop", "target": "t", "kind": "scrape", "at": world.at(360), "up": True}
    )
    world.read_source(361)
    assert world.say(362, "target.down", target="t").condition == "false"


def test_a_target_that_is_configured_no_more_is_not_expected(world: World):
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import expectation

    world.scrape(0, up=False, trade=1)
    assert world.say(0, "target.down").condition == "true"
    world.configure(paths={"data": str(world.root)}, language="en")
    for second in (30, 60):
        said = world.say(second, "target.down")
        assert said is None or said.condition != "true"
    with world.state.read() as con:
        kept = con.execute(select(expectation.c.kind).where(expectation.c.retired_at.is_(None))).all()
    assert kept == []


def test_absence_is_remembered_over_days(warehouse_world: World):
    world = warehouse_world
    world.configure(
        paths={"data": str(world.root)},
        language="en",
        sources=[{"id": "shop", "preset": "collector", "read_dsn_env": "X"}],
    )
    world.put("raw.probe_result", {"source_id": "shop", "target": "t", "kind": "scrape", "at": world.at(0), "up": True})
    world.read_source(1)
    world.tick(2)
    later = 3 * 86400
    world.read_source(later)
    assert world.say(later, "target.down", target="t").condition == "true"


def test_a_target_without_any_sample_yet_is_no_alert_in_another_source(world: World):
    world.scrape(0)
    world.tick(0)
    assert [o.labels for o in world.tick(1) if o.type == "target.down"] == [{"target": "collector"}]
