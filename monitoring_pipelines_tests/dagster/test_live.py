"""Through the real daemon, webserver and GraphQL: backfill beside ticks, killed runs, no configuration typed."""

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from monitoring_pipelines import pipeline
from monitoring_pipelines.partition_keys import hour_key
from monitoring_pipelines.warehouse.windows import extend_origin
from monitoring_pipelines_tests.dagster.conftest import NOW, Site, _copy, hour
from monitoring_pipelines_tests.dagster.live import LiveDagster, live_dagster

#: Several waits of ``LiveDagster`` may follow each other on a busy machine.
pytestmark = pytest.mark.timeout(1800)
STATISTICS = ["mart/endpoint_minute_stats", "mart/endpoint_hourly_stats"]
#: Most hours hold no task, which is enough for many slices.
DAYS = 10


@pytest.fixture(scope="module")
def live_site(loaded, tmp_path_factory) -> Site:
    """A loaded site whose history reaches ten days back, completely computed and compared: nothing is due."""
    site = _copy(loaded, tmp_path_factory.mktemp("live") / "site")
    site.config.write_text(site.config.read_text().replace("stats: {", "stats: {backfill_days: 1, "))
    first = (NOW - timedelta(days=DAYS)).replace(hour=0, minute=0)
    with site.pipe.warehouse.writer("test") as con:
        extend_origin(con, "shop", first, NOW)
    for day in pipeline.unverified_days(site.pipe):
        pipeline.reconcile(site.pipe, day.date())
    for _ in pipeline.compute_range(site.pipe, pipeline.HOUR_TABLES, first, NOW):
        pass
    for _ in pipeline.compute_range(site.pipe, pipeline.DAY_TABLES, first, NOW):
        pass
    pipeline.tick(site.pipe)
    assert pipeline.backlog(site.pipe) == pipeline.Backlog()
    return site


@pytest.fixture(scope="module")
def live(live_site, tmp_path_factory) -> Iterator[LiveDagster]:
    home = tmp_path_factory.mktemp("dagster") / "home"
    with live_dagster(home, live_site.config, f"{NOW.isoformat()}Z") as dagster:
        yield dagster


def hours_of(first: datetime, count: int) -> list[str]:
    return [hour_key(first + n * pipeline.HOUR) for n in range(count)]


def test_backfill_leaves_ticks_their_turn(live: LiveDagster, live_site: Site):
    """A backfill of many hours, started as the UI does it; a tick started meanwhile ends before it does."""
    first = hour(0) - timedelta(hours=150)
    live_site.write("UPDATE mart.endpoint_hourly_stats SET tasks_completed = -1 WHERE stat_hour = ?", [hour(2)])
    backfill = live.backfill(STATISTICS, hours_of(first, 151))
    (run,) = live.wait(
        "backfill run",
        lambda: [r for r in live.runs(tags=[{"key": "dagster/backfill", "value": backfill}]) if r["startTime"]],
    )
    tick = live.launch("minute_tick_job")
    assert live.wait("tick", lambda: live.finished(tick)) == "SUCCESS", live.log()
    assert live.wait("backfill", lambda: live.finished(run["runId"])) == "SUCCESS", live.log()
    assert live.run(tick)["endTime"] < live.run(run["runId"])["endTime"]
    live.wait("backfill end", lambda: live.backfill_status(backfill) == "COMPLETED_SUCCESS")
    assert live_site.query("SELECT count(*) FROM mart.endpoint_hourly_stats WHERE tasks_completed < 0") == [(0,)]
    assert live.materialized(STATISTICS[1]) >= 151


def test_long_runs_wait_in_the_queue_and_leave_their_places_to_ticks(live: LiveDagster, live_site: Site):
    """More of them than runs may go on at once: a tick that comes last starts before all but the first."""
    backfill = live.backfill(STATISTICS, hours_of(hour(0) - timedelta(hours=150), 151))
    live.wait(
        "backfill run",
        lambda: [r for r in live.runs(tags=[{"key": "dagster/backfill", "value": backfill}]) if r["startTime"]],
    )
    waiting = [live.launch("maintenance_job") for _ in range(7)]
    tick = live.launch("minute_tick_job")
    assert live.wait("tick", lambda: live.finished(tick)) == "SUCCESS", live.log()
    live.wait("backfill end", lambda: live.backfill_status(backfill) == "COMPLETED_SUCCESS")
    for run in waiting:
        assert live.wait("maintenance", lambda run=run: live.finished(run)) == "SUCCESS", live.log()
    times = sorted((live.run(run)["startTime"], live.run(run)["endTime"]) for run in waiting)
    assert live.run(tick)["startTime"] < times[1][0]
    assert all(before[1] <= after[0] for before, after in pairwise(times))


def test_killed_backfill_leaves_whole_hours_and_can_be_repeated(live: LiveDagster, live_site: Site):
    """kill -9: every hour is as before or as after; the pool becomes free and a repetition completes the rest."""
    expected = live_site.marts()
    live_site.write("UPDATE mart.endpoint_hourly_stats SET tasks_submitted = tasks_submitted + 1000000")
    broken = live_site.marts()
    backfill = live.backfill(STATISTICS, hours_of(hour(0) - timedelta(hours=150), 151))
    (run,) = live.wait(
        "backfill run",
        lambda: [r for r in live.runs(tags=[{"key": "dagster/backfill", "value": backfill}]) if r["startTime"]],
    )
    changed = "SELECT count(*) FROM mart.endpoint_hourly_stats WHERE tasks_submitted < 1000000"
    pid = live.wait("process id", lambda: live.pid(run["runId"]))
    live.wait("first hours", lambda: live_site.query(changed)[0][0] or live.finished(run["runId"]))
    os.kill(pid, signal.SIGKILL)
    assert live.wait("end of the killed run", lambda: live.finished(run["runId"])) == "FAILURE"
    after = live_site.marts()["mart.endpoint_hourly_stats"]
    assert set(after) <= set(expected["mart.endpoint_hourly_stats"]) | set(broken["mart.endpoint_hourly_stats"])
    again = live.backfill(STATISTICS, hours_of(hour(0) - timedelta(hours=150), 151))
    live.wait("second backfill", lambda: live.backfill_status(again) == "COMPLETED_SUCCESS")
    for table in pipeline.HOUR_TABLES:
        assert live_site.marts()[table] == expected[table]
    # A day that was computed while hours of the killed run were missing is due again; ticks compute due days.
    tick = live.launch("minute_tick_job")
    assert live.wait("tick", lambda: live.finished(tick)) == "SUCCESS", live.log()
    assert live_site.marts() == expected


def test_killed_tick_is_healed_by_the_next(live: LiveDagster, live_site: Site):
    """kill -9 in the middle of a tick: its run ends as failed, and the next tick stores the same result."""
    expected = live_site.marts()
    live_site.write("DELETE FROM core.task_attempt")
    live_site.write("INSERT INTO meta.dirty_task SELECT source_id, task_key, ? FROM raw.task", [NOW])
    tick = live.launch("minute_tick_job")
    pid = live.wait("process id", lambda: live.pid(tick))
    os.kill(pid, signal.SIGKILL)
    assert live.wait("end of the killed tick", lambda: live.finished(tick)) == "FAILURE"
    again = live.launch("minute_tick_job")
    assert live.wait("next tick", lambda: live.finished(again)) == "SUCCESS", live.log()
    assert live_site.marts() == expected


def test_two_ticks_at_once_give_one_result(live: LiveDagster, live_site: Site):
    expected = live_site.marts()
    ticks = [live.launch("minute_tick_job") for _ in range(2)]
    assert [live.wait("tick", lambda t=t: live.finished(t)) for t in ticks] == ["SUCCESS", "SUCCESS"], live.log()
    assert live_site.marts() == expected
    duplicates = live_site.query(
        "SELECT stat_minute, endpoint FROM mart.endpoint_minute_stats GROUP BY ALL HAVING count(*) > 1"
    )
    assert duplicates == []


def test_health_from_outside_is_good_while_everything_runs(live: LiveDagster):
    """The same questions the API process asks; this instance's clock stands still, so ticks are from the future."""
    from monitoring_pipelines.collect.dagster_health import components

    def healthy() -> bool:
        found = components(live.url, NOW)
        kinds = {one.kind for one in found}
        needed = {"webserver", "daemon", "code_location", "schedule", "sensor"}
        return kinds == needed and not [one for one in found if one.is_bad]

    live.wait("health", healthy, 60)


def test_schedule_and_sensors_run_without_being_switched_on(live: LiveDagster):
    """The daemon alone drives the product."""
    live.wait(
        "scheduled tick",
        lambda: [
            r
            for r in live.runs(tags=[{"key": "dagster/schedule_name", "value": "minute_tick_job_every_minute"}])
            if r["status"] == "SUCCESS"
        ],
        100,
    )
