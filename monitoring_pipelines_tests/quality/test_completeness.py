"""Missing outputs and what counts as one (C-101 to C-103, E-102)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring_pipelines_tests.quality.bench import NOW, Store
from monitoring_pipelines_tests.support.source_tables import VARIABLE

END = NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("with_output", "total", "number", "text", "health", "severity"),
    [
        (40, 40, 100.00, "100.0%", "healthy", None),
        (38, 40, 95.00, "95.0%", "healthy", "low"),
        (37, 40, 92.50, "92.5%", "degraded", "medium"),
        (32, 40, 80.00, "80.0%", "degraded", "medium"),
        (31, 40, 77.50, "77.5%", "unhealthy", "high"),
        (20, 40, 50.00, "50.0%", "unhealthy", "high"),
        (19, 40, 47.50, "47.5%", "unhealthy", "critical"),
        (759, 800, 94.88, "94.9%", "degraded", "medium"),
    ],
)
def test_bands_are_judged_on_exact_counts(store, with_output, total, number, text, health, severity):
    world = store()
    world.tasks(total, with_output, END)
    done = world.check("missing_outputs")
    assert (done.metrics["completion_rate_value"], done.metrics["completion_rate"]) == (number, text)
    assert (done.health, done.severity) == (health, severity)
    assert [found.severity for found in done.findings] == ([severity] if severity else [])


def test_a_finding_names_counts_rate_and_the_oldest_ten_tasks(store):
    world = store()
    world.tasks(40, 25, END)
    world.task("unsettled", NOW - timedelta(seconds=299))
    found = world.check("missing_outputs").findings[0]
    assert found.alert_type == "missing_task_outputs"
    assert {name: found.details[name] for name in ("time_range_hours", "total_success_tasks", "missing_count", "missing_rate", "pending_settle")} == {
        "time_range_hours": 24, "total_success_tasks": 40, "missing_count": 15, "missing_rate": "37.5%", "pending_settle": 1,
    }  # fmt: skip
    assert found.task_ids == tuple(f"t{number:06d}" for number in range(25, 35))


def test_metrics_of_the_specification_example(store):
    world = store()
    world.tasks(40, 33, END)
    for number in range(8):
        world.output(f"t{number:06d}", END)
    world.task("pending", NOW - timedelta(seconds=10))
    world.task("failed1", END, status="failed")
    world.task("failed2", END, status="cancelled")
    metrics = world.check("missing_outputs").metrics
    assert metrics == {
        "total_tasks": 43, "success_tasks": 40, "tasks_with_outputs": 33, "missing_count": 7, "pending_settle": 1,
        "completion_rate": "82.5%", "completion_rate_value": 82.5, "missing_rate": "17.5%", "missing_rate_value": 17.5,
        "total_outputs": 41, "distinct_outputs": 41, "duplicate_rows": 0, "invalid_outputs": 0, "no_end_time": 0,
        "avg_outputs_per_task": "1.2", "avg_outputs_per_task_value": 1.2424, "time_range_hours": 24,
    }  # fmt: skip


def test_without_tasks_nothing_is_known_and_nobody_is_told(store):
    done = store().check("missing_outputs")
    assert (done.status, done.health, done.findings) == ("insufficient_data", "unknown", ())
    assert done.metrics["completion_rate"] is None
    assert done.metrics["completion_rate_value"] is None


def test_borders_belong_to_one_window_only(store):
    world = store()
    world.task("first", NOW - timedelta(hours=2))
    world.task("last", NOW - timedelta(hours=1))
    assert world.check("missing_outputs", 1, to=NOW - timedelta(hours=1)).metrics["success_tasks"] == 1
    assert world.check("missing_outputs", 1).metrics["success_tasks"] == 1


def test_a_task_is_settled_exactly_at_the_limit(store):
    world = store()
    world.task("settled", NOW - timedelta(seconds=300))
    world.task("not yet", NOW - timedelta(seconds=300) + timedelta(microseconds=1))
    metrics = world.check("missing_outputs").metrics
    assert (metrics["success_tasks"], metrics["pending_settle"]) == (1, 1)


@pytest.mark.parametrize(
    ("row", "valid"),
    [
        ({}, True),
        ({"valid": False}, False),
        ({"is_deleted": True}, False),
        ({"origin": "placeholder"}, False),
        ({"origin": "repair"}, True),
        ({"deleted_at": NOW, "deleted_reason": "hard"}, False),
        ({"deleted_at": NOW, "deleted_reason": "retention"}, True),
        ({"created_at": None}, True),
    ],
)
def test_what_makes_a_task_complete(store, row, valid):
    world = store()
    world.task("t", END)
    world.output("t", row.pop("created_at", END), **row)
    assert world.check("missing_outputs").metrics["tasks_with_outputs"] == int(valid)


@pytest.mark.parametrize(
    "row",
    [
        {"is_deleted": True},
        {"status": "failed"},
        {"output_expected": False},
        {"deleted_at": NOW, "deleted_reason": "hard"},
    ],
)
def test_tasks_that_owe_no_output(store, row):
    world = store()
    world.task("t", END, **row)
    assert world.check("missing_outputs").metrics["success_tasks"] == 0


def test_a_task_without_end_is_placed_by_its_creation(store):
    world = store()
    world.task("t", END, 1, ended_at=None, created_at=END)
    metrics = world.check("missing_outputs").metrics
    assert (metrics["success_tasks"], metrics["no_end_time"]) == (1, 1)


def test_many_rows_of_one_task_cannot_hide_another(store):
    world = store()
    world.task("a", END, 7)
    world.task("b", END)
    metrics = world.check("missing_outputs").metrics
    assert (metrics["tasks_with_outputs"], metrics["missing_count"], metrics["total_outputs"]) == (1, 1, 7)


def test_keys_differ_by_case(store):
    world = store()
    world.task("X9", END)
    world.output("x9", END)
    assert world.check("missing_outputs").metrics["missing_count"] == 1


def test_limits_of_the_bands_are_configuration(store):
    world = store("checks: {bands: {healthy: 99, degraded: 98, critical: 97}}")
    world.tasks(100, 96, END)
    done = world.check("missing_outputs")
    assert (done.health, done.severity) == ("unhealthy", "critical")


@given(st.permutations(range(12)))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_rows_changes_nothing(tmp_path_factory, monkeypatch, order):
    monkeypatch.setenv(VARIABLE, "mysql://nobody@127.0.0.1:1/none")
    world = Store(tmp_path_factory.mktemp("order"), "tktool")
    for number in order:
        world.task(f"t{number:02d}", END - timedelta(minutes=number), number % 3, endpoint=f"e{number % 2}")
    done = world.check("missing_outputs")
    assert done.metrics["missing_count"] == 4
    assert done.metrics["total_outputs"] == 12
    assert done.findings[0].task_ids == ("t09", "t06", "t03", "t00")
    assert done.findings[0].details["contributions"]["endpoint"] == [
        {
            "dimension": "endpoint", "value": name, "tasks": 6, "missing": 2, "share_of_loss": 50.0,
            "share_of_traffic": 50.0, "missing_rate": 33.33, "missing_rate_before": None,
        }
        for name in ("e0", "e1")
    ]  # fmt: skip
