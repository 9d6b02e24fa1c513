"""Cost of evaluating all rules: an idle tick, and one with a hundred processes and targets.

Usage: ``python -m benchmarks.rules [--processes 100] [--series 8] [--small]``.

The peer is a Prometheus server of the distribution that evaluates the same conditions over the same number of series once:
``promtool test rules`` on a generated rule file, CPU seconds of the process. Without promtool only ours is measured.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks._common import machine, table
from monitoring_pipelines.alerts.rules import evaluate
from monitoring_pipelines.alerts.rules.prometheus import render
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.collect.answers import Row
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.state import StateStore, collected

START = datetime(2026, 2, 1, 6, 0)
#: Seconds between two evaluations (A-201).
TICK_S = 30


def settings_for(folder: Path, processes: int) -> Settings:
    scrapes = [
        {"target": f"t{n}", "url": "http://127.0.0.1:9/metrics", "interval_s": 15, "process_id": f"p{n}",
         "series": {"ok": "published_total"}} for n in range(processes)
    ]  # fmt: skip
    return Settings(paths={"data": str(folder), "logs": str(folder)}, scrapes=scrapes).attach(None, folder)


def fill(state: StateStore, processes: int, series: int, second: int) -> None:
    at = START + timedelta(seconds=second)
    rows = []
    for n in range(processes):
        result = {"target": f"t{n}", "at": at, "kind": "scrape", "up": True, "http_status": 200}
        sample = {"process_id": f"p{n}", "at": at, "scope": "process", "rss_bytes": 10**9 + n, "conns": 12, "fds": 90,
                  "fds_max": 1024, "threads": 9, "objects": 10**6, "cpu_pct": 5.0, "load1": 0.5, "effective_cores": 2.0,
                  "tcp_by_state": {"ESTABLISHED": 12}}  # fmt: skip
        rows += [
            Row("collector", "probe_result", f"scrape:t{n}", at, result),
            Row("collector", "process_sample", f"p{n}", at, sample),
        ]
        for number in range(series):
            counted = {"process_id": f"p{n}", "series": f"s{number}", "at": at, "kind": "ok", "value": 20 * second}
            rows.append(Row("collector", "ingest_counter", f"p{n}/s{number}/ok", at, counted))
    collected.store(state, rows, at, 15)


def ours(processes: int, series: int, ticks: int) -> tuple[float, float, int]:
    """(median CPU seconds, median wall seconds of a tick, observations of one)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = StateStore(f"sqlite:///{folder / 'state.sqlite3'}")
        pipe = Pipeline.of(settings_for(folder, processes), FixedClock(START))
        with pipe.warehouse.writer("benchmark"):
            pass
        cpu, wall, said = [], [], 0
        for second in range(0, 300 + TICK_S * ticks + 1, 15):
            fill(state, processes, series, second)
            if second < 300 or second % TICK_S:
                continue
            began, spent = time.perf_counter(), time.process_time()
            said = len(evaluate(pipe, state, START + timedelta(seconds=second)))
            cpu.append(time.process_time() - spent)
            wall.append(time.perf_counter() - began)
        state.dispose()
        return statistics.median(cpu[1:]), statistics.median(wall[1:]), said


def prometheus(processes: int, series: int) -> float | None:
    """CPU seconds per evaluation of the four collector rules for as many jobs, by promtool; None without it."""
    tool = shutil.which("promtool")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = []
        for n in range(processes):
            text = render(Settings(), f'published_total{{job="j{n}"}}', f"j{n}").split("groups:\n", 1)[1]
            groups.append(text.split("  - name: monitoring-pipelines")[0].replace("name: collector", f"name: g{n}"))
        (folder / "rules.yml").write_text("groups:\n" + "".join(groups))
        spent = []
        for minutes in (5, 65):
            samples = minutes * 4
            lines = [
                "rule_files: [rules.yml]",
                "evaluation_interval: 30s",
                "tests:",
                "  - interval: 15s",
                "    input_series:",
            ]
            for n in range(processes):
                lines += [
                    f"      - {{series: 'up{{job=\"j{n}\"}}', values: '1x{samples}'}}",
                    f"      - {{series: 'process_resident_memory_bytes{{job=\"j{n}\"}}', values: '1000000000x{samples}'}}",
                ]
                lines += [
                    f"      - {{series: 'published_total{{job=\"j{n}\",data_type=\"s{k}\"}}', values: '0+300x{samples}'}}"
                    for k in range(series)
                ]
            lines += ["    alert_rule_test:", f"      - {{eval_time: {minutes}m, alertname: CollectorTargetDown}}"]
            (folder / "test.yml").write_text("\n".join(lines))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([tool, "test", "rules", "test.yml"], cwd=folder, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return max(spent[1] - spent[0], 0.0) / 120  # an hour more is 120 evaluations more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--ticks", type=int, default=8)
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    processes, ticks = (10, 3) if chosen.small else (chosen.processes, chosen.ticks)
    print(f"{machine()}\n")
    rows = []
    for count in (0, processes):
        cpu, wall, said = ours(count, chosen.series, ticks)
        peer = prometheus(count, chosen.series) if count else None
        rows.append(
            [f"{count} processes, {count * chosen.series} series", said, f"{cpu * 1000:.0f} ms", f"{wall * 1000:.0f} ms",
             f"{100 * cpu / TICK_S:.2f} %", "–" if peer is None else f"{peer * 1000:.1f} ms",
             "–" if not peer else f"{cpu / peer:.1f}"]
        )  # fmt: skip
    head = [
        "",
        "observations",
        "CPU a tick",
        "wall a tick",
        "share of one core at 30 s",
        "Prometheus, 4 rules each",
        "ratio",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
