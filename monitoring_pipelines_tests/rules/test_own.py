"""The product notices when it is itself blind (C-501 to C-512), and ends alerts whose scope has ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert

from monitoring_pipelines.alerts.engine import apply
from monitoring_pipelines.alerts.rules import heartbeats
from monitoring_pipelines.state.expectations import listed, retire
from monitoring_pipelines.state.tables import alert, check_run, self_job_run
from monitoring_pipelines.warehouse import windows
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines_tests.rules.conftest import SHOP, World, find

MINUTES = "mart.endpoint_minute_stats"
BASE = {"total_workers": 1, "active_workers": 1, "idle_workers": 0, "online_ms": 60_000, "busy_ms": 60_000, "idle_ms": 0,
        "avg_worker_utilization": 100.0, "execution_n": 1, "execution_sum_ms": 60_000}  # fmt: skip


@pytest.fixture
def shop(warehouse_world: World) -> World:
    world = warehouse_world
    world.configure(paths={"data": str(world.root)}, language="en", sources=[SHOP])
    with world.pipe.warehouse.writer("test") as con:
        ensure_core(con)
        windows.prepare(con)
    return world


def minute(world: World, number: int, **figures) -> None:
    row = {"source_id": "shop", "endpoint": "e", "stat_minute": world.at(60 * number)}
    world.put(MINUTES, row | figures)


def test_a_component_is_silent_after_two_of_its_periods(world: World):
    world.beat("extract", 0, 60)
    assert world.say(120, "self.heartbeat", component="extract").condition == "false"
    said = world.say(120.001, "self.heartbeat", component="extract")
    assert (said.condition, said.severity, said.threshold) == ("true", "high", 120)
    (alone,) = heartbeats(world.settings, world.state, world.at(121))
    assert (alone.condition, alone.fingerprint) == ("true", said.fingerprint)


def test_a_component_that_never_beat_is_not_missed(world: World):
    assert world.say(1000, "self.heartbeat") is None


def test_a_source_that_was_not_read_for_three_intervals_is_late(shop: World):
    shop.read_source(0)
    assert shop.say(180, "self.extract_lag").condition == "false"
    said = shop.say(180.5, "self.extract_lag")
    assert (said.condition, said.severity, said.value, said.threshold) == ("true", "high", 180.5, 180)


def test_a_first_load_is_not_late_but_a_source_that_could_never_be_read_is(shop: World):
    shop.put("meta.source_state", {"source_id": "shop"})
    assert shop.say(10, "self.extract_lag").condition == "insufficient_data"
    with shop.pipe.warehouse.writer("test") as con:
        con.execute("UPDATE meta.source_state SET last_error = 'access denied', last_error_code = 'source_unavailable'")
    said = shop.say(20, "self.extract_lag")
    assert said.condition == "true"
    assert "access denied" in said.message


def test_drift_is_told_until_a_cycle_works_again(shop: World):
    shop.read_source(
        0,
        last_error="shop: table tasks (task) has disappeared",
        last_error_code="schema_drift",
        last_error_at=shop.at(30),
    )
    said = shop.say(40, "self.schema_drift")
    assert (said.condition, said.message) == ("true", "shop: shop: table tasks (task) has disappeared")
    shop.read_source(60)
    assert shop.say(61, "self.schema_drift").condition == "false"


@pytest.mark.parametrize(
    ("offset", "condition", "severity"),
    [(5.0, "false", "medium"), (-5.001, "true", "medium"), (60.0, "true", "medium"), (60.5, "true", "high")],
)
def test_clocks_may_differ_by_five_seconds(shop: World, offset, condition, severity):
    shop.read_source(0, clock_offset_s=offset, clock_at=shop.at(0))
    said = shop.say(1, "self.clock")
    assert (said.condition, said.severity) == (condition, severity)


def test_an_old_or_missing_measurement_of_the_clock_says_nothing(shop: World):
    shop.read_source(0, clock_offset_s=99.0, clock_at=shop.at(-1000))
    assert shop.say(1, "self.clock").condition == "insufficient_data"
    shop.read_source(0)
    assert shop.say(1, "self.clock").condition == "not_applicable"


@pytest.mark.parametrize(
    ("expected", "received", "condition", "severity"),
    [(9, 0, "insufficient_data", "medium"), (10, 9, "false", "medium"), (100, 89, "true", "medium"), (100, 50, "true", "medium"), (100, 49, "true", "high")],
)  # fmt: skip
def test_coverage_of_snapshots_over_fifteen_minutes(shop: World, expected, received, condition, severity):
    shop.put("meta.source_setting", {"source_id": "shop", "has_worker_snapshot": True})
    minute(shop, 0, snapshots_expected=1000, snapshots_received=0)  # before the window
    minute(shop, 1, snapshots_expected=expected - 5, snapshots_received=0)
    minute(shop, 15, snapshots_expected=5, snapshots_received=received)
    shop.read_source(1000, closed_through=shop.at(960))
    said = shop.say(1000, "self.snapshot_coverage")
    assert (said.condition, said.severity) == (condition, severity)


def test_no_snapshot_while_workers_are_online_is_a_gap(shop: World):
    shop.put("meta.source_setting", {"source_id": "shop", "has_worker_snapshot": True})
    shop.put("raw.worker_snapshot", {"source_id": "shop", "origin": "source", "at": shop.at(0)})
    shop.read_source(300, closed_through=shop.at(240))
    assert shop.say(300, "self.snapshot_gap").condition == "false"  # nobody is online
    shop.put(
        "raw.worker", {"source_id": "shop", "worker_key": "w", "status": "online", "last_heartbeat_at": shop.at(290)}
    )
    assert shop.say(300, "self.snapshot_gap").condition == "true"
    shop.put("raw.worker_snapshot", {"source_id": "shop", "origin": "source", "at": shop.at(120)})
    assert shop.say(300, "self.snapshot_gap").condition == "false"


def test_an_empty_snapshot_table_is_no_healthy_answer(shop: World):
    shop.put("meta.source_setting", {"source_id": "shop", "has_worker_snapshot": True})
    shop.put("raw.task_event", {"source_id": "shop", "task_key": "t", "worker_key": "w", "at": shop.at(290)})
    shop.read_source(300, closed_through=shop.at(240))
    assert shop.say(300, "self.snapshot_gap").condition == "true"


def test_a_minute_that_could_be_closed_for_five_minutes_is_told(shop: World):
    shop.read_source(480, closed_through=shop.at(0))
    said = [o for o in shop.tick(420) if o.type == "self.aggregation" and o.source_id == "shop"]
    assert said[0].condition == "false"  # 0 + 60 + settle 60 + 300
    said = [o for o in shop.tick(421) if o.type == "self.aggregation" and o.source_id == "shop"]
    assert (said[0].condition, said[0].severity) == ("true", "high")


def test_a_source_that_is_not_read_cannot_close_its_minutes(shop: World):
    shop.read_source(30, closed_through=shop.at(0))
    said = [o for o in shop.tick(150) if o.type == "self.aggregation" and o.source_id == "shop"]
    assert said[0].condition == "false"


@pytest.mark.parametrize(
    ("good", "bad", "condition", "severity"),
    [
        (60, 0, "false", "high"),
        (59, 1, "true", "low"),
        (56, 4, "true", "medium"),
        (40, 20, "true", "high"),
        (10, 50, "true", "critical"),
    ],
)
def test_failing_aggregation_runs_are_classified_by_the_bands(world: World, good, bad, condition, severity):
    rows = [
        {"run_key": str(n), "job_id": "minute_tick_job", "outcome": "success" if n < good else "failure", "trigger": "schedule",
         "started_at": world.at(n), "ended_at": world.at(n + 1), "changed_at": world.at(n + 1)} for n in range(good + bad)
    ]  # fmt: skip
    with world.state.begin() as con:
        con.execute(insert(self_job_run), rows)
    said = find(world.tick(100), "self.aggregation", check="runs")
    assert (said.condition, said.severity) == (condition, severity)
    assert find(world.tick(4000), "self.aggregation", check="runs").condition == "insufficient_data"


def run(world: World, kind: str, second: float, status: str = "healthy", **more) -> None:
    row = {"run_id": f"{kind}{second}", "type": kind, "trigger": "schedule", "status": status, "scheduled_at": world.at(second),
           "ended_at": world.at(second + 5), "total_alerts": 0, "count": 1}  # fmt: skip
    with world.state.begin() as con:
        con.execute(insert(check_run).values(row | more))


def test_a_check_that_crashed_or_was_not_made_is_told(world: World):
    assert world.say(0, "self.check_error", check="quick").condition == "insufficient_data"
    run(world, "quick", 0)
    assert world.say(1799, "self.check_error", check="quick").condition == "false"
    said = world.say(1800, "self.check_error", check="quick")  # due at 15 min, a period later
    assert (said.condition, said.severity) == ("true", "high")
    run(world, "quick", 1800, "error", error="KeyError: x")
    assert "KeyError" in world.say(1810, "self.check_error", check="quick").message
    run(world, "quick", 2700, "issues_detected")
    assert world.say(2710, "self.check_error", check="quick").condition == "false"


def test_rows_that_contradict_themselves_are_implausible(shop: World):
    for number, figures in enumerate(
        ({}, {"idle_workers": 1}, {"busy_ms": 1}, {"avg_worker_utilization": 0.0}, {"avg_worker_utilization": 101.0})
    ):
        minute(shop, number, **(BASE | figures))
    shop.read_source(400, closed_through=shop.at(300))
    said = shop.say(400, "self.plausibility")
    assert (said.condition, said.severity) == ("true", "high")
    assert sum(said.details["by_reason"].values()) == said.value == 5  # idle_workers breaks two rules
    shop.read_source(4000, closed_through=shop.at(3900))
    assert shop.say(4000, "self.plausibility").condition == "false"


def test_rows_whose_figures_are_unknown_are_not_implausible(shop: World):
    minute(shop, 0, **dict.fromkeys(BASE))
    minute(shop, 1, **BASE)
    shop.read_source(400, closed_through=shop.at(300))
    assert shop.say(400, "self.plausibility").condition == "false"


@pytest.mark.parametrize(
    ("count", "rows", "condition"), [(9, 10, "false"), (10, 1000, "false"), (11, 1000, "true"), (10, 0, "true")]
)
def test_anomalies_count_from_ten_and_one_percent(shop: World, count, rows, condition):
    shop.read_source(100)
    shop.put(
        "raw.anomaly",
        {
            "source_id": "shop",
            "kind": "future_time",
            "entity": "task_event",
            "key": "k",
            "first_seen_at": shop.at(50),
            "count": count,
        },
    )
    with shop.pipe.warehouse.writer("test") as con:
        con.execute(
            "INSERT INTO raw.task_event (source_id, first_seen_at) SELECT 'shop', ?::TIMESTAMP FROM range(?)",
            [shop.at(50), rows],
        )
    said = shop.say(100, "self.anomalies", kind="future_time")
    assert (said.condition, said.severity) == (condition, "low")


@pytest.mark.parametrize(("read", "condition"), [("task_event", "false"), ("task", "false"), (None, "true")])
def test_anomalies_of_attempts_are_measured_against_the_rows_that_attempts_are_made_of(shop: World, read, condition):
    """C-511: attempts are computed, nothing of them is read; 24 of 43,000 tasks are no 24 of none."""
    shop.read_source(100)
    found = {
        "kind": "negative_duration",
        "entity": "task_attempt",
        "key": "k",
        "first_seen_at": shop.at(50),
        "count": 24,
    }
    shop.put("raw.anomaly", {"source_id": "shop", **found})
    if read:
        with shop.pipe.warehouse.writer("test") as con:
            con.execute(
                f"INSERT INTO raw.{read} (source_id, first_seen_at) SELECT 'shop', ?::TIMESTAMP FROM range(2400)",
                [shop.at(50)],
            )
    assert shop.say(100, "self.anomalies", kind="negative_duration").condition == condition


def test_a_rule_without_input_is_a_problem_of_the_configuration(world: World):
    world.configure(paths={"data": str(world.root)}, language="en", rules=[{"id": "ingest.low", "threshold": 5}])
    said = world.say(0, "self.config", check="rules.ingest.low")
    assert (said.condition, said.severity) == ("true", "low")


def test_a_schedule_that_is_never_due_is_a_problem_of_the_configuration(world: World):
    world.configure(paths={"data": str(world.root)}, language="en", checks={"deep": {"cron": "0 2 31 2 *"}})
    assert "never due" in world.say(0, "self.config", check="checks.deep.cron").message


def test_a_full_volume_and_a_missing_folder_are_told_apart(world: World):
    said = world.say(0, "self.storage")
    assert said.condition in ("true", "false")  # whatever this machine has
    world.configure(paths={"data": str(world.root / "nowhere")}, language="en")
    assert world.say(0, "self.storage").condition == "insufficient_data"


def test_without_a_warehouse_the_rules_that_need_none_still_speak(world: World):
    world.scrape(0, up=False)
    world.beat("extract", -500, 60)
    said = {o.type for o in world.tick(0) if o.condition == "true"}
    assert {"target.down", "self.heartbeat"} <= said


def test_one_broken_family_is_an_alert_and_stops_no_other(shop: World):
    from monitoring_pipelines.alerts.rules import evaluate

    shop.read_source(0)
    with shop.pipe.warehouse.writer("test") as con:
        con.execute("ALTER TABLE raw.job_run RENAME COLUMN outcome TO something")
    said = evaluate(shop.pipe, shop.state, shop.at(1))
    broken = find(said, "self.check_error", check="rules.jobs")
    assert (broken.condition, broken.severity) == ("true", "high")
    assert "outcome" in broken.message
    assert find(said, "self.extract_lag").condition == "false"
    assert find(said, "jobs.failing") is None


# -- ends of scopes, through the engine ---------------------------------------------------------------------------------


def states(world: World, kind: str) -> list[str]:
    from sqlalchemy import select

    with world.state.read() as con:
        return [
            row.state
            for row in con.execute(select(alert.c.state).where(alert.c.type == kind).order_by(alert.c.alert_id))
        ]


def tick(world: World, second: float) -> None:
    apply(world.settings, world.state, world.at(second), world.tick(second))


def test_an_alert_of_a_retired_target_ends(world: World):
    for second in range(0, 61, 15):
        world.scrape(second, up=False)
        tick(world, second)
    assert states(world, "target.down") == ["firing"]
    assert [row["kind"] for row in retire(world.state, "collector", None, None, world.at(61))] == ["target"]
    tick(world, 62)
    assert states(world, "target.down") == ["resolved"]
    world.scrape(75, up=False)
    tick(world, 75)
    assert states(world, "target.down") == ["resolved", "pending"]  # seen again, so expected again


def test_the_list_of_targets_shows_health_and_age(world: World):
    for second in (0, 15):
        world.scrape(second, trade=1)
        world.tick(second)
    rows = {(r["kind"], r["name"]): r for r in listed(world.state, world.settings, world.at(20))}
    assert rows["target", "collector"]["health"] == "healthy"
    assert rows["series", "collector/trade"]["age_s"] == 5
    old = {(r["kind"], r["name"]): r for r in listed(world.state, world.settings, world.at(60))}
    assert old["target", "collector"]["health"] == "unknown"


def test_an_alert_of_a_rule_that_was_switched_off_ends(world: World):
    world.process(0, conns=120)
    tick(world, 0)
    assert states(world, "resource.connections") == ["firing"]
    world.configure(
        paths={"data": str(world.root)}, language="en", rules=[{"id": "resource.connections", "enabled": False}]
    )
    tick(world, 30)
    assert states(world, "resource.connections") == ["resolved"]


def test_an_alert_of_a_job_that_was_disabled_ends(shop: World):
    shop.put("raw.job", {"source_id": "shop", "job_id": "j", "enabled": True, "risk_level": "high"})
    shop.put(
        "raw.job_run",
        {
            "source_id": "shop",
            "run_key": "1",
            "job_id": "j",
            "outcome": "failure",
            "started_at": shop.at(0),
            "ended_at": shop.at(1),
        },
    )
    shop.read_source(5)
    tick(shop, 10)
    assert states(shop, "jobs.failing") == ["firing"]
    with shop.pipe.warehouse.writer("test") as con:
        con.execute("UPDATE raw.job SET enabled = false")
    tick(shop, 300)  # the source is not read at present: nothing is known
    assert states(shop, "jobs.failing") == ["firing"]
    shop.read_source(310)
    tick(shop, 311)
    assert states(shop, "jobs.failing") == ["resolved"]


def test_a_timeline_of_a_dying_collector(world: World):
    """C-440 end to end: target.down after 30 s, ingest.none after two intervals and 3 min, both until data is back."""
    fired: dict[str, list[tuple[float, str]]] = {"target.down": [], "ingest.none": [], "ingest.low": []}
    for second in range(0, 1801, 15):
        if 600 < second < 1200:
            world.scrape(second, up=False)
        else:
            world.scrape(second, trade=20 * second)
        if second % 30 == 0:
            tick(world, second)
            for kind, seen in fired.items():
                now = states(world, kind)
                if now and (not seen or seen[-1][1] != now[-1]):
                    seen.append((second, now[-1]))
    assert fired["target.down"] == [(630, "pending"), (660, "firing"), (1200, "resolved")]
    assert fired["ingest.none"] == [(660, "pending"), (840, "firing"), (1200, "resolved")]
    assert fired["ingest.low"][0] == (660, "pending")
    assert timedelta(seconds=1800) == world.clock.now() - world.at(0)


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "shop was last read 4 min ago (limit 3 min)"), ("zh-CN", "数据源 shop 上次读取在 4 分前（上限 3 分）")],
)
def test_a_sentence_does_not_end_with_a_cause_nobody_knows(language, said):
    from monitoring_pipelines.alerts.rules.table import describe

    values = {"source": "shop", "value": 240.0, "threshold": 180.0, "error": "–"}
    assert describe("self.extract_lag", language, values) == said
    assert describe("self.extract_lag", language, values | {"error": "access denied"}).endswith("access denied")
