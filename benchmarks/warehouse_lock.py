"""Several processes writing one DuckDB file: the product's fair lock against naive concurrent opens.

    python -m benchmarks.warehouse_lock                        # small: 2 M rows, 4 processes, 10 s each
    python -m benchmarks.warehouse_lock --rows 40000000 --processes 8 --seconds 60

All contestants do the same: open the file, add 3,000 rows and one to a counter in a transaction, close, think for
50 ms, again. ``retry`` opens again every 50 ms when DuckDB refuses; ``naive`` gives up that round. Reported: what was
committed, refused and lost, and how long the file was held and waited for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks._common import ROOT, machine, table
from monitoring_pipelines.warehouse.connect import Warehouse, transaction

CONTESTANTS = ("product", "retry", "naive")
BATCH, THINK_S = 3000, 0.05
INSERT = (
    "INSERT INTO events SELECT 's', 'e' || i, 't' || (i // 4), 'endpoint-' || (i % 100), "
    "TIMESTAMP '2026-01-01' + to_microseconds(i * 20000), i, hash(i), hash(i // 4), md5('e' || i) "
    "FROM range({first}::BIGINT, {last}::BIGINT) AS r(i)"
)


def build(path: Path, rows: int) -> None:
    """A file like a warehouse with history, with the product's tables beside."""
    with Warehouse(path).writer("build") as con:
        con.execute(
            "CREATE TABLE events(source_id VARCHAR, event_key VARCHAR, task_key VARCHAR, endpoint VARCHAR, "
            '"at" TIMESTAMP, row_id BIGINT, key_hash UBIGINT, task_hash UBIGINT, row_hash VARCHAR)'
        )
        con.execute("CREATE TABLE counter AS SELECT 0 AS value")
        for first in range(0, rows, 2_000_000):
            con.execute(INSERT.format(first=first, last=min(first + 2_000_000, rows)))
        con.execute("CHECKPOINT")


def work(con: duckdb.DuckDBPyConnection) -> None:
    """One unit of work; the counter tells afterwards whether an update was lost."""
    with transaction(con):
        value = con.execute("SELECT value FROM counter").fetchall()[0][0]
        con.execute(INSERT.format(first=10**9 + value * BATCH, last=10**9 + (value + 1) * BATCH))
        con.execute("UPDATE counter SET value = ?", [value + 1])


def contestant(kind: str, path: str, seconds: float) -> None:
    """In the child: work until time is over, print what happened."""
    done, failed, holds, waits = 0, 0, [], []
    warehouse = Warehouse(path, lock_timeout_s=120)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        if kind == "product":
            with warehouse.writer("benchmark") as con:
                work(con)
            use = warehouse.stats.uses[-1]
            done, waited, held = done + 1, use.wait_s, use.hold_s
        else:
            while True:
                try:
                    opened = time.perf_counter()
                    con = duckdb.connect(path)
                except duckdb.IOException:
                    failed += 1
                    if kind == "naive" or time.perf_counter() > end:
                        waited = held = -1.0
                        break
                    time.sleep(0.05)
                    continue
                work(con)
                con.close()
                done, waited, held = done + 1, opened - began, time.perf_counter() - opened
                break
        if held >= 0:
            holds.append(held)
            waits.append(waited)
        time.sleep(THINK_S)
    print(json.dumps({"done": done, "failed": failed, "holds": holds, "waits": waits}))


def run(kind: str, source: Path, processes: int, seconds: float) -> dict[str, Any]:
    """Run one contestant on a fresh copy of the file."""
    with tempfile.TemporaryDirectory(dir=source.parent) as directory:
        path = Path(directory) / "warehouse.duckdb"
        shutil.copyfile(source, path)
        command = [sys.executable, "-m", "benchmarks.warehouse_lock", "--child", kind, "--path", str(path)]
        children = [
            subprocess.Popen([*command, "--seconds", str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        reports = []
        for child in children:
            output = child.communicate()[0]
            if child.returncode:
                raise RuntimeError(f"{kind}: a process ended with {child.returncode}")
            reports.append(json.loads(output.splitlines()[-1]))
        with duckdb.connect(str(path)) as con:
            counted = con.execute("SELECT value FROM counter").fetchall()[0][0]
    done = [report["done"] for report in reports]
    return {
        "done": sum(done),
        "failed": sum(report["failed"] for report in reports),
        "lost": sum(done) - counted,
        "holds": sorted(hold for report in reports for hold in report["holds"]),
        "waits": sorted(wait for report in reports for wait in report["waits"]),
        "least": min(done),
        "most": max(done),
    }


def share(values: list[float], part: float) -> float:
    """The value below which ``part`` of all lie."""
    return values[min(int(len(values) * part), len(values) - 1)] if values else float("nan")


def main() -> None:
    """Parse arguments; run all contestants one after the other in the same run, or one child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--child", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        contestant(options.child, options.path, options.seconds)
        return
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source.duckdb"
        build(source, options.rows)
        size = source.stat().st_size / 1e9
        results = {kind: run(kind, source, options.processes, options.seconds) for kind in CONTESTANTS}
    print(
        f"{machine()}; {options.rows:,} rows ({size:.2f} GB), {options.processes} processes, {options.seconds:.0f} s\n"
    )
    head = ("", "committed", "least and most per process", "refused opens", "lost updates", "hold s median / p99 / max",
            "wait s median / p99 / max")  # fmt: skip
    rows = [
        (
            kind, r["done"], f"{r['least']} … {r['most']}", r["failed"], r["lost"],
            *(" / ".join(f"{share(r[what], part):.3f}" for part in (0.5, 0.99, 1.0)) for what in ("holds", "waits")),
        )
        for kind, r in results.items()
    ]  # fmt: skip
    print(table(head, rows))
    product = results["product"]
    for kind in CONTESTANTS[1:]:
        other = results[kind]
        hold = share(other["holds"], 0.5) / share(product["holds"], 0.5)
        print(
            f"\nproduct : {kind} = {product['done'] / max(other['done'], 1):.2f} × committed, "
            f"{product['failed']} : {other['failed']} refused opens; {kind} holds {hold:.2f} × as long"
        )


if __name__ == "__main__":
    main()
