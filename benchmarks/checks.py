"""Full and deep checks over a store of 1.1 M tasks a day, against the plain query a person would write.

    python -m benchmarks.checks            # small: 2 days stored
    python -m benchmarks.checks 2 14       # the figures of the documentation: 15 M tasks, 16 M outputs

Every contestant is a process of its own; CPU time begins after the imports. The checks run on the store alone: what the
source costs is in ``minute_tick`` and ``bulk_read``. Two days and a fortnight stored must cost a full check the same but
for the days its trend looks at. The peer counts the tasks of the last day without output by one join, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._common import in_child, machine, measure, table

MODULE = "benchmarks.checks"
SOURCE = "shop"
NOW = datetime(2026, 2, 15, 16)  # midnight in Shanghai
PER_DAY = 1_100_000
#: The newest hours lose 1 % of their outputs, so that everything a finding needs is computed.
LOSS_HOURS, LOSS_PERCENT = 20, 1
CONFIG = """\
version: 1
sources: [{id: shop, preset: tktool, read_dsn_env: BENCH_DSN}]
"""


def build(path: str, days: str) -> None:
    """Tasks, outputs and attempts of whole days before ``NOW``."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.core_tables import ensure_core

    with Warehouse(path, clock=FixedClock(NOW)).writer("fill") as con:
        ensure_core(con)
        for day in range(int(days), 0, -1):
            start = NOW - timedelta(days=day)
            first = (int(days) - day) * PER_DAY
            con.execute(
                f"""create or replace temp table seq as select i, 'task-' || lpad(upper(to_hex(i)), 12, '0') task_key,
                    timestamp '{start}' + to_microseconds((i - {first}) * 86400000000 // {PER_DAY}) done,
                    md5_number_lower(concat_ws(chr(31), '{SOURCE}', 'task-' || lpad(upper(to_hex(i)), 12, '0'))) task_hash
                    from range({first}, {first + PER_DAY}) t(i)"""
            )
            con.execute(
                f"""insert into raw.task by name select '{SOURCE}' source_id, task_key, 'ep-' || i % 100 endpoint, 'succeeded' status,
                    'SUCCESS' raw_status, 'w-' || i % 520 worker_key, 'r' || i remote_id, done - interval 31500 millisecond created_at,
                    done - interval 30 second started_at, done ended_at, true output_expected, false is_deleted, done effective_end,
                    'tasks' src_table, done first_seen_at, done changed_at, []::varchar[] anomalies, task_hash key_hash, task_hash from seq"""
            )
            con.execute(
                f"""insert into raw.task_output by name select '{SOURCE}' source_id, i || '-' || k output_key, task_key, k::varchar node_key,
                    md5(i || '/' || k) natural_key, done + interval 2 second created_at, false is_deleted, 'app' origin, true "valid",
                    'task_outputs' src_table, done first_seen_at, []::varchar[] anomalies, task_hash,
                    md5_number_lower(i || '-' || k) key_hash from seq, range(2) o(k) where k < 1 + (i % 10 = 0)::int
                    and not (done >= timestamp '{NOW - timedelta(hours=LOSS_HOURS)}' and i % 100 < {LOSS_PERCENT})"""
            )
            con.execute(
                f"""insert into core.task_attempt by name select '{SOURCE}' source_id, task_key, 1 attempt_no, 'ep-' || i % 100 endpoint,
                    'w-' || i % 520 worker_key, done - interval 30 second started_at, done ended_at, 'completed' outcome, true counted,
                    task_hash from seq"""
            )
            # Tasks whose events decided before their row did.
            con.execute(
                f"""insert into core.task_status by name select '{SOURCE}' source_id, task_key, 'succeeded' status, done - interval 31500 millisecond created_at,
                    done ended_at, true has_row, done - interval 31500 millisecond row_created_at, done row_effective_end, task_hash from seq where i % 500 = 0"""
            )
        con.execute(
            "INSERT INTO meta.source_state (source_id, as_of, closed_through, origin) VALUES (?, ?, ?, ?)",
            [SOURCE, NOW, NOW, NOW - timedelta(days=int(days))],
        )
        # The statistics of outputs that a real store has: the trend reads them.
        from monitoring_pipelines.warehouse import windows

        windows.prepare(con)
        con.execute(
            f"""insert into mart.output_hourly_stats by name select '{SOURCE}' source_id, endpoint, date_trunc('hour', effective_end) stat_hour,
                count(*) success_tasks, count(*) filter (o.task_hash is not null) tasks_with_outputs, 'closed' state
                from raw.task t left join (select distinct task_hash from raw.task_output) o using (task_hash) group by all"""
        )
        con.execute("UPDATE meta.source_state SET output_closed_through = as_of")
        con.execute(
            "CREATE TABLE IF NOT EXISTS meta.window_progress (source_id VARCHAR, family VARCHAR, computed_through TIMESTAMP)"
        )
        con.execute("INSERT INTO meta.window_progress VALUES (?, 'output', ?)", [SOURCE, NOW])
        con.execute("CHECKPOINT")


def prepare(folder: str) -> Any:
    """Everything a run has loaded before its checks begin."""
    os.environ["BENCH_DSN"] = "mysql://nobody@127.0.0.1:1/none"
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality import explain, registry, runs  # noqa: F401
    from monitoring_pipelines.state import StateStore

    for check in registry.checks().values():
        if not check.id.startswith("expectations."):
            check.load()
    settings = load_settings(f"{folder}/monitoring.yaml")
    pipe = Pipeline.of(settings, FixedClock(NOW))
    state = StateStore.of(settings)
    state.engine()
    with pipe.warehouse.reader("warm up") as con:
        con.execute("SELECT 1")
    return pipe, state


def run_checks(pipe: Any, state: Any, run_type: str) -> dict[str, Any]:
    """All checks of a run type on the stored rows; figures and lock holds."""
    from monitoring_pipelines.quality import registry, runs
    from monitoring_pipelines.quality.model import CheckRun
    from monitoring_pipelines.quality.thresholds import effective
    from monitoring_pipelines.state.ids import new_id

    hours = runs.window_hours(pipe, run_type, None)  # type: ignore[arg-type]
    run = CheckRun(new_id(NOW), run_type, "manual", "running", NOW, NOW, None, NOW - timedelta(hours=hours), NOW, hours)  # type: ignore[arg-type]
    work = runs._Work(pipe, state, run, effective(pipe.settings, state), lambda _line: None)
    wanted = [c for c in registry.checks_of(run_type) if not c.id.startswith("expectations.")]  # type: ignore[arg-type]
    outcomes = runs._source_outcomes(work, pipe.sources[0], wanted, ask=False)
    missing = next(o for o in outcomes if o.check_id == "missing_outputs")
    return {
        "missing": missing.metrics["missing_count"], "tasks": missing.metrics["success_tasks"],
        "since": str(missing.findings[0].details["since"]), "errors": [o.check_id for o in outcomes if o.status == "error"],
        "longest_hold_s": round(pipe.warehouse.stats.longest_hold_s, 2),
    }  # fmt: skip


def plain_query(pipe: Any) -> dict[str, Any]:
    """Tasks of the last day without output, by one join over both tables."""
    with pipe.warehouse.reader("plain") as con:
        row = con.execute(
            f"""SELECT count(DISTINCT t.task_key), count(DISTINCT t.task_key) FILTER (WHERE o.task_key IS NULL)
                FROM raw.task AS t LEFT JOIN raw.task_output AS o ON o.source_id = t.source_id AND o.task_key = t.task_key
                WHERE t.status = 'succeeded' AND t.effective_end >= timestamp '{NOW - timedelta(days=1)}'
                AND t.effective_end < timestamp '{NOW - timedelta(minutes=5)}'"""
        ).fetchone()
    return {"tasks": row[0], "missing": row[1]}


def main() -> None:
    """Build stores, run the contestants, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("days", nargs="*", type=int, default=[2])
    parser.add_argument("--keep", help="folder for the stores; one that exists is used again")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, *arguments = given.child
        if name == "build":
            measure(lambda: build(*arguments))
            return
        pipe, state = prepare(arguments[0])
        measure(lambda: plain_query(pipe) if name == "plain" else run_checks(pipe, state, name))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for days in given.days:
            folder = Path(given.keep or scratch) / f"days-{days}"
            (folder / "data").mkdir(parents=True, exist_ok=True)
            (folder / "monitoring.yaml").write_text(CONFIG)
            store = folder / "data" / "warehouse.duckdb"
            if not store.exists():
                in_child(MODULE, ["--child", "build", str(store), str(days)])
            samples = {name: in_child(MODULE, ["--child", name, str(folder)]) for name in ("plain", "full", "deep")}
            for name, sample in samples.items():
                ratio = sample.cpu_s / samples["plain"].cpu_s
                rows.append([
                    f"{name}, {days} days stored", f"{sample.cpu_s:.2f}", f"{sample.wall_s:.2f}", f"{sample.peak_mb:.0f}",
                    f"{ratio:.1f}", sample.value["missing"], sample.value.get("longest_hold_s", ""),
                ])  # fmt: skip
                if sample.value.get("errors"):
                    raise SystemExit(f"{name}: {sample.value['errors']}")
    print(f"{machine()}; {PER_DAY:,} tasks a day, checks on the store alone")
    print(table(["contestant", "CPU s", "wall s", "peak MB", "× plain query", "missing found", "longest hold s"], rows))


if __name__ == "__main__":
    main()
