"""Processes and hosts: thresholds are exact, unknown is not zero, trends need ten samples (C-401 to C-411, C-450, C-451)."""

from __future__ import annotations

import pytest

from monitoring_pipelines_tests.rules.conftest import COLLECTOR, World

MIB = 1_048_576


@pytest.mark.parametrize(
    ("rule", "figures", "condition", "label"),
    [
        ("resource.memory", {"rss_bytes": 3_000_000_000}, "false", "warning"),
        ("resource.memory", {"rss_bytes": 3_000_000_001}, "true", "warning"),
        ("resource.memory", {"rss_bytes": None}, "not_measurable", "warning"),
        ("resource.connections", {"conns": 49}, "false", "warning"),
        ("resource.connections", {"conns": 50}, "true", "warning"),
        ("resource.connections", {"conns": 99}, "true", "warning"),
        ("resource.connections", {"conns": 100}, "true", "critical"),
        ("resource.connections", {"conns": 0}, "false", "warning"),
        ("resource.fds", {"fds": 699_999_999_999_999_999, "fds_max": 10**18}, "false", "warning"),
        ("resource.fds", {"fds": 700_000_000_000_000_000, "fds_max": 10**18}, "true", "warning"),
        ("resource.fds", {"fds": 85, "fds_max": 100}, "true", "critical"),
        ("resource.fds", {"fds": 849_999_999_999_999_999, "fds_max": 10**18}, "true", "warning"),
        ("resource.fds", {"fds": 100, "fds_max": None}, "not_measurable", "warning"),
        ("resource.cpu", {"cpu_pct": 85.0, "load1": 1.4, "effective_cores": 2.0}, "true", "warning"),
        ("resource.cpu", {"cpu_pct": 85.0, "load1": 2.1, "effective_cores": 3.0}, "true", "warning"),
        ("resource.cpu", {"cpu_pct": 100.0, "load1": 1.39, "effective_cores": 2.0}, "false", "warning"),
        ("resource.cpu", {"cpu_pct": 95.0, "load1": 1.8, "effective_cores": 2.0}, "true", "critical"),
        ("resource.cpu", {"cpu_pct": 99.0, "load1": 1.79, "effective_cores": 2.0}, "true", "warning"),
        ("resource.cpu", {"cpu_pct": 84.9, "load1": 8.0, "effective_cores": 2.0}, "false", "warning"),
        ("resource.cpu", {"cpu_pct": None, "load1": 8.0, "effective_cores": 2.0}, "not_measurable", "warning"),
        ("resource.cpu", {"cpu_pct": 99.0, "load1": None, "effective_cores": 2.0}, "not_measurable", "warning"),
    ],
)  # fmt: skip
def test_thresholds_of_a_sample(world: World, rule, figures, condition, label):
    world.process(0, **figures)
    said = world.say(1, rule, process="collector")
    assert (said.condition, said.severity_label) == (condition, label)
    assert said.severity == {"warning": "medium", "critical": "critical"}[label]


@pytest.mark.parametrize(
    ("rss_mib", "free_mib", "condition", "label"),
    [
        (999.9, 1500, "false", "warning"), (1000, 1500, "true", "warning"), (1400, 1500, "true", "critical"),
        (1199, 3000, "false", "warning"), (1200, 3000, "true", "warning"), (1680, 3000, "true", "critical"),
        (799, 1000, "false", "warning"), (800, 1000, "true", "warning"), (1120, 1000, "true", "critical"),
        (1000, 2048, "true", "warning"), (1000, 2049, "false", "warning"), (800, 1024, "false", "warning"),
    ],
)  # fmt: skip
def test_memory_levels_move_with_the_free_memory_of_the_host(world: World, rss_mib, free_mib, condition, label):
    world.configure(paths={"data": str(world.root)}, rules=[{"id": "resource.memory_level"}], **COLLECTOR)
    world.process(0, rss_bytes=int(rss_mib * MIB), host_mem_available_bytes=free_mib * MIB)
    said = world.say(1, "resource.memory_level")
    assert (said.condition, said.severity_label) == (condition, label)


def test_levels_and_threads_are_off_as_shipped_and_limits_until_configured(world: World):
    world.process(0, rss_bytes=5000 * MIB, threads=500, host_mem_available_bytes=1)
    said = {o.type for o in world.tick(1)}
    assert not said & {"resource.memory_level", "resource.threads", "resource.limits"}


def test_limits_of_one_process_are_strict(world: World):
    limits = {"collector": {"connections": {"soft": 10, "hard": 20}, "fds": {"hard": 5}}}
    world.configure(paths={"data": str(world.root)}, resource_limits=limits, **COLLECTOR)
    for second, (conns, condition, label) in enumerate(
        [(10, "false", "warning"), (11, "true", "warning"), (20, "true", "warning"), (21, "true", "critical")]
    ):
        world.process(15 * second, conns=conns, fds=5)
        said = world.say(15 * second, "resource.limits", metric="connections")
        assert (conns, said.condition, said.severity_label) == (conns, condition, label)
    assert world.say(46, "resource.limits", metric="fds").condition == "false"


def test_every_new_sample_is_evaluated_not_only_the_newest(world: World):
    world.process(0, conns=1)
    world.tick(1)
    for second, conns in ((10, 120), (20, 1), (30, 60)):
        world.process(second, conns=conns)
    said = [(o.condition, o.severity_label) for o in world.tick(31) if o.type == "resource.connections"]
    assert said == [("true", "critical"), ("false", "warning"), ("true", "warning")]
    assert [o.condition for o in world.tick(32) if o.type == "resource.connections"] == ["true"]


def test_a_process_without_news_says_nothing_so_that_its_alerts_stay(world: World):
    world.process(0, conns=120)
    world.tick(0)
    world.collect(31)  # collecting works, but there is no sample of this process any more
    assert world.say(31, "resource.connections", process="collector") is None


def series(world: World, name: str, values: list, step_s: int = 15, **more) -> None:
    for number, value in enumerate(values):
        world.process(step_s * number, **{name: value}, **more)


@pytest.mark.parametrize(
    ("values", "condition", "severity"),
    [
        ([20, 24, 25, 31, 33, 38, 44, 47, 52, 60], "true", "medium"),
        ([12, 12, 13, 13, 14, 14, 15, 15, 16, 16], "true", "info"),
        ([9] * 10, "false", "info"), ([9] * 9, "insufficient_data", "info"),
        ([60, 52, 47, 44, 38, 33, 31, 25, 24, 20], "false", "info"),
    ],
)  # fmt: skip
def test_growth_of_connections_is_classified(world: World, values, condition, severity):
    series(world, "conns", values)
    said = world.say(15 * len(values), "leak.trend", metric="conns")
    assert (said.condition, said.severity) == (condition, severity)
    if condition == "true":
        assert said.details["fastest"][0][0] == "conns"


def test_memory_is_measured_in_mib_and_samples_without_the_figure_are_left_out(world: World):
    series(world, "rss_bytes", [MIB * n if n % 2 else None for n in range(20)])
    said = world.say(300, "leak.trend", metric="rss")
    assert (said.condition, said.value, said.details["unit"]) == ("true", 2.0, "MiB")


def test_descriptors_grow_in_percent_of_their_limit(world: World):
    series(world, "fds", [100 + 10 * n for n in range(10)], fds_max=1000)
    said = world.say(150, "leak.trend", metric="fds")
    assert (said.condition, said.value, said.severity) == ("true", 1.0, "info")


def test_limits_of_trends_are_configurable_per_metric(world: World):
    world.configure(paths={"data": str(world.root)}, trends={"conns": {"slow": 5, "rapid": 10}}, **COLLECTOR)
    series(world, "conns", [3 * n for n in range(10)])
    assert world.say(150, "leak.trend", metric="conns").condition == "false"


def test_close_wait_must_grow_to_be_a_leak(world: World):
    series(world, "tcp_by_state", [{"CLOSE_WAIT": 5}] * 10)
    assert world.say(150, "leak.close_wait").condition == "false"
    for n in range(10):
        world.process(200 + 15 * n, tcp_by_state={"ESTABLISHED": 1, "CLOSE_WAIT": 5 + n})
    assert world.say(335, "leak.close_wait").condition == "true"


def test_an_absent_state_is_zero_but_an_unmeasured_map_is_nothing(world: World):
    series(world, "tcp_by_state", [{"ESTABLISHED": 3}] * 9 + [{"CLOSE_WAIT": 1}])
    assert world.say(150, "leak.close_wait").condition == "true"
    world.process(150, tcp_by_state=None)
    assert world.say(151, "leak.close_wait").condition == "insufficient_data"


@pytest.mark.parametrize(("limit", "condition"), [(339, "true"), (340, "false")])
def test_descriptors_that_run_out_within_an_hour_are_foretold(world: World, limit, condition):
    """190 used and 10 more every 240 s are 150 more in an hour: at a limit of 340 exactly an hour is left."""
    scrape = {**COLLECTOR["scrapes"][0], "interval_s": 240}
    world.configure(paths={"data": str(world.root)}, scrapes=[scrape])
    series(world, "fds", [100 + 10 * n for n in range(10)], step_s=240, fds_max=limit)
    said = world.say(240 * 9 + 1, "fd.forecast")
    assert (said.condition, said.for_s) == (condition, 300)


def test_the_host_has_its_own_rules(world: World):
    world.collect(
        0,
        (
            "process_sample",
            "host",
            {"process_id": "host", "scope": "host", "cpu_pct": 90.0, "mem_pct": 90.1, "conns": 500},
        ),
    )
    said = world.tick(1)
    assert {o.type: (o.condition, o.severity) for o in said if o.labels.get("process") == "host"} == {
        "host.cpu": ("true", "medium"), "host.memory": ("true", "high"),
    }  # fmt: skip


def test_a_changed_threshold_moves_the_rule(world: World):
    world.configure(
        paths={"data": str(world.root)}, rules=[{"id": "resource.memory", "threshold": 100, "for": "1m"}], **COLLECTOR
    )
    world.process(0, rss_bytes=101)
    said = world.say(1, "resource.memory")
    assert (said.condition, said.threshold, said.for_s) == ("true", 100, 60)


def test_details_carry_the_last_ten_samples(world: World):
    series(world, "conns", [60] * 12)
    samples = world.say(180, "resource.connections").details["samples"]
    assert len(samples) == 10
    assert samples[-1]["conns"] == 60
