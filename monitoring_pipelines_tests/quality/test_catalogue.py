"""The checks one by one, over rows written for the purpose (C-104 to C-118)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.config.known import CHECK_IDS
from monitoring_pipelines.quality import figures, registry, thresholds
from monitoring_pipelines.quality.context import CheckContext, Session
from monitoring_pipelines.source.lookup import SourceTask
from monitoring_pipelines.warehouse.check_sql import query
from monitoring_pipelines_tests.quality.bench import NOW

END = NOW - timedelta(hours=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_every_check_is_known_to_the_configuration_and_can_be_loaded():
    assert set(registry.checks()) <= set(CHECK_IDS)
    for check in registry.checks().values():
        assert callable(check.load())
        assert check.title("en") != check.title("zh-CN")


def test_quick_runs_look_for_missing_outputs_and_nothing_else():
    assert [check.id for check in registry.checks_of("quick")] == ["missing_outputs"]
    assert [check.id for check in registry.checks_of("full", extended=False)] == [
        "missing_outputs",
        "creation_delay",
        "trend",
        "ratio",
    ]
    deep = [check.id for check in registry.checks_of("deep")]
    assert deep[:4] == ["missing_outputs", "trend", "ratio", "change_point"]
    assert all(check.startswith("expectations.") for check in deep[4:])


def test_no_check_passes_where_its_inputs_are_not_mapped(store):
    world = store(preset="collector")
    assert {world.check(check).status for check in registry.checks()} == {"not_applicable"}


# --- creation_delay (C-104) ---------------------------------------------------------------------------------------------


def test_an_output_exactly_at_the_limit_is_in_time(store):
    world = store()
    for number, seconds in enumerate([1800, 1800.000001, 1, -20]):
        world.task(f"t{number}", END)
        world.output(f"t{number}", END + timedelta(seconds=seconds))
    done = world.check("creation_delay")
    assert done.metrics == {
        "delay_threshold_minutes": 30, "total_recent_tasks": 4, "delayed_count": 1, "max_delay_s": 1800.0,
    }  # fmt: skip
    found = done.findings[0]
    assert (found.severity, found.task_ids, found.alert_type) == ("high", ("t1",), "task_output_creation_delay")


def test_any_late_output_delays_its_task_and_repairs_do_not_count(store):
    world = store()
    world.task("a", END - HOUR, 1)
    world.output("a", END)
    world.task("b", END - HOUR)
    world.output("b", END, origin="repair")
    assert world.check("creation_delay").metrics["delayed_count"] == 1
    assert world.check("creation_delay").metrics["total_recent_tasks"] == 1


# --- trend (C-105) ------------------------------------------------------------------------------------------------------


def trend_of(store, rates, check="trend"):
    world = store()
    today = NOW.replace(hour=0) - timedelta(hours=8)  # midnight in Shanghai, UTC
    for back, rate in enumerate(reversed(rates), 1):
        world.tasks(100, rate, today - DAY * back + timedelta(hours=12), prefix=f"d{back}-")
    return world.check(check)


@pytest.mark.parametrize(
    ("rates", "fires"), [([60, 60, 60, 95, 95, 95, 95][::-1], False), ([59, 60, 60, 95, 95, 95, 95][::-1], True)]
)
def test_trend_examples_of_the_specification(store, rates, fires):
    done = trend_of(store, rates)
    assert [found.severity for found in done.findings] == (["medium"] if fires else [])
    assert done.metrics["overall_avg_rate"] == (79.86 if fires else 80.0)
    assert done.metrics["recent_avg_rate"] == (59.67 if fires else 60.0)
    assert done.metrics["days_analyzed"] == 7


def test_daily_figures_carry_local_dates(store):
    daily = trend_of(store, [95, 60, 60, 60]).metrics["daily_stats"]
    assert daily["2026-01-30"] == {"total": 100, "with": 95, "rate": 95.0}
    assert list(daily) == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]


def test_two_days_are_too_few_for_a_trend(store):
    assert trend_of(store, [100, 0]).status == "insufficient_data"


def test_today_counts_only_after_it_has_ended(store):
    world = store()
    world.tasks(10, 10, NOW - HOUR)
    assert world.check("trend").metrics["days_analyzed"] == 0
    world.clock.advance(86400)
    assert world.check("trend").metrics["days_analyzed"] == 1


def test_change_point_is_reported_and_raises_nothing(store):
    done = trend_of(store, [98, 99, 97, 100, 40, 35, 42], "change_point")
    assert done.findings == ()
    assert done.metrics["change_point"] == {
        "first": "2026-01-31", "before_rate": 98.5, "after_rate": 39.0, "difference": -59.5, "direction": "decline",
    }  # fmt: skip


# --- ratio (C-106) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "fires"), [(10, False), (11, True)])
def test_ratio_is_strict(store, outputs, fires):
    world = store()
    world.task("t", END, outputs)
    world.task("deleted", END, is_deleted=True)
    done = world.check("ratio")
    assert bool(done.findings) is fires
    assert done.metrics == {"total_outputs": outputs, "total_tasks": 1, "ratio": f"{outputs}.0", "ratio_value": outputs}


def test_outputs_without_any_task_fire_with_an_unknown_ratio(store):
    world = store()
    world.output("x", END)
    done = world.check("ratio")
    assert done.findings[0].details["ratio"] is None
    assert done.severity == "medium"


def test_a_source_without_rows_has_no_ratio(store):
    assert store().check("ratio").status == "insufficient_data"


# --- output_flow (C-107) ------------------------------------------------------------------------------------------------


def flow(store, tasks):
    world = store()
    world.output("old", NOW - 2 * HOUR)
    for number in range(tasks):
        world.task(f"t{number}", NOW - timedelta(minutes=20))
    return world


def test_five_tasks_without_any_output_row_are_critical(store):
    found = flow(store, 5).check("output_flow").findings[0]
    assert found.severity == "critical"
    assert found.details == {"tasks": 5, "last_output_at": NOW - 2 * HOUR}


def test_four_tasks_say_too_little(store):
    assert flow(store, 4).check("output_flow").status == "insufficient_data"


@pytest.mark.parametrize(
    ("origin", "status"), [("app", "passed"), ("inline", "passed"), ("repair", "findings"), ("placeholder", "findings")]
)
def test_only_outputs_of_the_platform_are_flow(store, origin, status):
    world = flow(store, 5)
    world.output("t0", NOW - HOUR, origin=origin)
    assert world.check("output_flow").status == status


def test_an_output_at_the_end_of_the_hour_belongs_to_the_next(store):
    world = flow(store, 5)
    world.output("t0", NOW)
    assert world.check("output_flow").status == "findings"


# --- duplicates, orphans, status, times (C-110 to C-115) ---------------------------------------------------------------


def test_duplicates_are_rows_beyond_one_per_natural_key(store):
    world = store()
    for number, (key, copies) in enumerate((("a", 3), ("b", 2), ("c", 1))):
        world.task(key, END - timedelta(seconds=number))
        for _ in range(copies):
            world.output(key, END, natural_key=f"n-{key}")
    found = world.check("duplicates").findings[0]
    assert (found.severity, found.details["surplus"], found.details["distinct"]) == ("medium", 3, 3)
    assert found.details["examples"] == [
        {"task_key": "a", "valid_rows": 3, "surplus": 2}, {"task_key": "b", "valid_rows": 2, "surplus": 1},
    ]  # fmt: skip
    assert found.task_ids == ("b", "a"), "C-028: by end"


def test_orphans_have_no_task_of_any_age_and_those_of_deleted_tasks_are_listed_apart(store):
    world = store()
    world.task("old", END - 40 * DAY)
    world.task("soft", END, is_deleted=True)
    world.task("hard", END, deleted_at=NOW, deleted_reason="hard")
    world.task("pruned", END, deleted_at=NOW, deleted_reason="retention")
    for key in ("old", "soft", "hard", "pruned", "nobody"):
        world.output(key, END)
    world.output("nobody too", None)
    world.output("before the window", NOW - 25 * HOUR)
    found = world.check("orphans").findings[0]
    assert found.severity == "medium"
    assert found.details["count"] == 3
    assert found.details["outputs_of_deleted_tasks"] == 1
    assert found.task_ids == ("hard", "nobody", "nobody too")


def test_outputs_of_unsuccessful_tasks_are_counted_by_status(store):
    world = store()
    statuses = (("f", "failed"), ("c", "cancelled"), ("t", "timed_out"), ("s", "succeeded"), ("r", "running"))
    for number, (key, status) in enumerate(statuses):
        world.task(key, END - timedelta(seconds=number), 1, status=status)
    found = world.check("wrong_status").findings[0]
    assert (found.severity, found.details) == (
        "low",
        {"count": 3, "by_status": {"cancelled": 1, "failed": 1, "timed_out": 1}},
    )
    assert found.task_ids == ("t", "c", "f"), "C-028: by end"


def test_succeeded_tasks_without_end(store):
    world = store()
    world.task("t", END, 1, ended_at=None, created_at=END)
    world.task("u", END, 1)
    found = world.check("no_end_time").findings[0]
    assert (found.severity, found.details, found.task_ids) == ("medium", {"count": 1}, ("t",))


def test_times_that_cannot_be(store):
    world = store()
    world.task("reversed", END + timedelta(seconds=2), started_at=END + timedelta(seconds=3))
    world.task("future", NOW + DAY)
    world.task("tolerated", END, created_at=NOW + timedelta(seconds=5))
    world.task("early output", END, started_at=END - timedelta(seconds=10))
    world.output("early output", END - timedelta(seconds=11))
    world.task("before the end", END, started_at=END - timedelta(seconds=10))
    world.output("before the end", END - timedelta(seconds=5))
    found = world.check("bad_times").findings[0]
    assert found.severity == "low"
    assert found.details["by_kind"] == {"ended_before_start": 1, "future": 1, "output_before_start": 1}
    assert found.task_ids == ("early output", "reversed", "future"), "C-028: by end"


def test_remote_ids_matter_only_where_a_recoverer_needs_them(store):
    assert store().check("no_remote_id").status == "not_applicable"


def test_succeeded_tasks_without_remote_id_are_told_where_a_recoverer_needs_one(store):
    world = store(
        head="repair: {recoverers: [{id: rh, kind: http_result, preset: runninghub, base_url: 'https://x.test'}]}"
    )
    for key, remote_id in (("known", "r1"), ("none", None), ("empty", "")):
        world.task(key, END, 1, remote_id=remote_id)
    world.task("failed", END, status="failed")
    found = world.check("no_remote_id").findings[0]
    assert (found.alert_type, found.severity, found.details) == ("no_remote_id", "low", {"count": 2})
    assert found.task_ids == ("empty", "none")


def test_an_output_of_the_future_is_an_impossible_time_and_completes_nothing_yet(store):
    world = store()
    world.task("t", END)
    world.output("t", NOW + HOUR)
    assert world.check("bad_times").findings[0].details["by_kind"] == {"future": 1}
    assert world.check("missing_outputs").metrics["missing_count"] == 1
    world.clock.advance(3600)
    assert world.check("bad_times").status == "passed"
    assert world.check("missing_outputs").metrics["missing_count"] == 0


@pytest.mark.parametrize(("seconds", "fires"), [(10.0, False), (10.001, True)])
def test_an_extraction_query_of_more_than_ten_seconds_is_slow(store, seconds, fires):
    world = store()
    world.flush()
    session = Session(world.pipe.warehouse)
    context = CheckContext(
        registry.checks()["source_performance"], world.settings, world.settings.source("shop"),
        thresholds.effective(world.settings, None), NOW, NOW - DAY, NOW, session, query_seconds={"tasks": seconds},
    )  # fmt: skip
    done = context.check.load()(context)
    session.close()
    assert [(f.severity, f.labels, f.details) for f in done.findings] == (
        [("medium", {"query": "tasks"}, {"query": "tasks", "value": seconds})] if fires else []
    )


def test_growth_beyond_three_times_the_median(store):
    world = store()
    today = NOW.replace(hour=0) - timedelta(hours=8)
    for back in range(2, 9):
        world.tasks(2, 2, today - DAY * back + HOUR, prefix=f"d{back}-")
    world.tasks(7, 7, today - DAY + HOUR, prefix="d1-")
    done = world.check("source_performance")
    assert {found.labels["table"] for found in done.findings} == {"tasks", "task_outputs"}
    assert done.findings[1].details == {"table": "tasks", "value": 7, "median_7d": 2}


# --- what events, deletions and repairs decide ---------------------------------------------------------------------------


def by_events(world, key, status="succeeded", **more):
    """A task whose events decided another status than its row shows, or that has no row."""
    row = {"task_key": key, "endpoint": "e", "status": status, "created_at": END, "ended_at": END, "has_row": False}
    world.add("core.task_status", **row | more)


def hashed(world):
    world.flush()
    with world.pipe.warehouse.writer("test") as con:
        con.execute("UPDATE core.task_status SET task_hash = md5_number_lower(concat_ws(chr(31), source_id, task_key))")


def test_tasks_known_by_their_events_are_tasks_of_the_ratio(store):
    world = store()
    by_events(world, "t")
    for number in range(11):
        world.output("t", END, natural_key=str(number))
    hashed(world)
    assert world.check("ratio").metrics == {"total_outputs": 11, "total_tasks": 1, "ratio": "11.0", "ratio_value": 11.0}


def test_inline_outputs_are_deleted_with_their_task(store):
    world = store()
    for key, row in (
        ("soft", {"is_deleted": True}), ("hard", {"deleted_at": NOW, "deleted_reason": "hard"}),
        ("pruned", {"deleted_at": NOW, "deleted_reason": "retention"}),
    ):  # fmt: skip
        world.task(key, END, **row)
        world.output(key, END, origin="inline")
    metrics = world.check("ratio").metrics
    assert (metrics["total_outputs"], metrics["total_tasks"]) == (1, 1)
    assert world.check("orphans").metrics == {"orphan_outputs": 0, "outputs_of_deleted_tasks": 0}


def test_outputs_of_tasks_known_by_their_events_are_no_orphans(store):
    world = store()
    by_events(world, "t")
    world.output("t", END)
    hashed(world)
    assert world.check("orphans").metrics["orphan_outputs"] == 0


def test_a_task_that_timed_out_first_lacks_no_end(store):
    world = store()
    world.task("t", END, ended_at=None, created_at=END)
    by_events(world, "t", "timed_out", has_row=True)
    hashed(world)
    assert world.check("no_end_time").metrics == {"no_end_time": 0}


def test_totals_leave_out_tasks_that_owe_no_output_and_placeholders_are_not_invalid(store):
    world = store()
    world.task("owes", END, status="failed")
    world.task("owes nothing", END, output_expected=False)
    world.task("placeholder", END)
    world.output("placeholder", END, origin="placeholder")
    world.output("placeholder", END, valid=False)
    metrics = world.check("missing_outputs").metrics
    assert (metrics["total_tasks"], metrics["success_tasks"], metrics["invalid_outputs"]) == (2, 1, 1)


def test_a_delay_is_never_negative(store):
    world = store()
    world.task("t", END)
    world.output("t", END - HOUR)
    assert world.check("creation_delay").metrics["max_delay_s"] == 0


@pytest.mark.parametrize(("worker", "leaked"), [("w", 0), (None, 0), ("other", 1)])
def test_a_slot_is_leaked_until_its_own_executor_reports_an_end(store, worker, leaked):
    world = store()
    world.add("core.task_attempt", task_key="t", attempt_no=1, worker_key="w", started_at=END - HOUR, ended_at=END,
              outcome="timeout", counted=True, task_hash=1)  # fmt: skip
    world.add("raw.task_event", event_key="e", task_key="t", event_type="completed", at=END + timedelta(seconds=1),
              worker_key=worker, task_hash=1, raw_type="c", anomalies=[])  # fmt: skip
    world.flush()
    with world.pipe.warehouse.reader("test") as con:
        assert query(con, "leaked_slots", {}) == ([{"source_id": "shop", "leaked": 1}] if leaked else [])


# --- the second look at the source (E-612) -------------------------------------------------------------------------------


def looked_up(store, row, at_source, **setting):
    """Metrics of missing outputs where the store lacks an output of task ``t``, and the source answers."""
    world = store()
    world.task("t", END, **row)
    world.add("meta.repaired_output", output_key="p", origin="placeholder", recorded_at=NOW)
    world.flush()
    session = Session(world.pipe.warehouse)
    source = world.settings.source("shop").model_copy(update=setting)
    try:
        context = CheckContext(
            registry.checks()["missing_outputs"], world.settings, source, thresholds.effective(world.settings, None), NOW,
            NOW - DAY, NOW, session, lookup=lambda keys: at_source,
        )  # fmt: skip
        return context.check.load()(context).metrics
    finally:
        session.close()


def of_source(*keys, inline=False):
    rows = [{"output_key": key, "valid": True, "is_deleted": False, "natural_key": key} for key in keys]
    return {"t": SourceTask({"status": "succeeded", "is_deleted": False}, rows, inline)}


def test_a_placeholder_found_at_the_source_completes_nothing(store):
    assert looked_up(store, {}, of_source("p"))["missing_count"] == 1


def test_an_output_found_at_the_source_completes_its_task(store):
    assert looked_up(store, {}, of_source("p", "q"))["missing_count"] == 0


@pytest.mark.parametrize(("least", "missing"), [(None, 0), (1, 1)])
def test_an_inline_output_of_unknown_size_completes_nothing_where_a_size_is_asked_for(store, least, missing):
    assert looked_up(store, {}, of_source(inline=True), min_output_bytes=least)["missing_count"] == missing


def test_tasks_the_retention_of_the_source_removed_stay_in_the_figures(store):
    pruned = looked_up(store, {"deleted_at": NOW, "deleted_reason": "retention"}, {})
    assert (pruned["success_tasks"], pruned["missing_count"]) == (1, 1)


def test_tasks_that_vanished_from_the_source_leave_the_figures(store):
    vanished = looked_up(store, {}, {})
    assert (vanished["success_tasks"], vanished["missing_count"]) == (0, 0)


@pytest.mark.parametrize("reason", ["hard", "retention"])
def test_days_of_a_trend_leave_out_tasks_deleted_hard_though_statistics_keep_them(store, reason):
    world = store()
    hour = END - 5 * HOUR
    world.task("kept", hour, 1)
    world.task("gone", hour, deleted_at=NOW, deleted_reason=reason)
    world.add("meta.source_state", origin=NOW - 9 * DAY, closed_through=NOW, output_closed_through=NOW)
    world.add("meta.window_progress", family="output", computed_through=NOW)
    world.flush()
    with world.pipe.warehouse.writer("test") as con:
        con.execute(
            "CREATE TABLE mart.output_hourly_stats AS SELECT 'shop' AS source_id, ?::TIMESTAMP AS stat_hour, "
            "'closed' AS state, 2 AS success_tasks, 1 AS tasks_with_outputs",
            [hour],
        )
    session = Session(world.pipe.warehouse)
    context = CheckContext(
        registry.checks()["trend"], world.settings, world.settings.source("shop"), thresholds.effective(world.settings, None),
        NOW, NOW - DAY, NOW, session,
    )  # fmt: skip
    assert figures.history(context, NOW - DAY, NOW) == [(hour, 1 if reason == "hard" else 2, 1)]
    session.close()
