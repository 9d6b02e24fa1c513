"""Hour partitions backfilled through Dagster, against the same hours computed without it.

    python -m benchmarks.backfill                       # small: two days of a small platform
    python -m benchmarks.backfill --days 30 --step-ms 400

One run per 168 partitions, as the daemon cuts a backfill. The peer is the same range through the domain code alone in a
process of its own; what Dagster adds (loading, partition bookkeeping, events) is the share printed. Neither runs checks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks._common import Sample, in_child, machine, measure, table
from benchmarks._history import MIDNIGHT, build_day, build_history, copy_days
from benchmarks.minute_tick import CONFIG

MODULE = "benchmarks.backfill"
PER_RUN = 168


def through_dagster(first: str, hours: str) -> int:
    """One backfill run over a range of hour partitions; the partitions computed."""
    from dagster import AssetKey, DagsterInstance

    from monitoring_pipelines.definitions import build_defs
    from monitoring_pipelines.partition_keys import hour_key

    start = datetime.fromisoformat(first)
    last = start + timedelta(hours=int(hours) - 1)
    tags = {
        "dagster/asset_partition_range_start": hour_key(start),
        "dagster/asset_partition_range_end": hour_key(last),
        "dagster/backfill": "bench",
    }
    with DagsterInstance.get() as instance:
        job = build_defs().resolve_job_def("hourly_stats_job")
        assets = job.asset_layer.selected_asset_keys
        job = job.get_subset(asset_selection=assets, asset_check_selection=set())
        result = job.execute_in_process(instance=instance, tags=tags)
        assert result.success
        key = AssetKey(["mart", "endpoint_hourly_stats"])
        return len(instance.get_materialized_partitions(key))


def without_dagster(first: str, hours: str) -> int:
    """The same hours through the domain code; the windows computed."""
    from monitoring_pipelines import pipeline
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.config import load_settings

    start = datetime.fromisoformat(first)
    pipe = pipeline.Pipeline.of(load_settings(os.environ["MP_CONFIG"]), current_clock())
    count = 0
    for done in pipeline.compute_range(pipe, pipeline.HOUR_TABLES, start, start + timedelta(hours=int(hours))):
        count += len(done)
    pipeline.publish_pending(pipe, everything=True)
    return count


def main() -> None:
    """Build the store, run both, print the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--step-ms", type=int, default=4320, help="milliseconds between two tasks")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, *arguments = given.child
        functions = {
            "through_dagster": through_dagster, "without_dagster": without_dagster,
            "build_history": build_history, "build_day": build_day, "copy_days": copy_days,
        }  # fmt: skip
        measure(lambda: functions[name](*arguments))
        return
    with tempfile.TemporaryDirectory() as scratch:
        _compare(Path(scratch), given.days, given.step_ms)


def _compare(root: Path, days: int, step_ms: int) -> None:
    one, store = root / "day.duckdb", root / "history.duckdb"
    in_child(MODULE, ["--child", "build_history", str(one), "1", str(step_ms)])
    in_child(MODULE, ["--child", "build_day", str(one), (MIDNIGHT - timedelta(days=1)).isoformat()])
    in_child(MODULE, ["--child", "build_history", str(store), str(days), str(step_ms)])
    in_child(MODULE, ["--child", "copy_days", str(store), str(one), str(days), str(step_ms)])
    first = MIDNIGHT - timedelta(days=days)
    samples: dict[str, list[Sample]] = {"without_dagster": [], "through_dagster": []}
    for name, runs in samples.items():
        home = root / name
        (home / "data").mkdir(parents=True)
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (home / "monitoring.yaml").write_text(CONFIG.replace("2026-02-01", "2026-01-01"))
        shutil.copy(store, home / "data" / "warehouse.duckdb")
        env = {
            "MP_CONFIG": str(home / "monitoring.yaml"), "DAGSTER_HOME": str(home), "BENCH_DSN": "mysql://u:p@127.0.0.1/d",
            "MP_NOW": (MIDNIGHT + timedelta(minutes=5)).isoformat() + "Z",
        }  # fmt: skip
        for done in range(0, 24 * days, PER_RUN):
            start, hours = first + timedelta(hours=done), min(PER_RUN, 24 * days - done)
            runs.append(in_child(MODULE, ["--child", name, start.isoformat(), str(hours)], env))
    assert samples["through_dagster"][-1].value == 24 * days, "every partition is recorded"
    alone, whole = (sum(sample.wall_s for sample in runs) for runs in samples.values())
    rows = [
        [
            name,
            f"{sum(s.wall_s for s in runs):.1f}",
            f"{sum(s.cpu_s for s in runs):.1f}",
            f"{max(s.peak_mb for s in runs):.0f}",
        ]
        for name, runs in samples.items()
    ]
    print(
        f"{machine()}; {24 * days} hour partitions, a task every {step_ms} ms, {len(samples['through_dagster'])} runs"
    )
    print(table(["way", "wall s", "CPU s", "peak MB"], rows))
    print(
        f"bookkeeping: {(whole - alone) / whole:.0%} of the total, {(whole - alone) / (24 * days) * 1000:.0f} ms a partition"
    )


if __name__ == "__main__":
    main()
