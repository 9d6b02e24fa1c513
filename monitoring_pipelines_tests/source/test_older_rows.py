"""Rows from before the loaded history that reach into it (M-802, E-606), on a real server, up to the statistics.

What belongs here: which older rows the first load brings and what becomes of them. What does not: the history itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from monitoring_pipelines.pipeline import HOUR, HOUR_TABLES, Pipeline, compute_range, tick
from monitoring_pipelines_tests.source.tail_bench import NOW, Bench

#: History begins on 1 February; this is before.
OLD = datetime(2026, 1, 20, 9)
HISTORY = "stats: {backfill_days: 2}"


def _marks(bench: Bench) -> list[tuple[object, ...]]:
    return bench.raw("select src_table, max_id, holes, time_marks from meta.extract_mark order by 1")


def test_older_tasks_that_run_or_ended_inside_the_history_are_counted(tail: Callable[..., Bench]) -> None:
    """M-802, E-606: an old running task counts as running and its later end is counted; one that ended before is not loaded."""
    bench = tail(head=HISTORY)
    ended = datetime(2026, 2, 2, 7, 15, 10)
    bench.task("running", "RUN", at=OLD)
    bench.task("ended", "DONE", at=OLD, ended=ended)
    bench.task("before", "DONE", at=OLD, ended=datetime(2026, 1, 31, 23, 59, 59))
    bench.task("today", "DONE")
    pipe = Pipeline.of(bench.settings, bench.clock)
    bench.warehouse = pipe.warehouse
    tick(pipe)
    assert bench.raw("select task_key from raw.task order by 1") == [("ended",), ("running",), ("today",)]
    hour = ended.replace(minute=0, second=0)
    list(compute_range(pipe, HOUR_TABLES, hour, hour + HOUR))
    figures = "select tasks_completed, running_end from mart.endpoint_hourly_stats where stat_hour = "
    assert bench.raw(f"{figures} '{hour}'") == [(1, 1)]

    bench.db.execute(
        "update `order` set status = 'DONE', ended = %s where `key` = 'running'", (NOW + timedelta(seconds=30),)
    )
    bench.clock.advance(180)
    tick(pipe)
    minutes = "select stat_minute, tasks_completed, running_end from mart.endpoint_minute_stats where stat_minute >= "
    assert bench.raw(f"{minutes} '2026-02-03 12:00:00' order by 1")[:2] == [
        (datetime(2026, 2, 3, 12, 0), 0, 1),
        (datetime(2026, 2, 3, 12, 1), 1, 0),
    ]


def test_older_rows_leave_the_marks_alone_and_take_the_mappings_rules(tail: Callable[..., Bench]) -> None:
    """E-602, E-604: marks are those of a load without older rows; ``where`` holds; loading them twice changes nothing."""
    bench = tail(more="where: flag = 1", head=HISTORY)
    bench.task("running", "WAIT", at=OLD, number=1)
    bench.task("left out", "RUN", at=OLD, number=2)
    bench.db.execute("update `order` set flag = 0 where id = 2")
    bench.task("today", "DONE", number=1000)
    bench.cycle()
    marks, rows = _marks(bench), bench.raw("select * from raw.task order by task_key")
    assert [row[0] for row in bench.raw("select task_key from raw.task order by 1")] == ["running", "today"]
    assert "1000" in str(marks)
    with bench.warehouse.writer("test") as con:
        con.execute("delete from meta.extract_mark")
    bench.cycle()
    assert _marks(bench) == marks
    assert bench.raw("select * from raw.task order by task_key") == rows
