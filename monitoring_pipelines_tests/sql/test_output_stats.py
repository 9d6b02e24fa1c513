"""Statistics of outputs: what makes their hours be computed again, and an independent count of the same rows."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.config.schema import RetentionSettings
from monitoring_pipelines.warehouse.output_refresh import forget_repaired, record_repaired
from monitoring_pipelines.warehouse.retention import RetentionReport, prune_statistics_slice
from monitoring_pipelines_tests.sql.feeding import cycle, delete, feed, new_store, rows_of

T0 = datetime(2026, 2, 1, 10)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FINAL = {"succeeded", "failed", "timed_out", "cancelled"}


def at(minutes: float) -> datetime:
    """So many minutes after ten."""
    return T0 + timedelta(minutes=minutes)


def task(number: int, ended: float | None, status: str = "succeeded", endpoint: str = "a") -> dict[str, Any]:
    """A task that ended so many minutes after ten; created at ten."""
    end = at(ended) if ended is not None else None
    return {
        "row_id": number,
        "task_key": f"t{number}",
        "endpoint": endpoint,
        "status": status,
        "created_at": T0,
        "ended_at": end,
    }


def output(number: int, of: int, created: float, size: int = 10, uri: str = "") -> dict[str, Any]:
    """An output of task ``of``."""
    return {"row_id": number, "output_key": f"o{number}", "task_key": f"t{of}", "uri": uri or f"http://h/{number}", "size_bytes": size, "created_at": at(created)}  # fmt: skip


def hourly(con: duckdb.DuckDBPyConnection, columns: str) -> list[tuple[Any, ...]]:
    """Columns of the hour rows, oldest first."""
    return con.execute(f"SELECT {columns} FROM mart.output_hourly_stats ORDER BY stat_hour, endpoint").fetchall()


def test_outputs_that_appear_or_vanish_after_closing_restate_the_hour_of_the_task_and_their_own() -> None:
    """M-601, E-610: completeness follows, and what was complete at closing stays on record."""
    con = new_store()
    feed(con, "task", [task(1, 5), task(2, 6)], at(120))
    feed(con, "task_output", [output(1, 1, 5)], at(120))
    cycle(con, at(120))
    figures = "hour(stat_hour), tasks_with_outputs, missing_count, outputs_created, tasks_with_outputs_at_close"
    assert hourly(con, figures) == [(10, 1, 1, 1, 1)]
    feed(con, "task_output", [output(2, 2, 70)], at(121))
    cycle(con, at(121))
    assert hourly(con, figures) == [(10, 2, 0, 1, 1), (11, 0, 0, 1, 0)]
    assert hourly(con, "revision, restated_at, max_delay_s") == [(2, at(121), 3840), (1, None, None)]
    delete(con, "task_output", "o1", at(122))
    cycle(con, at(122))
    assert hourly(con, figures) == [(10, 1, 1, 0, 1), (11, 0, 0, 1, 0)]
    minutes = con.execute("SELECT minute(stat_minute), revision FROM mart.output_minute_stats ORDER BY ALL").fetchall()
    assert minutes == [(5, 2), (6, 2), (10, 1)]


def test_restated_rows_stay_counted_when_they_are_removed() -> None:
    """S-303, M-804: each restatement counts once, whatever its family, and still when retention took its row."""

    def counted(con: Any) -> dict[str, int]:
        rows = con.execute("SELECT labels[1], amount FROM meta.counter_past WHERE counter = 'restated'").fetchall()
        return {grain: int(n) for grain, n in rows}

    with new_store() as con:
        day = 24 * 60
        feed(con, "task", [task(1, 5), task(2, day * 20 + 5)], at(day * 21))
        cycle(con, at(day * 21))
        assert counted(con) == {}
        feed(con, "task_output", [output(1, 1, 5)], at(day * 21 + 1))
        cycle(con, at(day * 21 + 1))
        told = counted(con)
        for grain, word in {"minute": "minute", "hour": "hourly", "day": "daily"}.items():
            (found,) = con.execute(f"SELECT sum(revision - 1) FROM mart.output_{word}_stats").fetchall()
            assert (told[grain],) == found
        con.execute("DELETE FROM meta.dirty_hour")  # those of endpoints, which this cycle leaves out
        limits, report = RetentionSettings(minute_days=9, hour_days=9, day_days=9), RetentionReport()
        for _ in range(2):
            while prune_statistics_slice(con, limits, at(day * 21), report):
                pass
            assert con.execute("SELECT max(revision) FROM mart.output_daily_stats").fetchall() == [(1,)]
            assert counted(con) == told
        feed(con, "task_output", [output(2, 2, day * 20 + 5)], at(day * 21 + 2))
        cycle(con, at(day * 21 + 2))
        assert counted(con) == {grain: 2 * n for grain, n in told.items()}


def test_rows_close_when_their_outputs_had_time_to_appear() -> None:
    """M-601: five minutes after the minute, while other statistics close after one."""
    con = new_store()
    feed(con, "task", [task(1, 0.5), task(2, 1.5)], at(6))
    cycle(con, at(6), endpoints=True)
    assert hourly(con, "success_tasks, state, closed_minutes") == [(1, "partial", 1)]
    assert con.execute("SELECT sum(tasks_completed) FROM mart.endpoint_minute_stats").fetchone() == (2,)
    cycle(con, at(7))
    assert hourly(con, "success_tasks, state, closed_minutes") == [(2, "partial", 2)]


def test_outputs_that_came_before_their_task_are_found() -> None:
    """E-100: however long before; an output without a task is in no column."""
    con = new_store()
    feed(con, "task_output", [output(1, 1, 1), output(2, 9, 1)], at(120))
    cycle(con, at(120))
    assert hourly(con, "*") == []
    feed(con, "task", [task(1, 2)], at(500))
    cycle(con, at(500))
    assert hourly(con, "tasks_with_outputs, outputs_created") == [(1, 1)]
    assert con.execute("SELECT task_key FROM core.output_unplaced").fetchall() == [("t9",)]


def test_repaired_outputs_count_for_completeness_but_not_for_delay() -> None:
    """R-412, C-104: whether the repair is recorded before or after the row is read; a rollback takes it back."""
    con = new_store()
    feed(con, "task", [task(1, 5), task(2, 6)], at(120))
    cycle(con, at(120))
    assert record_repaired(con, "shop", ["o1"], at(121)) == 1
    feed(con, "task_output", [output(1, 1, 121), output(2, 2, 121)], at(122))
    cycle(con, at(125))
    assert record_repaired(con, "shop", ["o1", "o2"], at(126)) == 1
    cycle(con, at(130))
    figures = (
        "tasks_with_outputs, repaired_tasks, delayed_tasks, delay_population, outputs_created, outputs_created_repair"
    )
    assert hourly(con, figures) == [(2, 2, 0, 0, 0, 0), (0, 0, 0, 0, 0, 2)]
    assert forget_repaired(con, "shop", ["o2"], at(131)) == 1
    cycle(con, at(132))
    assert hourly(con, figures) == [(2, 1, 1, 1, 0, 0), (0, 0, 0, 0, 1, 1)]


def test_the_delay_of_an_output_without_a_time_of_creation_is_not_known() -> None:
    """E-003, C-104: it is no delay of 0; one with a time beside it is measured."""
    con = new_store()
    feed(con, "task", [task(1, 5), task(2, 66), task(3, 66)], at(180))
    unknown = {"created_at": None}
    feed(con, "task_output", [output(n, n, 70) | (unknown if n < 3 else {}) for n in (1, 2, 3)], at(180))
    cycle(con, at(180))
    figures = "tasks_with_outputs, delay_population, delayed_tasks, max_delay_s"
    assert hourly(con, figures) == [(1, 1, 0, None), (2, 2, 0, 240)]


def test_outputs_dated_in_the_future_do_not_exist_until_then() -> None:
    """E-306."""
    con = new_store()
    feed(con, "task", [task(1, 5)], at(120))
    feed(con, "task_output", [output(1, 1, 150)], at(120))
    cycle(con, at(120))
    assert hourly(con, "tasks_with_outputs") == [(0,)]
    cycle(con, at(180))
    assert hourly(con, "tasks_with_outputs, outputs_created") == [(1, 0), (0, 1)]


def test_a_status_seen_later_moves_the_task() -> None:
    """E-603: a task that turns out to have failed leaves the denominator of its hour."""
    con = new_store()
    feed(con, "task", [task(1, 5), task(2, None, "running")], at(120))
    cycle(con, at(120))
    feed(con, "task", [task(1, 5, "failed"), task(2, 65)], at(130))
    cycle(con, at(140))
    assert hourly(con, "hour(stat_hour), total_tasks, success_tasks") == [(10, 1, 0), (11, 1, 1)]


TASKS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from([0, 0.5, 59.99, 60, 61, 130])),
        st.sampled_from(["succeeded", "succeeded", "succeeded", "failed", "running"]),
        st.sampled_from("ab"),
    ),
    min_size=1, max_size=6,
)  # fmt: skip
OUTPUTS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 60, 61, 95, 125]), st.sampled_from([9, 10, 11]),
              st.sampled_from(["", "http://h/same", "http://h/same?sig=1"])),
    max_size=8,
)  # fmt: skip


@given(TASKS, OUTPUTS, st.data())
@settings(max_examples=8, deadline=None, derandomize=True)
def test_however_rows_arrive_the_statistics_are_those_of_the_final_rows(
    tasks: list[Any], outputs: list[Any], data: st.DataObject
) -> None:
    """M-805: tasks and outputs in any order and batching, with cycles between them, against a plain count."""
    task_rows = [task(n, *given) for n, given in enumerate(tasks)]
    output_rows = [output(n, *given) for n, given in enumerate(outputs)]
    batches = data.draw(
        st.permutations([("task", row) for row in task_rows] + [("task_output", row) for row in output_rows])
    )
    con = new_store()
    feed(con, "task", [{**task_rows[0], "ended_at": None, "status": "running"}], at(180))
    for number, (entity, row) in enumerate(batches):
        feed(con, entity, [row], at(181 + number))
        if data.draw(st.booleans()):
            cycle(con, at(181 + number))
    cycle(con, at(300))
    expected = expectation(task_rows, output_rows)
    for table, length in (("minute", MINUTE), ("hourly", HOUR), ("daily", 24 * HOUR)):
        found = {
            (row["endpoint"], row[{"minute": "stat_minute", "hourly": "stat_hour", "daily": "stat_date"}[table]]): row
            for row in rows_of(con, f"mart.output_{table}_stats")
        }
        wanted = totals(expected, length)
        assert {(endpoint, bucket if length < 24 * HOUR else bucket.date()) for endpoint, bucket in wanted} == set(
            found
        )
        for (endpoint, bucket), figures in wanted.items():
            row = found[endpoint, bucket if length < 24 * HOUR else bucket.date()]
            assert {name: row[name] for name in figures} == figures, (table, endpoint, bucket)


def expectation(
    tasks: list[dict[str, Any]], outputs: list[dict[str, Any]]
) -> list[tuple[str, datetime, dict[str, Any]]]:
    """(endpoint, instant, contributions) counted straight from the final rows."""
    found = []
    for row in tasks:
        end = row["ended_at"] or (row["created_at"] if row["status"] in FINAL else None)
        if row["status"] not in FINAL:
            continue
        mine = [o for o in outputs if o["task_key"] == row["task_key"]]
        valid = [o for o in mine if o["size_bytes"] >= 10]
        if row["status"] == "succeeded":
            delays = [max(0.0, (o["created_at"] - end).total_seconds()) for o in valid]
            found.append((row["endpoint"], end, {
                "total_tasks": 1, "success_tasks": 1, "tasks_with_outputs": bool(valid), "missing_count": not valid,
                "total_outputs": len(valid), "distinct_outputs": len({o["uri"].split("?")[0] for o in valid}),
                "invalid_outputs": len(mine) - len(valid), "delayed_tasks": any(d > 1800 for d in delays),
                "delay_population": bool(valid), "no_end_time": row["ended_at"] is None,
            }))  # fmt: skip
            found += [(row["endpoint"], o["created_at"], {"outputs_created": 1}) for o in mine]
        else:
            found.append((row["endpoint"], end, {"total_tasks": 1}))
    return found


def totals(
    contributions: list[tuple[str, datetime, dict[str, Any]]], length: timedelta
) -> dict[tuple[str, datetime], dict[str, int]]:
    """Sums per endpoint and bucket."""
    names = ("total_tasks", "success_tasks", "tasks_with_outputs", "missing_count", "total_outputs", "distinct_outputs",
             "invalid_outputs", "delayed_tasks", "delay_population", "no_end_time", "outputs_created")  # fmt: skip
    result: dict[tuple[str, datetime], dict[str, int]] = defaultdict(lambda: dict.fromkeys(names, 0))
    for endpoint, instant, figures in contributions:
        bucket = instant - (instant - datetime(1970, 1, 1)) % length
        for name, value in figures.items():
            result[endpoint, bucket][name] += int(value)
    return result
