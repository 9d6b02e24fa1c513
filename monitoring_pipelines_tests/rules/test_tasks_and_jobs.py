"""Rules over tasks, jobs and notifications (C-107, C-311, C-312, C-320, C-340, C-341, C-350)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert

from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import notification_attempt, threshold
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines_tests.rules.conftest import SHOP, START, World, find

SETTING = {
    "source_id": "shop",
    "timeout_mode": "source",
    "timeout_limit_s": 3600.0,
    "has_output": True,
    "has_worker_snapshot": False,
}


@pytest.fixture
def shop(warehouse_world: World) -> World:
    """A mapped source that was read at START and is read again by every ``tick``."""
    world = warehouse_world
    world.configure(paths={"data": str(world.root)}, language="en", sources=[SHOP])
    with world.pipe.warehouse.writer("test") as con:
        ensure_core(con)
    world.put("meta.source_setting", SETTING)
    world.read_source(0)
    return world


def say(world: World, second: float, rule: str, **labels: str):
    world.read_source(second)
    return world.say(second, rule, **labels)


def waiting(world: World, count: int, since: float) -> None:
    world.put("core.task_wait", *[
        {"source_id": "shop", "task_key": f"t{n}", "from_at": world.at(since + n / 1000), "task_hash": n} for n in range(count)
    ])  # fmt: skip


def attempt(world: World, key: str, start: float, end: float | None = None, outcome: str = "open", **more) -> None:
    row = {"source_id": "shop", "task_key": key, "attempt_no": 1, "started_at": world.at(start), "outcome": outcome,
           "counted": outcome != "open", "ended_at": None if end is None else world.at(end), "task_hash": hash(key) % 2**31}  # fmt: skip
    made = row | more
    world.put("core.task_attempt", made)
    if made["counted"]:
        outcome_of(world, key, made["ended_at"], outcome)


def outcome_of(world: World, key: str, at, kind: str) -> None:
    """A counted outcome, with or without an attempt."""
    world.put(
        "core.task_instant",
        {"source_id": "shop", "task_key": key, "at": at, "kind": kind, "task_hash": hash(key) % 2**31},
    )


def test_a_backlog_is_more_than_fifty_waiting_tasks(shop: World):
    waiting(shop, 50, 0)
    assert say(shop, 10, "tasks.backlog").condition == "false"
    shop.put("core.task_wait", {"source_id": "shop", "task_key": "one more", "from_at": shop.at(5), "task_hash": 99})
    said = say(shop, 10, "tasks.backlog")
    assert (said.condition, said.severity, said.value, said.threshold) == ("true", "medium", 51, 50)
    assert said.task_ids == tuple(f"t{n}" for n in range(10))


def test_tasks_deleted_while_waiting_are_no_backlog(shop: World):
    waiting(shop, 51, 0)
    shop.put("raw.task", {"source_id": "shop", "task_key": "t7", "task_hash": 7, "deleted_at": shop.at(3)})
    shop.put("raw.task", {"source_id": "shop", "task_key": "t8", "task_hash": 8, "is_deleted": True})
    assert say(shop, 10, "tasks.backlog").value == 49


def test_attempts_of_deleted_tasks_run_no_more(shop: World):
    attempt(shop, "gone", 0, task_hash=7)
    attempt(shop, "hidden", 0, task_hash=8)
    shop.put("raw.task", {"source_id": "shop", "task_key": "gone", "task_hash": 7, "deleted_at": shop.at(3)})
    shop.put("raw.task", {"source_id": "shop", "task_key": "hidden", "task_hash": 8, "is_deleted": True})
    assert say(shop, 4000, "tasks.long_running").condition == "false"
    assert say(shop, 4000, "tasks.timeouts").condition == "false"


def test_the_oldest_waiting_task_decides(shop: World):
    waiting(shop, 2, 0)
    assert say(shop, 1800, "tasks.queue_wait").condition == "false"
    said = say(shop, 1800.5, "tasks.queue_wait")
    assert (said.condition, said.severity) == ("true", "high")


def test_thresholds_set_at_run_time_win(shop: World):
    waiting(shop, 5, 0)
    row = {"name": "max_pending_tasks", "value": 4, "updated_at": START, "updated_by": "me"}
    with shop.state.begin() as con:
        upsert(con, threshold, [row])
    said = say(shop, 10, "tasks.backlog")
    assert (said.condition, said.threshold) == ("true", 4)


def test_long_running_attempts_are_told(shop: World):
    attempt(shop, "a", 0)
    attempt(shop, "b", 5000)
    assert say(shop, 3600, "tasks.long_running").condition == "false"
    said = say(shop, 5001, "tasks.long_running")
    assert (said.condition, said.severity, said.task_ids, said.details) == ("true", "medium", ("a",), {"count": 1})


def test_shares_of_the_last_day_are_exact_and_leave_unfinished_tasks_out(shop: World):
    for n in range(7):
        attempt(shop, f"good{n}", n, n + 1, "completed")
    attempt(shop, "bad0", 0, 2, "failed")
    attempt(shop, "bad1", 0, 2, "timeout")
    attempt(shop, "lost", 0, 2, "lost", counted=False)
    attempt(shop, "open", 0)
    said = say(shop, 100, "tasks.failure_rate")
    assert (said.condition, said.value) == ("false", pytest.approx(2 / 9))
    attempt(shop, "bad2", 0, 3, "failed")
    assert say(shop, 100, "tasks.failure_rate").condition == "false"  # exactly 30 %
    assert say(shop, 100, "tasks.success_rate").condition == "false"  # exactly 70 %
    attempt(shop, "bad3", 0, 4, "failed")
    failure, success = say(shop, 100, "tasks.failure_rate"), say(shop, 100, "tasks.success_rate")
    assert (failure.condition, failure.severity, success.condition, success.severity) == (
        "true",
        "high",
        "true",
        "medium",
    )
    assert "4 of 11 tasks" in failure.message
    assert say(shop, 86400 + 4, "tasks.failure_rate").condition == "false"  # the window is half-open and moves on


def test_tasks_that_failed_before_they_started_are_in_the_rates(shop: World):
    attempt(shop, "good", 0, 1, "completed")
    outcome_of(shop, "never started", shop.at(2), "failed")
    outcome_of(shop, "never started", shop.at(0), "submitted")
    outcome_of(shop, "called off", shop.at(2), "cancelled")
    assert say(shop, 10, "tasks.failure_rate").value == pytest.approx(1 / 2)


def test_without_an_ended_task_no_rate_is_judged(shop: World):
    attempt(shop, "open", 0)
    assert say(shop, 100, "tasks.failure_rate").condition == "insufficient_data"


def test_attempts_over_their_limit_are_told_where_the_source_times_out(shop: World):
    attempt(shop, "by source", 0)
    attempt(shop, "by endpoint", 0, endpoint="e")
    attempt(shop, "by deadline", 0, task_hash=5)
    shop.put("raw.endpoint", {"source_id": "shop", "endpoint": "e", "task_timeout_s": 60.0})
    shop.put("raw.task", {"source_id": "shop", "task_key": "by deadline", "task_hash": 5, "deadline_at": shop.at(30)})
    assert say(shop, 30, "tasks.timeouts").condition == "false"
    assert say(shop, 31, "tasks.timeouts").task_ids == ("by deadline",)
    assert say(shop, 61, "tasks.timeouts").value == 2
    said = say(shop, 3601, "tasks.timeouts")
    assert (said.value, said.severity) == (3, "high")


def test_a_source_that_is_not_read_keeps_the_state_of_its_rules(shop: World):
    waiting(shop, 60, 0)
    shop.read_source(0)
    assert shop.say(181, "tasks.backlog") is None
    assert shop.say(181, "self.extract_lag").condition == "true"


def test_no_output_for_five_ended_tasks_is_told_at_every_tick(shop: World):
    def ended(count: int) -> None:
        shop.put("raw.task", *[
            {"source_id": "shop", "task_key": f"k{count}{n}", "task_hash": 100 * count + n, "status": "succeeded", "output_expected": True,
             "is_deleted": False, "effective_end": shop.at(10)} for n in range(count)
        ])  # fmt: skip

    ended(4)
    assert say(shop, 400, "output_flow").condition == "false"
    ended(1)
    assert say(shop, 309, "output_flow").condition == "false"  # not settled yet
    said = say(shop, 400, "output_flow")
    assert (said.condition, said.severity, said.details) == ("true", "critical", {"tasks": 5, "last_output_at": None})
    output = {"source_id": "shop", "output_key": "o", "task_key": "other", "origin": "app", "created_at": shop.at(399)}
    shop.put("raw.task_output", output)
    assert say(shop, 400, "output_flow").condition == "false"


@pytest.mark.parametrize(
    ("created", "condition"), [(-3200.001, "true"), (-3200, "false"), (399.999, "false"), (400, "true")]
)
def test_an_inline_output_flows_when_it_was_created(shop: World, created: float, condition: str):
    shop.put("raw.task", *[
        {"source_id": "shop", "task_key": f"k{n}", "task_hash": n, "status": "succeeded", "output_expected": True,
         "is_deleted": False, "effective_end": shop.at(10)} for n in range(5)
    ])  # fmt: skip
    shop.put("raw.task_output", {"source_id": "shop", "output_key": "o", "task_key": "other", "origin": "inline",
                                 "created_at": shop.at(created)})  # fmt: skip
    assert say(shop, 400, "output_flow").condition == condition


def job(world: World, **more) -> None:
    row = {
        "source_id": "shop",
        "job_id": "nightly",
        "enabled": True,
        "risk_level": "high",
        "first_seen_at": world.at(0),
        "schedule": "*/10 * * * *",
    }
    world.put("raw.job", row | more)


def run(world: World, start: float, outcome: str, seconds: float = 1, **more) -> None:
    row = {"source_id": "shop", "run_key": f"r{start}", "job_id": "nightly", "outcome": outcome, "started_at": world.at(start),
           "ended_at": None if outcome == "running" else world.at(start + seconds)}  # fmt: skip
    world.put("raw.job_run", row | more)


def test_a_job_fails_until_it_succeeds(shop: World):
    job(shop)
    run(shop, 0, "success")
    run(shop, 10, "failure", error_message="boom")
    run(shop, 20, "timeout")
    said = say(shop, 30, "jobs.failing", job="nightly")
    assert (said.condition, said.value, said.severity, said.details["error"]) == ("true", 2, "high", "boom")
    run(shop, 40, "running")
    assert say(shop, 41, "jobs.failing", job="nightly").condition == "true"
    run(shop, 50, "success")
    assert say(shop, 60, "jobs.failing", job="nightly").condition == "false"


def test_disabled_jobs_are_exempt_and_unregistered_ones_are_not(shop: World):
    job(shop, enabled=False)
    run(shop, 0, "failure")
    run(shop, 5, "failure", job_id="wild")
    said = shop.tick(10)
    assert find(said, "jobs.failing", job="nightly") is None
    assert (find(said, "jobs.failing", job="wild").condition, find(said, "jobs.failing", job="wild").severity) == (
        "true",
        "medium",
    )


def test_a_job_removed_from_its_source_is_exempt(shop: World):
    job(shop, deleted_at=shop.at(1))
    run(shop, 0, "failure")
    assert say(shop, 10, "jobs.failing", job="nightly") is None


def test_a_job_of_which_is_not_known_whether_it_is_enabled_is_judged(shop: World):
    job(shop, enabled=None)
    run(shop, 0, "failure")
    assert say(shop, 10, "jobs.failing", job="nightly").condition == "true"


def test_a_duration_is_compared_with_its_agreement_strictly(shop: World):
    job(shop, sla_seconds=2.5)
    run(shop, 0, "success", duration_ms=2500)
    assert say(shop, 10, "jobs.duration_over_sla").condition == "false"
    run(shop, 20, "failure", duration_ms=2500.001)
    assert say(shop, 30, "jobs.duration_over_sla").condition == "true"


@pytest.mark.parametrize(
    ("schedule", "limit"), [("*/10 * * * *", 1500), ("600", 1500), ("every 10m", 1500), ("*/10 * * * * 30", 1500)]
)
def test_a_job_is_missed_after_two_periods_and_five_minutes(shop: World, schedule: str, limit: float):
    job(shop, schedule=schedule)
    run(shop, 0, "success")
    assert say(shop, limit, "jobs.missed").condition == "false"
    said = say(shop, limit + 0.1, "jobs.missed")
    assert (said.condition, said.severity, said.threshold) == ("true", "high", limit)


def test_skipped_runs_are_no_runs_and_unknown_schedules_miss_nothing(shop: World):
    job(shop)
    run(shop, 0, "success")
    run(shop, 1400, "skipped")
    assert say(shop, 1501, "jobs.missed").condition == "true"
    job(shop, job_id="odd", schedule="whenever")
    run(shop, 0, "success", job_id="odd", run_key="o")
    assert say(shop, 9000, "jobs.missed", job="odd") is None


def test_a_job_that_never_ran_is_told_two_periods_after_its_registration(shop: World):
    job(shop)
    assert say(shop, 1200, "jobs.never_ran").condition == "false"
    said = say(shop, 1200.5, "jobs.never_ran")
    assert (said.condition, said.severity) == ("true", "low")
    run(shop, 1201, "failure")
    assert say(shop, 1210, "jobs.never_ran").condition == "false"


def test_one_failure_in_twenty_runs_is_the_border(shop: World):
    job(shop)
    for n in range(18):
        run(shop, n, "success", run_key=f"s{n}")
    run(shop, 50, "failure")
    assert say(shop, 60, "jobs.failure_rate").condition == "insufficient_data"
    run(shop, 55, "success")
    assert say(shop, 60, "jobs.failure_rate").condition == "true"  # exactly 5 % of 20
    run(shop, 57, "success")
    assert say(shop, 60, "jobs.failure_rate").condition == "false"


def deliver(world: World, second: float, ok: bool, channel: str = "ops") -> None:
    row = {"notification_id": f"n{second}", "attempt_no": 1, "channel": channel, "at": world.at(second), "ok": ok}
    with world.state.begin() as con:
        con.execute(insert(notification_attempt).values(row))


def test_a_channel_is_down_when_only_failures_are_left_and_stays_so_without_attempts(world: World):
    deliver(world, 0, True)
    deliver(world, 1, False)
    assert world.say(10, "notify.channel_down", channel="OPS").condition == "false"
    said = world.say(300, "notify.channel_down", channel="OPS")
    assert (said.condition, said.severity) == ("true", "high")
    assert world.say(301, "notify.channel_down", channel="OPS") is None


@pytest.mark.parametrize(
    ("ok", "failed", "condition"),
    [(9, 3, "false"), (9, 4, "true"), (0, 1, "true"), (2, 0, "false"), (19, 6, "false"), (19, 7, "true")],
)
def test_the_ratio_of_failures_is_compared_in_integers(world: World, ok, failed, condition):
    for n in range(ok + failed):
        deliver(world, n / 10, n < ok)
    assert world.say(60, "notify.failure_ratio", channel="OPS").condition == condition


def test_mapped_notifications_count_apart(shop: World):
    for n, state in enumerate(("sent", "failed", "abandoned")):
        shop.put("raw.notification", {"source_id": "shop", "notification_id": str(n), "channel": "sms", "state": state,
                                      "sent_at": shop.at(10) if state == "sent" else None, "changed_at": shop.at(20)})  # fmt: skip
    assert say(shop, 60, "notify.channel_down", channel="SMS").condition == "false"
    said = say(shop, 311, "notify.channel_down", channel="SMS")
    assert (said.source_id, said.condition, said.value) == ("shop", "true", 2)
    assert START + timedelta(seconds=311) == shop.clock.now()


def test_mapped_notifications_count_every_attempt(shop: World):
    """Sent after three attempts: one success and two failures; abandoned after five: five failures (M-702)."""
    shop.put("raw.notification", {"source_id": "shop", "notification_id": "s", "channel": "sms", "state": "sent", "attempts": 3,
                                  "sent_at": shop.at(10), "changed_at": shop.at(20)})  # fmt: skip
    said = say(shop, 60, "notify.failure_ratio", channel="SMS")
    assert (said.condition, said.value) == ("true", 2)
    shop.put("raw.notification", {"source_id": "shop", "notification_id": "a", "channel": "sms", "state": "abandoned", "attempts": 5,
                                  "changed_at": shop.at(20)})  # fmt: skip
    assert say(shop, 60, "notify.failure_ratio", channel="SMS").value == 7


def test_the_failures_of_a_history_loaded_at_once_did_not_happen_now(shop: World):
    """C-350: the first load of a source is no burst of failures; a row first seen as failed counts if it is recent."""
    for n, created in (("old", -86_400), ("new", 10)):
        shop.put("raw.notification", {"source_id": "shop", "notification_id": n, "channel": "sms", "state": "abandoned", "attempts": 1,
                                      "created_at": shop.at(created), "first_seen_at": shop.at(20), "changed_at": shop.at(20)})  # fmt: skip
    said = say(shop, 60, "notify.channel_down", channel="SMS")
    assert (said.condition, said.value) == ("true", 1)
