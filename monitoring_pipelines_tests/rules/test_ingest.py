"""Ingest: one quiet series pages nobody, absence is zero, and rates are exact (C-431 to C-433, C-440, C-441)."""

from __future__ import annotations

from monitoring_pipelines_tests.rules.conftest import World, find


def feed(world: World, start: float, end: float, step: float = 15, **per_second: float) -> None:
    """Scrapes whose counters grow by so much a second."""
    second = start
    while second <= end:
        world.scrape(second, **{name: second * speed for name, speed in per_second.items()})
        second += step


def test_before_the_first_appearance_nothing_is_said(world: World):
    world.scrape(0)
    assert world.say(1, "ingest.none") is None
    world.scrape(15, trade=5)
    assert world.say(15, "ingest.none").condition == "insufficient_data"


def test_one_quiet_series_is_no_alert_while_others_flow(world: World):
    feed(world, 0, 600, trade=20, orderbook=0)
    said = world.tick(600)
    assert find(said, "ingest.none").condition == "false"
    assert (find(said, "ingest.low").condition, find(said, "ingest.low").value) == ("false", 20)


def test_the_border_of_a_low_rate_is_exact(world: World):
    for n in range(9):
        world.scrape(70 * n, trade=700 * n)
    low = world.say(560, "ingest.low")
    assert (low.condition, low.value) == ("false", 10)
    for n in range(9, 18):
        world.scrape(70 * n, trade=5600 + 699 * (n - 8))
    assert world.say(70 * 17, "ingest.low").condition == "true"


def test_nothing_ingested_is_critical_and_counts_as_low_too(world: World):
    feed(world, 0, 600, trade=0)
    said = world.tick(600)
    none = find(said, "ingest.none")
    assert (none.condition, none.severity, none.for_s, none.alertname) == (
        "true",
        "critical",
        180,
        "CollectorNoDataIngestion",
    )
    assert find(said, "ingest.low").condition == "true"


def test_a_series_missing_from_the_newest_sample_reads_zero(world: World):
    feed(world, 0, 600, trade=20, orderbook=5)
    world.scrape(615, orderbook=615 * 5)
    low = world.say(615, "ingest.low")
    assert (low.condition, low.value) == ("true", 5)
    world.scrape(630, trade=630 * 20, orderbook=630 * 5)
    assert world.say(630, "ingest.low").value == 25


def test_a_process_that_dies_ingests_nothing_until_data_returns(world: World):
    """The trap of per-series expressions: they become empty when the process dies."""
    feed(world, 0, 600, trade=20)
    assert world.say(600, "ingest.none").condition == "false"
    world.scrape(615, up=False)
    world.scrape(630, up=False)
    assert world.say(630, "ingest.none").condition == "false"  # not yet two intervals
    world.scrape(645, up=False)
    assert world.say(645, "ingest.none").condition == "true"
    for later in (3600, 90_000):
        world.scrape(later, up=False)
        assert world.say(later, "ingest.none").condition == "true"
    world.scrape(90_015, trade=5)
    assert world.say(90_015, "ingest.none").condition == "insufficient_data"
    world.scrape(90_030, trade=50)
    assert world.say(90_030, "ingest.none").condition == "false"


def test_when_collecting_itself_is_down_the_rule_keeps_its_state(world: World):
    feed(world, 0, 300, trade=20)
    assert world.say(300, "ingest.none").condition == "false"
    said = world.tick(346)
    assert find(said, "ingest.none").condition == "insufficient_data"
    assert find(said, "self.heartbeat", component="collect").condition == "true"


def test_a_series_that_stands_still_longer_than_its_limit_is_told(world: World):
    feed(world, 0, 300, trade=20, funding_rate=1)
    world.tick(300)
    for second in (315, 330, 345, 360):
        world.scrape(second, trade=6000, funding_rate=300)
        said = world.tick(second)
    assert find(said, "ingest.series_stale", series="trade").condition == "false"  # exactly 60 s
    world.scrape(375, trade=6000, funding_rate=300)
    said = world.tick(375)
    stale = find(said, "ingest.series_stale", series="trade")
    assert (stale.condition, stale.severity, stale.value, stale.threshold) == ("true", "info", 75, 60)
    assert find(said, "ingest.series_stale", series="funding_rate").condition == "false"


def test_counters_of_errors_are_no_ingest(world: World):
    for n in range(30):
        world.collect(
            15 * n,
            ("probe_result", "scrape:collector", {"target": "collector", "kind": "scrape", "up": True}),
            (
                "ingest_counter",
                "collector/trade/ok",
                {"process_id": "collector", "series": "trade", "kind": "ok", "value": 0},
            ),
            (
                "ingest_counter",
                "collector/trade/error",
                {"process_id": "collector", "series": "trade", "kind": "error", "value": 1000 * n},
            ),
        )
    assert world.say(435, "ingest.none").condition == "true"


def test_rows_of_a_mapped_table_and_collected_rows_are_one_series(warehouse_world: World):
    world = warehouse_world
    for n in range(41):
        row = {
            "source_id": "collector",
            "process_id": "collector",
            "series": "trade",
            "kind": "ok",
            "at": world.at(15 * n),
            "value": 300 * n,
        }
        world.put("raw.ingest_counter", row)
    feed(world, 300, 600, trade=20)
    low = world.say(600, "ingest.low")
    assert (low.condition, low.value) == ("false", 20)
