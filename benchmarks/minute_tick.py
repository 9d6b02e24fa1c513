"""One minute tick as the daemon runs it, with one day and with ten days stored, against a run that finds nothing.

    python -m benchmarks.minute_tick                    # small: one day, two minutes
    python -m benchmarks.minute_tick 1 10 --minutes 5   # the figures of the documentation; builds 10.8 M tasks, 43 M events

Every tick is a process of its own that loads the code location and executes ``minute_tick_job``: all CPU time counts,
imports too. The peer is the same job over the same tables without rows: what Dagster and the imports cost. Building the
store computes core and statistics of its newest day from raw rows, which is the figure "rebuild of a day"; of a longer
store all raw rows are generated, and core and statistics of the older days are that day's, moved in time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._common import Sample, in_child, machine, measure, median, table, test_server
from benchmarks._history import MIDNIGHT, build_day, build_history, copy_days, publish_all
from benchmarks._platform import DDL, Platform

MODULE = "benchmarks.minute_tick"
CONFIG = """\
version: 1
stats: {start: 2026-02-01, backfill_days: 1}
sources: [{id: shop, preset: waverless, read_dsn_env: BENCH_DSN}]
"""


def run_job(now: str) -> dict[str, Any]:
    """Execute the tick job once; all CPU seconds of this process, the uses of the lock and what was computed."""
    os.environ["MP_NOW"] = now + "Z"
    from monitoring_pipelines.warehouse import connect

    uses: list[connect.LockUse] = []
    remember = connect.WarehouseStats.add

    def add(stats: connect.WarehouseStats, use: connect.LockUse) -> None:
        uses.append(use)
        remember(stats, use)

    connect.WarehouseStats.add = add  # type: ignore[method-assign]
    from dagster import DagsterInstance

    from monitoring_pipelines.definitions import build_defs

    began = time.process_time()
    with DagsterInstance.get() as instance:
        result = build_defs().resolve_job_def("minute_tick_job").execute_in_process(instance=instance)
    assert result.success
    return {
        "job_cpu_s": time.process_time() - began,
        "all_cpu_s": time.process_time(),
        "holds": [[use.purpose, round(use.hold_s, 3)] for use in uses if use.mode == "write"],
    }


def wait_often(path: str, seconds: str) -> list[float]:
    """Ask for the warehouse every 50 ms while a tick runs, as sensors and checks do; seconds waited each time."""
    from monitoring_pipelines.warehouse.connect import Warehouse

    warehouse = Warehouse(path)
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        with warehouse.reader("benchmark waits"):
            pass
        time.sleep(0.05)
    return [use.wait_s for use in warehouse.stats.uses]


def main() -> None:
    """Build stores, run ticks, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("days", nargs="*", type=int, default=[1])
    parser.add_argument("--minutes", type=int, default=2)
    parser.add_argument("--keep", help="folder for the stores; one that exists is used again")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, *arguments = given.child
        functions = {
            "build_day": build_day, "build_history": build_history, "copy_days": copy_days, "run_job": run_job,
            "publish_all": publish_all, "wait_often": wait_often,
        }  # fmt: skip
        measure(lambda: functions[name](*arguments))
        return
    print(f"{machine()}; medians of {given.minutes} ticks")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(given.keep or scratch)
        ticks: dict[str, list[Sample]] = {}
        builds: list[Sample] = []
        with test_server(None) as database:
            ticks["no rows"] = _ticks(root / "empty", database, 0, given.minutes)
        for days in given.days:
            builds += _build(root, days)
            with test_server(None) as database:
                ticks[f"{days} days"] = _ticks(root / f"days-{days}", database, days, given.minutes)
    _report(ticks, builds)


def _build(root: Path, days: int) -> list[Sample]:
    """``history.duckdb`` of one day, and from it of ``days`` days, where missing; samples of computed days."""
    builds: list[Sample] = []
    one, store = (root / f"days-{number}" / "history.duckdb" for number in (1, days))
    for path in (one, store):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not one.exists():
        in_child(MODULE, ["--child", "build_history", str(one), "1"])
        builds.append(in_child(MODULE, ["--child", "build_day", str(one), (MIDNIGHT - timedelta(days=1)).isoformat()]))
    if not store.exists():
        in_child(MODULE, ["--child", "build_history", str(store), str(days)])
        in_child(MODULE, ["--child", "copy_days", str(store), str(one), str(days)])
    if not store.with_name("lake").exists():
        in_child(MODULE, ["--child", "publish_all", str(store), str(store.with_name("lake"))])
    return builds


def _ticks(root: Path, database: Any, days: int, minutes: int) -> list[Sample]:
    """Ticks of ``minutes`` minutes after midnight, on a store of so many days; the first ones warm up and load."""
    env = {"MP_CONFIG": str(root / "monitoring.yaml"), "BENCH_DSN": database.dsn, "DAGSTER_HOME": str(root / "dagster")}
    path = root / "data" / "warehouse.duckdb"
    (root / "dagster").mkdir(parents=True, exist_ok=True)
    (root / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (root / "monitoring.yaml").write_text(CONFIG)
    store = root / "history.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob("*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    if days:
        shutil.copy(store, path)
        shutil.copytree(store.with_name("lake"), path.with_name("lake"))
    platform = Platform(MIDNIGHT - timedelta(days=days))
    for statement in DDL:
        database.execute(statement)
    samples = []
    warm_up = 12
    for minute in range(warm_up + minutes):
        start = MIDNIGHT + timedelta(minutes=minute)
        now = start + timedelta(minutes=1)
        if days:
            _advance(database, platform, start, now, first=not minute)
        if minute == 0 or minute >= warm_up - 2:
            sample = in_child(MODULE, ["--child", "run_job", (now + timedelta(seconds=5)).isoformat()], env)
            if minute >= warm_up:
                samples.append(sample)
    if days:
        _say_waits(database, platform, path, MIDNIGHT + timedelta(minutes=warm_up + minutes), env)
    return samples


def _say_waits(database: Any, platform: Platform, path: Path, start: datetime, env: dict[str, str]) -> None:
    """Three more ticks, during which another process asks for the warehouse all the time."""
    waits: list[float] = []
    holds: list[list[Any]] = []
    for minute in range(3):
        now = start + timedelta(minutes=minute + 1)
        _advance(database, platform, now - timedelta(minutes=1), now, first=False)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(in_child, MODULE, ["--child", "wait_often", str(path), "9"])
            done = in_child(MODULE, ["--child", "run_job", (now + timedelta(seconds=5)).isoformat()], env)
            waits += asked.result().value
        holds += done.value["holds"]
    holds.sort(key=lambda hold: -hold[1])
    print(
        f"{path.parent.parent.name}: longest waits of another process: {[round(s, 2) for s in sorted(waits)[-5:]]} s; holds: {holds[:5]}"
    )


def _advance(database: Any, platform: Platform, start: datetime, end: datetime, first: bool) -> None:
    """The platform's next minute, in the source."""
    low, high = platform.task_number(start), platform.task_number(end)
    if first:
        database.execute(platform.workers_sql(start))
    database.execute(platform.tasks_sql(low, high, end))
    database.execute(platform.progress_sql(max(low - 800, platform.task_number(MIDNIGHT)), high, end))
    database.execute(platform.events_sql(start, end))
    database.execute(platform.snapshots_sql(start, end))
    database.execute(f"update workers set last_heartbeat = '{end}', updated_at = '{end}'")


def _report(ticks: dict[str, list[Sample]], builds: list[Sample]) -> None:
    empty = _median([sample.value["all_cpu_s"] for sample in ticks["no rows"]])
    lines = []
    for name, samples in ticks.items():
        cpu = _median([sample.value["all_cpu_s"] for sample in samples])
        mean = sum(sample.value["all_cpu_s"] for sample in samples) / len(samples)
        holds = [hold for sample in samples for hold in sample.value["holds"]]
        longest = max(holds, key=lambda hold: hold[1])
        per_tick = [sum(hold[1] for hold in sample.value["holds"]) for sample in samples]
        lines.append([
            name, f"{cpu:.2f}", f"{cpu - empty:.2f}", f"{mean - empty:.2f}", f"{median(samples, 'wall_s'):.2f}", f"{median(samples, 'peak_mb'):.0f}",
            f"{_median(per_tick):.2f}", f"{longest[1]:.2f} ({longest[0]})",
        ])  # fmt: skip
    print(
        table(
            [
                "stored",
                "CPU s",
                "beyond an empty run",
                "mean of that",
                "wall s",
                "peak MB",
                "lock held s",
                "longest hold s",
            ],
            lines,
        )
    )
    print(json.dumps({name: samples[-1].value["holds"] for name, samples in ticks.items()}))
    if builds:
        core, mart = (_median([b.value[part] for b in builds]) for part in ("core_s", "mart_s"))
        print(
            f"rebuild of a day from raw: {median(builds, 'wall_s'):.1f} s wall (core {core:.1f}, statistics {mart:.1f}), "
            f"{median(builds, 'cpu_s'):.1f} CPU s, {max(b.peak_mb for b in builds):.0f} MB"
        )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
