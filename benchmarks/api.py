"""Answers of the API over ten million stored tasks, eight clients at once, while files keep changing.

    python -m benchmarks.api                      # small: one million tasks, 150 requests a path
    python -m benchmarks.api 10000000 --requests 400

The peer is the plain question to the same files without what the API remembers of them: one DuckDB statement with
count and page over all files, in the same process and run. Prints p50 and p95 of both, and the memory of the server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import requests

from benchmarks._common import machine, table

NOW = datetime(2026, 2, 11, 6)
CONFIG = """\
version: 1
sources: [{id: shop, preset: waverless, read_dsn_env: BENCH_DSN}]
"""
PATHS = {
    "tasks, first page": "/api/v1/tasks",
    "tasks, page 1000": "/api/v1/tasks?page=1000",
    "tasks, failed": "/api/v1/tasks?status=failed",
    "tasks, one endpoint": "/api/v1/tasks?endpoint=ep-7",
    "tasks, without output": "/api/v1/tasks?has_output=false",
    "tasks, by text": "/api/v1/tasks?q=task-00012",
    "one task": "/api/v1/tasks/task-000123456",
    "task counters": "/api/v1/task-counters",
    "missing, 24 h": "/api/v1/completeness/missing",
    "overview": "/api/v1/overview",
    "endpoints": "/api/v1/endpoints",
    "endpoint, 24 h": "/api/v1/endpoints/ep-7/stats?granularity=hour&from=2026-02-10T00:00:00Z&to=2026-02-11T00:00:00Z",
    "stats of the task monitor": "/api/monitor/stats",
    "page: overview": "/",
    "page: consistency": "/consistency",
    "metrics": "/metrics",
}


def fill(folder: Path, tasks: int) -> Any:
    """A lake with ``tasks`` tasks over 30 days and hour rows of 100 endpoints."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.core_tables import ensure_core
    from monitoring_pipelines.warehouse.publish import publish
    from monitoring_pipelines.warehouse.windows import prepare

    os.environ["BENCH_DSN"] = "mysql://nobody:none@127.0.0.1:1/none"
    (folder / "monitoring.yaml").write_text(CONFIG, encoding="utf-8")
    settings = load_settings(folder / "monitoring.yaml")
    clock = FixedClock(NOW)
    step_ms = 30 * 86_400_000 / tasks
    began = time.perf_counter()
    with Warehouse(settings.warehouse_path, clock=clock).writer("fill") as con:
        ensure_core(con)
        con.execute(
            "INSERT INTO raw.task (source_id, task_key, endpoint, status, raw_status, created_at, started_at, ended_at, effective_end, "
            "output_expected, is_deleted, first_seen_at, changed_at, key_hash) SELECT 'shop', k, 'ep-' || i % 100, s, upper(s), c, c, e, e, "
            "true, false, c, c, md5_number_lower(concat_ws(chr(31), 'shop', k)) FROM (SELECT i, 'task-' || lpad(i::VARCHAR, 9, '0') AS k, "
            "CASE i % 50 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END AS s, "
            f"$now::TIMESTAMP - to_milliseconds(i * {step_ms} + 400000) AS c, c + INTERVAL 12 SECOND AS e FROM range($n) AS t(i))",
            {"now": NOW, "n": tasks},
        )
        con.execute(
            "INSERT INTO core.task_attempt (source_id, task_key, attempt_no, endpoint, worker_key, started_at, ended_at, outcome, counted, "
            "execution_ms, late_event_count, task_hash) SELECT source_id, task_key, 1, endpoint, 'w-1', started_at, ended_at, "
            "CASE status WHEN 'succeeded' THEN 'completed' ELSE status END, true, 12000, 0, key_hash FROM raw.task"
        )
        con.execute(
            "INSERT INTO raw.task_output (source_id, output_key, task_key, name, created_at, is_deleted, origin, valid, natural_key, "
            "first_seen_at, task_hash) SELECT source_id, task_key, task_key, 'f', ended_at, false, 'app', true, task_key, created_at, key_hash "
            "FROM raw.task WHERE status = 'succeeded' AND hash(task_key) % 40 <> 0"
        )
        con.execute(
            "INSERT INTO meta.source_state (source_id, as_of, closed_through, origin) VALUES ('shop', ?, ?, ?)",
            [NOW, NOW, NOW - timedelta(days=30)],
        )
        prepare(con)
        con.execute(
            "INSERT INTO raw.endpoint (source_id, endpoint, status, first_seen_at) SELECT 'shop', 'ep-' || i, 'active', ? FROM range(100) AS t(i)",
            [NOW],
        )
        for grain, column, step, count in (
            ("hourly", "stat_hour", "HOUR", 720),
            ("minute", "stat_minute", "MINUTE", 1440),
        ):
            con.execute(
                f"INSERT INTO mart.endpoint_{grain}_stats BY NAME SELECT 'shop' AS source_id, 'ep-' || e AS endpoint, "
                f"$now::TIMESTAMP - (n + 1) * INTERVAL 1 {step} AS {column}, 100 AS tasks_submitted, 98 AS tasks_completed, 2 AS tasks_failed, "
                "0 AS tasks_timeout, 98 AS execution_n, 1176000 AS execution_sum_ms, 12000 AS min_execution_ms, 12000 AS max_execution_ms, "
                "12000 AS p95_execution_ms, '{\"469\": 98}' AS exec_hist, 3 AS active_workers, 1 AS idle_workers, 4 AS total_workers, "
                "'exact' AS quality, 'closed' AS state, 1 AS revision FROM range($n) AS a(n), range(100) AS b(e)",
                {"now": NOW, "n": count},
            )
        while True:
            if not publish(con, settings.lake_path, clock, budget_s=600).waiting:
                break
    print(f"{tasks:,} tasks stored and published in {time.perf_counter() - began:.0f} s")
    return settings, clock


def serve(settings: Any, clock: Any) -> tuple[str, Any]:
    """The server in a thread of this process; its address."""
    from monitoring_pipelines.cli.serve import make_server

    server = make_server(settings, clock, "127.0.0.1", 0)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server


def ask(url: str, count: int) -> list[float]:
    """Seconds of ``count`` requests by eight clients."""

    def one(_: int) -> float:
        session = requests.Session()
        session.trust_env = False
        began = time.perf_counter()
        answer = session.get(url, timeout=60)
        answer.raise_for_status()
        return time.perf_counter() - began

    with ThreadPoolExecutor(8) as pool:
        return sorted(pool.map(one, range(count)))


def plain(settings: Any, count: int) -> list[float]:
    """The peer: the same page and total by one statement over all files."""
    from monitoring_pipelines.published.reader import Published

    with Published(settings.lake_path).look() as look:
        table_ = look.table("core.task")
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            look.value(f"SELECT count(*) FROM {table_} WHERE status = 'failed'")
            look.rows(f"SELECT * FROM {table_} WHERE status = 'failed' ORDER BY bucket_at DESC, task_key LIMIT 50")
            seconds.append(time.perf_counter() - began)
    return sorted(seconds)


def main() -> None:
    """Fill, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=64)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-api-"))
    try:
        settings, clock = fill(folder, given.tasks)
        url, server = serve(settings, clock)
        rows = []
        for what, path in PATHS.items():
            first = ask(url + path, 1)[0]
            seconds = ask(url + path, given.requests)
            rows.append(
                [
                    what,
                    f"{first * 1000:.0f}",
                    *(f"{seconds[int(len(seconds) * p) - 1] * 1000:.0f}" for p in (0.5, 0.95)),
                ]
            )
        seconds = plain(settings, 5)
        rows.append(
            [
                "peer: failed tasks, plain SQL, one client",
                f"{seconds[-1] * 1000:.0f}",
                f"{seconds[2] * 1000:.0f}",
                f"{seconds[-1] * 1000:.0f}",
            ]
        )
        print(machine())
        print(table(["answer", "first ms", "p50 ms", "p95 ms"], rows))
        print(f"memory of the process: {psutil.Process().memory_info().rss / 2**20:.0f} MiB")
        server.should_exit = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
