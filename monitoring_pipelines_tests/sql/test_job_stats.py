"""Statistics of jobs: late and changed runs, limits over time, and an independent count of the same rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines_tests.sql.feeding import cycle, delete, feed, new_store, rows_of

T0 = datetime(2026, 2, 1, 10)


def at(minutes: float) -> datetime:
    """So many minutes after ten."""
    return T0 + timedelta(minutes=minutes)


def run(number: int, ended: float | None, outcome: str = "success", job: str = "A", ms: int | None = 100, planned: float = 0) -> dict[str, Any]:  # fmt: skip
    """A run that ended so many minutes after ten."""
    end = None if ended is None else at(ended)
    return {"row_id": number, "run_key": f"r{number}", "job_id": job, "outcome": outcome, "ended_at": end, "started_at": end,
            "duration_ms": ms, "scheduled_at": at(planned), "trigger": "schedule"}  # fmt: skip


def hourly(con: duckdb.DuckDBPyConnection, columns: str) -> list[tuple[Any, ...]]:
    """Columns of the hour rows, oldest first."""
    return con.execute(f"SELECT {columns} FROM mart.job_hourly_stats ORDER BY stat_hour, job_id").fetchall()


def test_a_run_that_ends_later_leaves_its_old_hours_alone_and_a_late_one_restates_its_hour() -> None:
    """E-603, M-803, M-804: old and new version decide what is computed again; equal values stay."""
    con = new_store()
    feed(con, "job_run", [run(1, 5), run(2, None, "running")], at(120))
    cycle(con, at(120))
    assert hourly(con, "hour(stat_hour), total_runs, revision") == [(10, 1, 1)]
    feed(con, "job_run", [run(2, 70), run(3, 6, "failure")], at(121))
    cycle(con, at(121))
    assert hourly(con, "hour(stat_hour), success_count, failure_count, revision") == [(10, 1, 1, 2), (11, 1, 0, 1)]
    delete(con, "job_run", "r3", at(122))
    feed(con, "job_run", [run(2, 75)], at(122))
    cycle(con, at(122))
    assert hourly(con, "total_runs, revision") == [(2, 2), (1, 2)], "a deleted run keeps counting (E-610)"


def test_a_changed_limit_holds_for_later_runs_only() -> None:
    """M-805: the limit is measured as it was; the first known one also holds for runs that were read before it."""
    con = new_store()
    feed(con, "job_run", [run(1, 5, ms=3000), run(2, 125, ms=3000)], at(130))
    cycle(con, at(130))
    assert hourly(con, "sla_violations") == [(None,), (None,)]
    feed(con, "job", [{"row_id": 1, "job_id": "A", "sla_seconds": 2.5}], at(131))
    cycle(con, at(131))
    assert hourly(con, "sla_violations") == [(1,), (1,)]
    feed(con, "job", [{"row_id": 1, "job_id": "A", "sla_seconds": 10.0}], at(132))
    feed(con, "job_run", [run(3, 132, ms=3000), run(4, 6, ms=3000)], at(135))
    cycle(con, at(140))
    assert hourly(con, "sla_violations") == [(2,), (1,)]


RUNS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from([0, 0.01, 59.99, 60, 61, 130])),
        st.sampled_from(["success", "success", "failure", "timeout", "missed", "skipped", "running"]),
        st.sampled_from("AB"),
        st.sampled_from([None, 0, 70, 95, 2500, -5]),
        st.sampled_from([0, 61]),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(RUNS, st.data())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_however_runs_arrive_the_statistics_are_those_of_the_final_rows(runs: list[Any], data: st.DataObject) -> None:
    """M-805, M-501: any order and batching, with cycles between and rows that change, against a plain count."""
    rows = [run(n, *given) for n, given in enumerate(runs)]
    con = new_store()
    feed(con, "job_run", [{**rows[0], "outcome": "running", "ended_at": None}], at(200))
    for number, row in enumerate(data.draw(st.permutations(rows))):
        feed(con, "job_run", [row], at(201 + number))
        if data.draw(st.booleans()):
            cycle(con, at(201 + number))
    cycle(con, at(300))
    for table, bucket, length in (
        ("minute", "stat_minute", timedelta(minutes=1)), ("hourly", "stat_hour", timedelta(hours=1)),
        ("daily", "stat_date", timedelta(days=1)),
    ):  # fmt: skip
        found = {(r["job_id"], str(r[bucket])[:19]): r for r in rows_of(con, f"mart.job_{table}_stats")}
        wanted = expectation(rows, length)
        assert set(found) == {(job, str(start if table != "daily" else start.date())) for job, start in wanted}
        for (job, start), figures in wanted.items():
            row = found[job, str(start if table != "daily" else start.date())]
            assert {name: row[name] for name in figures} == figures


def expectation(rows: list[dict[str, Any]], length: timedelta) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Figures per job and bucket, counted straight from the rows."""
    groups: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
    for row in rows:
        instant = row["scheduled_at"] if row["outcome"] in ("missed", "skipped") else row["ended_at"]
        if instant is not None and row["outcome"] != "running":
            start = instant - (instant - datetime(1970, 1, 1)) % length
            groups.setdefault((row["job_id"], start), []).append(row)
    return {key: _figures(found) for key, found in groups.items()}


def _figures(found: list[dict[str, Any]]) -> dict[str, Any]:
    finished = [row for row in found if row["outcome"] in ("success", "failure", "timeout")]
    took = sorted(
        0 if row["duration_ms"] is None else row["duration_ms"] for row in finished if (row["duration_ms"] or 0) >= 0
    )
    good = sum(row["outcome"] == "success" for row in finished)
    position = (len(took) - 1) * Decimal("0.95")
    low = int(position)
    high = min(low + 1, len(took) - 1)
    p95 = took[low] + (position - low) * (took[high] - took[low]) if took else None
    return {
        "success_count": good,
        "failure_count": len(finished) - good,
        "timeout_count": sum(row["outcome"] == "timeout" for row in finished),
        "total_runs": len(finished),
        "missed_count": sum(row["outcome"] == "missed" for row in found),
        "skipped_count": sum(row["outcome"] == "skipped" for row in found),
        "duration_n": len(took),
        "duration_sum_ms": sum(took),
        "p95_duration_ms": p95 if p95 is None else round(Decimal(p95), 2),
        "last_outcome": max(finished, key=lambda r: (r["ended_at"], r["run_key"]))["outcome"] if finished else None,
    }
