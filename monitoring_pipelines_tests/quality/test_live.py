"""The rules of the alert tick as checks: same values as the alerts, one finding per scope (C-310 to C-350)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from monitoring_pipelines.quality import runs, thresholds
from monitoring_pipelines.quality.model import CheckRun
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines.state.tables import notification_attempt
from monitoring_pipelines_tests.quality.bench import NOW, Store

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    state = StateStore(f"sqlite:///{path}")
    state.engine()
    state.dispose()
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def shop(store, **made) -> Store:
    """A source that was read just now."""
    world = store(**made)
    world.add("meta.source_state", as_of=NOW)
    return world


def with_state(world: Store, tmp_path: Path, empty_state: Path) -> Store:
    path = tmp_path / "own.sqlite3"
    shutil.copy(empty_state, path)
    world.state = StateStore(f"sqlite:///{path}")
    return world


def attempt(world: Store, key: str, age_s: float, outcome: str = "open", **more) -> None:
    """An attempt that began so long ago; ended ones ended a second later."""
    start = NOW - timedelta(seconds=age_s)
    ended = None if outcome == "open" else start + SECOND
    world.add("core.task_attempt", **{"task_key": key, "attempt_no": 1, "started_at": start, "ended_at": ended,
              "outcome": outcome, "counted": ended is not None, "endpoint": "e"} | more)  # fmt: skip
    if ended is not None:
        world.add("core.task_instant", task_key=key, at=ended, kind=outcome)


def wait(world: Store, count: int, age_s: float) -> None:
    for number in range(count):
        world.add("core.task_wait", task_key=f"t{number:02d}", endpoint="e", from_at=NOW - timedelta(seconds=age_s))


@pytest.mark.parametrize(("count", "status"), [(50, "passed"), (51, "findings")])
def test_a_backlog_is_more_than_fifty_waiting_tasks(store, count, status):
    world = shop(store)
    wait(world, count, 1)
    done = world.check("tasks.backlog")
    assert (done.status, done.metrics) == (status, {"value": count, "threshold": 50})
    assert [(f.severity, f.alert_type, len(f.task_ids)) for f in done.findings] == (
        [("medium", "tasks.backlog", 10)] if status == "findings" else []
    )


@pytest.mark.parametrize(("age_s", "status"), [(1800, "passed"), (1800.000001, "findings")])
def test_a_task_waits_too_long_beyond_half_an_hour(store, age_s, status):
    world = shop(store)
    wait(world, 1, age_s)
    done = world.check("tasks.queue_wait")
    assert (done.status, done.severity) == (status, "high" if status == "findings" else None)


def test_nobody_waits_where_nothing_is_queued(store):
    world = shop(store)
    assert world.check("tasks.queue_wait").status == world.check("tasks.backlog").status == "passed"


@pytest.mark.parametrize(("age_s", "status"), [(3600, "passed"), (3600.000001, "findings")])
def test_a_task_runs_too_long_beyond_an_hour(store, age_s, status):
    world = shop(store)
    attempt(world, "t", age_s)
    done = world.check("tasks.long_running")
    assert (done.status, done.severity) == (status, "medium" if status == "findings" else None)


@pytest.mark.parametrize(
    ("completed", "failed", "timeout", "failure", "success"),
    [
        (7, 2, 1, "passed", "passed"),  # exactly 30 % and 70 %
        (69, 15, 16, "findings", "findings"),
        (0, 1, 0, "findings", "findings"),
        (1, 0, 0, "passed", "passed"),
        (0, 0, 0, "insufficient_data", "insufficient_data"),
    ],
)
def test_rates_of_the_last_day_are_exact_and_nothing_ended_is_no_rate(
    store, completed, failed, timeout, failure, success
):
    world = shop(store)
    for outcome, count in (("completed", completed), ("failed", failed), ("timeout", timeout)):
        for number in range(count):
            attempt(world, f"{outcome}{number}", 10 + number, outcome)
    attempt(world, "running", 10)
    attempt(world, "yesterday", 86401.5, "failed")
    assert world.check("tasks.failure_rate").status == failure
    assert world.check("tasks.success_rate").status == success


def test_thresholds_in_force_are_those_of_the_checks_too(store, tmp_path, empty_state):
    world = with_state(shop(store), tmp_path, empty_state)
    thresholds.change(world.settings, world.state, {"max_pending_tasks": 1}, "ann", NOW)
    wait(world, 2, 1)
    assert world.check("tasks.backlog").metrics == {"value": 2, "threshold": 1}


def test_attempts_over_their_limit_are_told_where_the_source_times_out(store):
    world = shop(store, extra="timeouts: {mode: source, limit_s: 60}")
    world.add("meta.source_setting", timeout_mode="source", timeout_limit_s=60.0)
    attempt(world, "in time", 60)
    attempt(world, "late", 60.000001)
    done = world.check("tasks.timeouts")
    assert (done.status, done.severity, done.metrics["value"]) == ("findings", "high", 1)
    assert done.findings[0].task_ids == ("late",)


def test_derived_timeouts_are_told_for_an_hour(store):
    world = shop(store, extra="timeouts: {mode: derive, limit_s: 60}")
    attempt(world, "recent", 3601, "timeout", end_source="derived_timeout")
    attempt(world, "older", 3601.5, "timeout", end_source="derived_timeout")
    attempt(world, "reported", 60, "timeout", end_source="event")
    assert world.check("tasks.timeouts").findings[0].task_ids == ("recent",)


def test_time_limits_do_not_apply_where_they_are_off(store):
    world = shop(store, extra='timeouts: {mode: "off"}')
    attempt(world, "long", 1e6)
    assert world.check("tasks.timeouts").status == "not_applicable"


def test_a_source_that_is_not_read_passes_nothing(store):
    world = store()
    world.add("meta.source_state", as_of=NOW - HOUR)
    wait(world, 60, 1)
    done = world.check("tasks.backlog")
    assert (done.status, done.findings) == ("insufficient_data", ())
    assert "not being read" in done.message


def test_a_rule_that_is_switched_off_is_not_applicable(store):
    world = shop(store, head="rules: [{id: tasks.backlog, enabled: false}]")
    wait(world, 60, 1)
    assert world.check("tasks.backlog").status == "not_applicable"
    assert world.check("tasks.queue_wait").status == "passed"


# --- invariants (C-310) and slots (C-330) -------------------------------------------------------------------------------


def test_attempts_that_are_in_no_state_violate_the_sum(store):
    world = shop(store)
    attempt(world, "good", 10, "completed")
    attempt(world, "odd", 10, "vanished")
    done = world.check("tasks.invariants")
    assert (done.status, done.severity) == ("findings", "high")
    assert done.findings[0].details == {"violations": [{"invariant": "I1", "started": 2, "sum": 1}]}


@pytest.mark.parametrize(("raw_from", "status"), [(None, "findings"), (NOW - DAY, "passed")])
def test_totals_shrink_only_where_retention_is_declared(store, tmp_path, empty_state, raw_from, status):
    world = with_state(shop(store), tmp_path, empty_state)
    for key in ("a", "b"):
        attempt(world, key, 10, "completed")
    outcome = world.check("tasks.invariants")
    run = CheckRun("r1", "full", "schedule", "healthy", NOW - SECOND, NOW - SECOND, NOW - SECOND, outcomes=(outcome,))
    checks.start(world.state, run)
    checks.finish(world.state, run)
    assert world.check("tasks.invariants").status == "passed"
    with world.pipe.warehouse.writer("test") as con:
        con.execute("DELETE FROM core.task_attempt WHERE task_key = 'b'")
        con.execute("UPDATE meta.source_state SET raw_from = ?", [raw_from])
    done = world.check("tasks.invariants")
    assert done.status == status
    if status == "findings":
        assert [(v["total"], v["before"], v["now"]) for v in done.findings[0].details["violations"]] == [
            ("started", 2, 1), ("completed", 2, 1), ("ended", 2, 1),
        ]  # fmt: skip


@pytest.mark.parametrize(("running", "available"), [(1, 1), (2, 0), (3, 0)])
def test_slots_in_use_are_open_attempts_and_timed_out_ones_leak(store, running, available):
    world = shop(store, extra="slots: {limit: 2}")
    for number in range(running):
        attempt(world, f"r{number}", 10)
    attempt(world, "leaked", 10, "timeout")
    attempt(world, "reported", 10, "timeout", executor_ended_at=NOW - SECOND)
    done = world.check("tasks.slots")
    assert done.metrics["slots"] == {"limit": 2, "in_use": running, "available": available, "leaked": 1}
    assert done.findings == ()


# --- jobs (C-340, C-341) ------------------------------------------------------------------------------------------------


def job(world: Store, key: str = "nightly", **more) -> None:
    world.add("raw.job", **{"job_id": key, "name": key, "enabled": True, "risk_level": "critical", "schedule": "600",
              "first_seen_at": NOW - DAY} | more)  # fmt: skip


def ran(world: Store, age_s: float, outcome: str, key: str = "nightly", **more) -> None:
    start = NOW - timedelta(seconds=age_s)
    world.add("raw.job_run", **{"run_key": f"{key}{age_s}", "job_id": key, "outcome": outcome, "started_at": start,
              "ended_at": start} | more)  # fmt: skip


def found(done) -> list[tuple[str, str]]:
    return [(f.labels["job"], f.severity) for f in done.findings]


def test_every_failing_job_is_a_finding_of_its_own_risk_and_a_success_ends_it(store):
    world = shop(store, preset="scheduler")
    for key, risk, outcomes in (
        ("bad", "critical", ("success", "failure")), ("good", "high", ("failure", "success")),
        ("slow", "low", ("success", "timeout")),
    ):  # fmt: skip
        job(world, key, risk_level=risk)
        for number, outcome in enumerate(outcomes):
            ran(world, 20 - number, outcome, key)
    job(world, "off", enabled=False)
    job(world, "removed", deleted_at=NOW, deleted_reason="hard")
    for key in ("off", "removed"):
        ran(world, 5, "failure", key)
    done = world.check("jobs.failing")
    assert sorted(found(done)) == [("bad", "critical"), ("slow", "low")]
    assert (done.severity, done.metrics) == ("critical", {"judged": 3, "holding": 2})


def test_failures_end_with_a_success_also_where_ends_are_not_mapped(store):
    world = shop(store, preset="scheduler")
    for key, outcomes in (("good", ("failure", "success")), ("bad", ("success", "failure"))):
        job(world, key, sla_seconds=1)
        for number, outcome in enumerate(outcomes):
            ran(world, 20 - number, outcome, key, ended_at=None, duration_ms=2000 if outcome == "success" else 10)
    assert found(world.check("jobs.failing")) == [("bad", "critical")]
    assert found(world.check("jobs.duration_over_sla")) == [("good", "critical")]


def test_a_run_with_nothing_but_an_end_is_a_run(store):
    world = shop(store, preset="scheduler")
    job(world)
    ran(world, 10, "failure", started_at=None)
    assert found(world.check("jobs.failing")) == [("nightly", "critical")]


@pytest.mark.parametrize(("lasted_ms", "status"), [(1001, "passed"), (1001.001, "findings")])
def test_the_last_duration_is_compared_with_the_agreement_exactly(store, lasted_ms, status):
    """1000 · 1.001 is less than 1001 as a float."""
    world = shop(store, preset="scheduler")
    job(world, sla_seconds=1.001)
    ran(world, 10, "success", duration_ms=lasted_ms)
    assert world.check("jobs.duration_over_sla").status == status


@pytest.mark.parametrize(("age_s", "status"), [(1500, "passed"), (1500.000001, "findings")])
def test_a_job_is_missed_after_two_periods_and_five_minutes(store, age_s, status):
    world = shop(store, preset="scheduler")
    job(world)
    ran(world, age_s, "success")
    done = world.check("jobs.missed")
    assert (done.status, done.severity) == (status, "critical" if status == "findings" else None)
    assert world.check("jobs.never_ran").status == "passed"


@pytest.mark.parametrize(("age_s", "status"), [(1200, "passed"), (1200.000001, "findings")])
def test_a_job_that_never_ran_is_told_after_two_periods_at_low_severity(store, age_s, status):
    world = shop(store, preset="scheduler")
    job(world, first_seen_at=NOW - timedelta(seconds=age_s))
    done = world.check("jobs.never_ran")
    assert (done.status, done.severity) == (status, "low" if status == "findings" else None)


@pytest.mark.parametrize(
    ("total", "failed", "status"),
    [(19, 19, "insufficient_data"), (20, 1, "findings"), (21, 1, "passed"), (40, 2, "findings"), (41, 2, "passed")],
)
def test_five_percent_of_at_least_twenty_runs_is_the_border(store, total, failed, status):
    world = shop(store, preset="scheduler")
    job(world)
    for number in range(total):
        ran(world, 100 + number, "failure" if number < failed else "success")
    ran(world, 90000, "failure")
    done = world.check("jobs.failure_rate")
    assert (done.status, done.severity) == (status, "medium" if status == "findings" else None)


# --- notifications (C-350) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ok", "failed", "down", "ratio"),
    [(0, 1, "findings", "findings"), (9, 3, "passed", "passed"), (9, 4, "passed", "findings"),
     (1, 0, "passed", "passed"), (0, 0, "insufficient_data", "insufficient_data")],
)  # fmt: skip
def test_deliveries_of_the_product_itself_are_judged_by_channel(store, tmp_path, empty_state, ok, failed, down, ratio):
    world = with_state(shop(store), tmp_path, empty_state)
    world.flush()
    rows = [
        {"notification_id": f"n{number}", "attempt_no": 1, "channel": "ops", "ok": number < ok, "at": NOW - SECOND * (number + 1)}
        for number in range(ok + failed)
    ]  # fmt: skip
    rows.append(rows[0] | {"notification_id": "old", "ok": False, "at": NOW - timedelta(minutes=5)} if rows else {})
    with world.state.begin() as con:
        for row in filter(None, rows):
            con.execute(insert(notification_attempt).values(row))
    said = runs.evaluate(world.pipe, world.state, ["notify.channel_down", "notify.failure_ratio"])
    own = {one.check_id: one for one in said if one.source_id == "_self"}
    assert (own["notify.channel_down"].status, own["notify.failure_ratio"].status) == (down, ratio)
    for one in own.values():
        assert [(f.severity, f.labels) for f in one.findings] in ([], [("high", {"channel": "OPS"})])
    assert {one.status for one in said if one.source_id == "shop"} == {"not_applicable"}
