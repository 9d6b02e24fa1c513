"""Since when outputs are missing and what carries the loss."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring_pipelines_tests.quality.bench import NOW

HOUR = timedelta(hours=1)
BREAK = datetime(2026, 2, 1, 9, 0)


def lossy(store, breaks=BREAK, per_hour=8, hours=100, lost=lambda number: number % 2 == 0):
    """Every hour so many tasks on endpoints a and b; from the break on, those of b on worker w1 lose their output."""
    world = store()
    for back in range(hours, 0, -1):
        at = NOW - HOUR * back
        for number in range(per_hour):
            is_lost = at >= breaks and lost(number)
            world.task(
                f"{back:03d}-{number}", at + timedelta(minutes=number), 0 if is_lost else 1,
                endpoint="b" if number % 2 == 0 else "a", worker_key="w1" if is_lost else f"w{number % 3 + 2}",
            )  # fmt: skip
    return world


def test_a_loss_is_dated_to_the_hour_and_named(store):
    details = lossy(store).check("missing_outputs").findings[0].details
    assert details["since"] == {
        "at": BREAK, "at_local": "2026-02-01 17:00:00", "precision": "hour",
        "before_rate": 100.0, "after_rate": 50.0,
    } | {name: details["since"][name] for name in ("before_rate", "after_rate")}  # fmt: skip
    first = details["carried_by"][0]
    assert (first["dimension"], first["value"]) == ("endpoint", "b") or (first["dimension"], first["value"]) == (
        "worker",
        "w1",
    )
    endpoint = details["contributions"]["endpoint"][0]
    assert endpoint == {
        "dimension": "endpoint", "value": "b", "tasks": 96, "missing": 96, "share_of_loss": 100.0,
        "share_of_traffic": 50.0, "missing_rate": 100.0, "missing_rate_before": 0.0,
    }  # fmt: skip


def test_few_tasks_an_hour_date_a_loss_to_the_day(store):
    since = lossy(store, datetime(2026, 2, 1, 16, 0), per_hour=2).check("missing_outputs").findings[0].details["since"]
    assert (since["at_local"], since["precision"]) == ("2026-02-02 00:00:00", "day")


def test_a_loss_of_this_morning_is_found_without_a_complete_day(store):
    since = lossy(store, NOW - 3 * HOUR).check("missing_outputs").findings[0].details["since"]
    assert (since["at"], since["precision"]) == (NOW - 3 * HOUR, "hour")


def test_a_steady_loss_has_no_beginning(store):
    details = lossy(store, datetime(2025, 1, 1)).check("missing_outputs").findings[0].details
    assert details["since"] is None
    assert details["carried_by"][0]["share_of_loss"] == 100.0


def test_dimensions_with_one_value_explain_nothing(store):
    details = lossy(store).check("missing_outputs").findings[0].details
    assert "status" not in details["contributions"]
    assert "origin" not in details["contributions"]
