"""Check runs in the state store on every dialect: stored, read as of an instant, paged, pruned; thresholds."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.quality import thresholds
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.state import checks
from monitoring_pipelines.state.ids import new_id

AT = datetime(2026, 2, 1, 6, 0, 0, 123456)
HOUR = timedelta(hours=1)


def run_of(at, missing=1, run_type="full", status=None, findings=None):
    found = tuple(
        Finding(
            "shop", "missing_outputs", "missing_task_outputs", "high", f"缺失 {n}", at, {"n": n}, (f"t{n}",), {"a": "b"}
        )
        for n in range(missing if findings is None else findings)
    )
    outcome = CheckOutcome(
        "shop", "missing_outputs", "findings" if found else "passed", at - HOUR, at, "high" if found else None,
        "unhealthy", {"missing_count": missing}, found, None, at, False, None,
    )  # fmt: skip
    return CheckRun(
        new_id(at), run_type, "schedule", status or "issues_detected", at, at, at + timedelta(seconds=2), at - HOUR, at, 1,
        (outcome,), None, {"other": "no route"},
    )  # fmt: skip


def save(store, run):
    started = checks.start(store, run)
    checks.finish(store, run)
    return started


def test_a_run_comes_back_as_it_was_stored(store):
    run = run_of(AT, 3)
    save(store, run)
    assert checks.load(store, run.run_id) == run
    assert checks.load(store, "nothing") is None
    assert checks.counts_of(store, [run.run_id]) == {run.run_id: {"high": 3}}


def test_runs_are_paged_newest_first_with_the_number_of_all_matches(store):
    for number in range(5):
        save(store, run_of(AT + HOUR * number, run_type="full" if number % 2 else "quick"))
    runs, total = checks.page(store, number=2, size=2)
    assert ([run.scheduled_at for run in runs], total) == ([AT + HOUR * 2, AT + HOUR], 5)
    assert checks.page(store, run_type="full")[1] == 2
    assert checks.page(store, status="healthy")[1] == 0
    assert checks.page(store, source_id="shop")[1] == 5
    assert checks.page(store, source_id="else")[1] == 0
    assert checks.page(store, before=AT + HOUR)[1] == 1
    assert set(checks.newest_runs(store)) == {"quick", "full"}


def test_what_was_believed_is_the_newest_run_that_had_ended(store):
    for number, missing in enumerate((5, 0, 7)):
        save(store, run_of(AT + HOUR * number, missing))
    known = [
        checks.believed(store, "missing_outputs", "shop", at=AT + HOUR * n + timedelta(seconds=2)) for n in range(3)
    ]
    assert [one.outcome.metrics["missing_count"] for one in known] == [5, 0, 7]
    assert [len(one.outcome.findings) for one in known] == [5, 0, 7]
    assert checks.believed(store, "missing_outputs", "shop", at=AT) is None
    assert checks.believed(store, "missing_outputs", "shop", run_type="deep") is None


def test_due_times_that_were_not_executed_are_recorded_once(store):
    for _ in range(2):
        run = checks.record_unexecuted(store, "full", "missed", AT, AT + HOUR, count=30)
    assert checks.page(store, status="missed") == ([run], 1)
    assert checks.last_due(store, "full") == AT
    assert checks.last_due(store, "deep") is None


def test_old_runs_go_with_their_findings_and_the_newest_of_a_type_stays(store):
    old = [run_of(AT - timedelta(days=500) + HOUR * n, run_type="quick") for n in range(3)]
    kept = run_of(AT - timedelta(days=450), run_type="deep")
    fresh = run_of(AT, run_type="quick")
    for run in (*old, kept, fresh):
        save(store, run)
    assert checks.prune(store, AT, 400) == 3
    assert {run.run_id for run in checks.page(store)[0]} == {kept.run_id, fresh.run_id}
    assert sum(checks.findings_page(store, run.run_id)[1] for run in (*old, kept, fresh)) == 2


def test_thresholds_are_typed_and_range_checked_and_all_or_none(store):
    settings = Settings()
    changed = thresholds.change(settings, store, {"max_pending_tasks": 80, "min_success_rate": 0.9}, "ann", AT)
    assert (changed.max_pending_tasks, changed.min_success_rate, changed.max_failed_rate) == (80, 0.9, 0.3)
    assert thresholds.effective(settings, store) == changed
    for bad in (
        {"max_pending_tasks": True},
        {"max_failed_rate": 2},
        {"max_pending_tasks": "5"},
        {"nope": 1},
        {"max_queue_wait_time": 0},
    ):
        with pytest.raises(UsageError):
            thresholds.change(settings, store, {"max_execution_time": 5} | bad, "ann", AT)
    assert thresholds.effective(settings, store) == changed
    thresholds.change(settings, store, {"max_pending_tasks": None}, "bob", AT + HOUR)
    assert thresholds.effective(settings, store).max_pending_tasks == 50
    assert [(e["name"], e["old"], e["new"], e["actor"]) for e in thresholds.journal(store)] == [
        ("max_pending_tasks", 80, 50, "bob"), ("min_success_rate", 0.7, 0.9, "ann"), ("max_pending_tasks", 50, 80, "ann"),
    ]  # fmt: skip
