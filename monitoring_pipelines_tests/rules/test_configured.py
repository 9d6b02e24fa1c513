"""Rules of the configuration: what they measure, over how many buckets, and what absence means (C-602)."""

from __future__ import annotations

import json

import pytest

from monitoring_pipelines.alerts.rules.metrics import UnknownMetric, find
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.warehouse import windows
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines_tests.rules.conftest import SHOP, World
from monitoring_pipelines_tests.rules.conftest import find as found

MINUTE_TABLE = "mart.endpoint_minute_stats"


@pytest.fixture
def shop(warehouse_world: World) -> World:
    world = warehouse_world
    with world.pipe.warehouse.writer("test") as con:
        ensure_core(con)
        windows.prepare(con)
    return world


def configure(world: World, *rules: dict) -> None:
    world.configure(paths={"data": str(world.root)}, language="en", sources=[SHOP], rules=list(rules))


def minute(world: World, number: int, endpoint: str = "e", **figures) -> None:
    row = {"source_id": "shop", "endpoint": endpoint, "stat_minute": world.at(60 * number)}
    world.put(MINUTE_TABLE, row | figures)


def say(world: World, rule: str, closed: int, **labels: str):
    """What the rule says when the first ``closed`` minutes are closed."""
    world.read_source(60 * closed + 60, closed_through=world.at(60 * closed))
    return found(world.tick(60 * closed + 60), rule, **labels)


def rule(metric: str, op: str, threshold: float, **more) -> dict:
    return {"id": "mine", "metric": metric, "op": op, "threshold": threshold, "severity": "high", **more}


def test_a_rule_reads_the_last_closed_bucket_of_every_subject(shop: World):
    configure(shop, rule("avg_execution_ms", ">", 500, **{"for": "2m"}))
    minute(shop, 0, avg_execution_ms=900)
    minute(shop, 1, avg_execution_ms=500)
    minute(shop, 2, avg_execution_ms=900)  # not closed yet
    minute(shop, 1, "other", avg_execution_ms=500.1)
    said = say(shop, "mine", 2, endpoint="e")
    assert (said.condition, said.value, said.for_s, said.severity) == ("false", 500, 120, "high")
    assert found(shop.tick(180), "mine", endpoint="other").condition == "true"


def test_sums_largest_smallest_and_last_over_several_buckets(shop: World):
    figures = {"tasks_failed": "sum", "max_execution_ms": "max", "min_execution_ms": "min", "queue_depth_end": "last"}
    rules = [rule(name, ">", 0, window=3) | {"id": f"r.{name}"} for name in figures]
    configure(shop, *rules)
    for number, (failed, depth) in enumerate(((50, 9), (1, 7), (2, 5), (4, 3))):
        minute(
            shop, number, tasks_failed=failed, max_execution_ms=failed, min_execution_ms=failed, queue_depth_end=depth
        )
    say(shop, "r.tasks_failed", 4)
    said = {o.type: o.value for o in shop.tick(300) if o.type.startswith("r.")}
    assert said == {"r.tasks_failed": 7, "r.max_execution_ms": 4, "r.min_execution_ms": 1, "r.queue_depth_end": 3}


def test_averages_over_several_buckets_come_from_their_components(shop: World):
    configure(shop, rule("avg_execution_ms", ">", 11_000, window=2))
    minute(shop, 0, execution_sum_ms=8000, execution_n=4, avg_execution_ms=2000)
    minute(shop, 1, execution_sum_ms=50_000, execution_n=1, avg_execution_ms=50_000)
    said = say(shop, "mine", 2)
    assert (said.condition, said.value) == ("true", 11_600)


def test_percentiles_over_several_buckets_come_from_their_histograms(shop: World):
    from monitoring_pipelines.warehouse.histogram import index_of

    configure(shop, rule("p95_execution_ms", ">", 40_000, window=2))
    minute(shop, 0, exec_hist=json.dumps({index_of(2000): 4}), p95_execution_ms=2000)
    minute(shop, 1, exec_hist=json.dumps({index_of(50_000): 1}), p95_execution_ms=50_000)
    assert say(shop, "mine", 2).value == pytest.approx(40_400, rel=0.01)


def test_unknown_is_not_zero_and_a_missing_bucket_is_ignored_or_fires(shop: World):
    configure(
        shop, rule("avg_execution_ms", "<", 10), rule("tasks_submitted", "<", 1, absent="fire") | {"id": "silent"}
    )
    minute(shop, 0, avg_execution_ms=None, tasks_submitted=5)
    assert say(shop, "mine", 1).condition == "not_measurable"
    assert say(shop, "mine", 2).condition == "insufficient_data"
    assert say(shop, "silent", 1).condition == "false"
    assert say(shop, "silent", 2).condition == "true"


def test_a_filter_chooses_subjects_and_names_those_that_must_exist(shop: World):
    filtered = rule("tasks_submitted", "<", 1, absent="fire", filter={"source": "shop", "endpoint": ["e", "gone"]})
    configure(shop, filtered)
    minute(shop, 0, "e", tasks_submitted=1)
    minute(shop, 0, "other", tasks_submitted=0)
    say(shop, "mine", 1)
    said = {o.labels["endpoint"]: o.condition for o in shop.tick(120) if o.type == "mine"}
    assert said == {"e": "false", "gone": "true"}


def test_a_field_of_an_entity_is_taken_from_its_newest_row(shop: World):
    configure(shop, rule("process_sample.threads", ">=", 20))
    for second, threads in ((0, 30), (60, 19)):
        shop.put(
            "raw.process_sample", {"source_id": "shop", "process_id": "p", "at": shop.at(second), "threads": threads}
        )
    assert say(shop, "mine", 1, process="p").condition == "false"
    assert shop.say(30, "mine", process="p").condition == "true"


@pytest.mark.parametrize(
    ("rule_id", "figures", "condition", "severity"),
    [
        ("endpoint.queue_depth", {"queue_depth_end": 100}, "false", "medium"),
        ("endpoint.queue_depth", {"queue_depth_end": 101}, "true", "medium"),
        ("endpoint.queue_depth", {"queue_depth_end": 501}, "true", "high"),
        ("endpoint.failure_share", {"tasks_completed": 95, "tasks_failed": 3, "tasks_timeout": 2}, "false", "medium"),
        ("endpoint.failure_share", {"tasks_completed": 94, "tasks_failed": 4, "tasks_timeout": 2}, "true", "medium"),
        ("endpoint.failure_share", {"tasks_completed": 0, "tasks_failed": 0, "tasks_timeout": 0}, "not_measurable", "medium"),
        ("endpoint.gpu", {"gpu_n": 2, "gpu_sum": 59}, "true", "info"),
        ("endpoint.gpu", {"gpu_n": 2, "gpu_sum": 60}, "false", "info"),
        ("endpoint.gpu", {"gpu_n": None, "gpu_sum": None}, "not_measurable", "info"),
        ("endpoint.cold_start", {"cold_starts": 2, "cold_start_sum_ms": 360_001}, "true", "medium"),
        ("endpoint.no_workers", {"total_workers": 0, "queue_depth_end": 0}, "false", "critical"),
        ("endpoint.no_workers", {"total_workers": 0, "queue_depth_end": 1}, "true", "critical"),
        ("endpoint.no_workers", {"total_workers": 1, "queue_depth_end": 9}, "false", "critical"),
        ("endpoint.no_workers", {"total_workers": None, "queue_depth_end": 9}, "not_measurable", "critical"),
    ],
)  # fmt: skip
def test_shipped_endpoint_rules_once_they_are_switched_on(shop: World, rule_id, figures, condition, severity):
    configure(shop, {"id": rule_id})
    minute(shop, 0, **figures)
    said = say(shop, rule_id, 1, endpoint="e")
    assert (said.condition, said.severity) == (condition, severity)


def test_endpoint_rules_are_off_as_shipped(shop: World):
    configure(shop)
    minute(shop, 0, queue_depth_end=10_000, total_workers=0)
    shop.read_source(60, closed_through=shop.at(60))
    assert not [o for o in shop.tick(60) if o.type.startswith("endpoint.")]


def test_a_source_that_is_not_read_keeps_its_rules_as_they_are(shop: World):
    configure(shop, {"id": "endpoint.queue_depth"})
    minute(shop, 0, queue_depth_end=10_000)
    shop.read_source(60, closed_through=shop.at(60))
    assert shop.say(300, "endpoint.queue_depth") is None


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"metric": "p95_executoin_ms"}, "did you mean p95_execution_ms"),
        ({"metric": "endpoint_minute_stat.p95_execution_ms"}, "unknown table"),
        ({"metric": "process_sample.rss"}, "has no number"), ({"metric": "process_sample.scope"}, "has no number"),
        ({"metric": "process_sample.threads", "window": 2}, "window must be 1"),
        ({"metric": "active_workers", "window": 5}, "cannot be taken over 5 buckets"),
        ({"metric": "tasks_failed", "filter": {"job": "x"}}, "is no scope"),
        ({"metric": "tasks_failed", "id": "tasks.backlog"}, "is a shipped rule"),
    ],
)  # fmt: skip
def test_a_rule_that_measures_nothing_is_an_error_with_its_line(tmp_path, bad, text):
    entry = rule("x", ">", 1) | bad
    lines = ["version: 1", "rules:", f"  - {json.dumps(entry)}"]
    (tmp_path / "monitoring.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"monitoring\.yaml:3") as error:
        load_settings(tmp_path / "monitoring.yaml")
    assert text in str([str(p) for p in error.value.problems])


def test_every_derived_minute_column_that_is_a_ratio_of_sums_can_be_taken_over_a_window():
    for name in (
        "avg_queue_wait_ms",
        "avg_worker_utilization",
        "slot_utilization",
        "success_rate",
        "total_idle_time_sec",
    ):
        assert find(f"endpoint_minute_stats.{name}", 5).kind == "ratio"
    with pytest.raises(UnknownMetric):
        find("endpoint_minute_stats.avg_idle_duration_sec", 5)
