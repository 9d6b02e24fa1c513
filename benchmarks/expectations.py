"""Cost of the expectation suites: importing the library, and judging a batch, against the same rules in plain SQL.

    python -m benchmarks.expectations            # small: 10,000 rows
    python -m benchmarks.expectations 50000      # the largest batch a run judges

Every contestant is a process of its own. The peer does what the suite for tasks does with one DuckDB query; it says
nothing about which rows are wrong, and is the floor under which no library can get.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta
from typing import Any

from benchmarks._common import in_child, machine, measure, table

MODULE = "benchmarks.expectations"
NOW = datetime(2026, 2, 11, 12)
ROWS = """
CREATE SCHEMA raw;
CREATE TABLE raw.task AS SELECT
    'shop' AS source_id, 'task-' || i AS task_key, 'endpoint-' || (i % 8) AS endpoint, 'succeeded' AS status,
    $end::TIMESTAMP - to_seconds(i % 3600 + 30) AS created_at, $end::TIMESTAMP - to_seconds(i % 3600 + 20) AS started_at,
    $end::TIMESTAMP - to_seconds(i % 3600) AS ended_at, $end::TIMESTAMP - to_seconds(i % 3600) AS effective_end,
    NULL::VARCHAR AS error_message, false AS is_deleted, NULL::TIMESTAMP AS deleted_at,
FROM range($rows) AS r (i)
"""
PLAIN = """
SELECT count(*) FILTER (WHERE task_key IS NULL OR task_key = ''), count(*) FILTER (WHERE endpoint IS NULL),
    count(*) FILTER (WHERE status NOT IN ('succeeded', 'failed', 'timed_out', 'cancelled')),
    count(*) - count(DISTINCT task_key), count(*) FILTER (WHERE ended_at < started_at),
    count(*) FILTER (WHERE started_at < created_at), count(*) FILTER (WHERE length(error_message) > 1000)
FROM raw.task
"""


def fill(rows: int) -> Any:
    """An in-memory warehouse with so many tasks."""
    import duckdb

    con = duckdb.connect()
    con.execute(ROWS, {"end": NOW - timedelta(hours=1), "rows": rows})
    return con


def child(what: str, rows: int) -> None:
    """One contestant; what is measured is printed."""
    from monitoring_pipelines.quality import expectations
    from monitoring_pipelines.quality.suites import SUITES
    from monitoring_pipelines.severity import BandLimits

    def load() -> Any:
        with expectations._context():
            return 0

    def judged() -> Any:
        batch = expectations.read_batch(con, SUITES["task"], "shop", NOW - timedelta(hours=24), NOW, NOW, settle_s=300)
        outcome = expectations.judge(SUITES["task"], batch, "shop", BandLimits(), NOW)
        assert outcome.status == "passed"
        return outcome.metrics["expectations"]

    con = fill(rows)
    if what == "import":
        measure(load)
    elif what == "suite":
        load()
        con.execute("SELECT 1").df()
        measure(judged)
    else:
        measure(lambda: len(con.execute(PLAIN).fetchall()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="?", type=int, default=10_000)
    rows = parser.parse_args().rows
    plain, loaded, suite = (in_child(MODULE, [what, str(rows)]) for what in ("plain", "import", "suite"))
    print(f"{machine()}; {rows:,} rows, {suite.value} expectations\n")
    ratio = suite.cpu_s / plain.cpu_s
    print(
        table(
            ["", "CPU s", "wall s", "peak MB", "ratio"],
            [
                [
                    "the same rules in one SQL query",
                    f"{plain.cpu_s:.3f}",
                    f"{plain.wall_s:.3f}",
                    f"{plain.peak_mb:.0f}",
                    "1",
                ],
                [
                    "suite, library loaded",
                    f"{suite.cpu_s:.3f}",
                    f"{suite.wall_s:.3f}",
                    f"{suite.peak_mb:.0f}",
                    f"{ratio:.0f}",
                ],
                ["loading the library", f"{loaded.cpu_s:.3f}", f"{loaded.wall_s:.3f}", f"{loaded.peak_mb:.0f}", "–"],
            ],
        )
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], int(sys.argv[2]))
    else:
        main()
