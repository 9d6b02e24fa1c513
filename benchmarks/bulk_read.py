"""Reading a big table into DuckDB: the product's reader and its first load against pandas.read_sql with PyMySQL.

    python -m benchmarks.bulk_read                      # small: 100,000 rows, one round
    python -m benchmarks.bulk_read 1000000 5000000 --rounds 3

All contestants run in processes of their own on the same rows of the same server, in turn, and end with the rows in a
DuckDB table; every round checks that they hold the same rows. ``reader`` only reads and stores, as pandas does; ``first
load`` is what ``mp reconcile`` does: it also types, hashes and upserts every row and proves each day equal to the source.
Prints medians, ratios and peak memory per process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._common import Sample, in_child, machine, measure, median, table, test_server

DDL = (
    "create table tasks (id bigint auto_increment primary key, task_id varchar(255) not null unique, "
    "endpoint varchar(255), status varchar(50), worker_id varchar(255), input text, output text, error text, "
    "created_at datetime(3), started_at datetime(3), completed_at datetime(3), updated_at datetime(3), "
    "key (created_at), key (status, completed_at))"
)
FILL = (
    "insert into tasks (task_id, endpoint, status, worker_id, input, output, error, created_at, started_at, "
    "completed_at, updated_at) select concat('task-', lpad(hex(seq), 27, '0')), concat('endpoint-', seq % 100), "
    "if(seq % 20, 'COMPLETED', 'FAILED'), concat('worker-', seq % 520), repeat('x', 60), repeat('y', 60), "
    "if(seq % 20, null, 'CUDA error: out of memory'), t, t + interval 1500 * 1000 microsecond, "
    "t + interval 31500 * 1000 microsecond, t + interval 31500 * 1000 microsecond from "
    "(select seq, '2026-02-01' + interval seq * 80000 microsecond t from seq_{first}_to_{last}) x"
)
COLUMNS = "id, task_id, endpoint, status, worker_id, left(error, 500) as error"
CONFIG = """\
version: 1
extract: {query_timeout_s: 600}
sources: [{id: shop, preset: waverless, read_dsn_env: BENCH_DSN}]
"""
RAW_COLUMNS = (
    "row_id AS id, task_key AS task_id, raw_status AS status, error_message AS error, created_at, started_at, "
    "ended_at AS completed_at, updated_at"
)
TIMES = ("created_at", "started_at", "completed_at", "updated_at")


def prepare_reader(dsn: str, path: str) -> Callable[[], Any]:
    """The product's reader: whole microseconds and text over the wire, Arrow batches, streamed into DuckDB."""
    import connectorx  # noqa: F401
    import duckdb
    import pyarrow as pa

    from monitoring_pipelines.source.bulk import read_arrow

    times = ", ".join(f"timestampdiff(microsecond, timestamp'1970-01-01 00:00:00', {name}) as {name}" for name in TIMES)
    stamps = ", ".join(f"make_timestamp({name}) AS {name}" for name in TIMES)

    def work() -> Any:
        con = duckdb.connect(path, config={"memory_limit": "400MB", "preserve_insertion_order": False})
        with read_arrow(dsn, f"select {COLUMNS}, {times} from tasks", limit_s=600) as read:
            con.register("batches", pa.RecordBatchReader.from_batches(read.schema, iter(read)))
            con.execute("CREATE TABLE rows AS SELECT * FROM batches")
        con.execute(f"CREATE VIEW result AS SELECT * REPLACE ({stamps}) FROM rows")
        return con

    return work


def prepare_first_load(dsn: str, path: str) -> Callable[[], Any]:
    """The product's first load: days compared, read, typed, hashed, upserted and proven."""
    import connectorx  # noqa: F401
    import duckdb
    import pyarrow  # noqa: F401

    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.source.reconcile import reconcile_day
    from monitoring_pipelines.warehouse.connect import Warehouse

    os.environ["BENCH_DSN"] = dsn
    config = Path(path).with_name("monitoring.yaml")
    config.write_text(CONFIG, encoding="utf-8")
    settings = load_settings(config)
    clock = FixedClock(datetime(2026, 3, 1))
    warehouse = Warehouse(path, clock=clock)

    def work() -> Any:
        day, found = date(2026, 2, 1), 1
        while found:
            results = reconcile_day(settings, settings.sources[0], warehouse, clock, day, "task")
            if not all(result.equal for result in results):
                raise SystemExit(f"not equal: {results}")
            day, found = day + timedelta(days=1), sum(result.source_rows for result in results)
        con = duckdb.connect(path, read_only=True)
        con.execute(f"CREATE TEMP VIEW result AS SELECT {RAW_COLUMNS} FROM raw.task")
        return con

    return work


def prepare_pandas(dsn: str, path: str) -> Callable[[], Any]:
    """The usual way: pandas.read_sql through SQLAlchemy and PyMySQL."""
    import duckdb
    import pandas as pd
    import pymysql  # noqa: F401
    from sqlalchemy import create_engine

    engine = create_engine(dsn.replace("mysql://", "mysql+pymysql://"))

    def work() -> Any:
        frame = pd.read_sql(f"select {COLUMNS}, {', '.join(TIMES)} from tasks", engine)
        con = duckdb.connect(path, config={"memory_limit": "400MB", "preserve_insertion_order": False})
        con.register("frame", frame)
        con.execute("CREATE TABLE rows AS SELECT * FROM frame")
        con.execute("CREATE VIEW result AS SELECT * FROM rows")
        return con

    return work


def fingerprint(con: Any) -> list[str]:
    """Row count and an order-free digest of what the contestant stored."""
    stamps = ", ".join(f"epoch_us({name})" for name in TIMES)
    row = con.execute(f"SELECT count(*), sum(hash(id, task_id, status, error, {stamps})) FROM result").fetchone()
    return [str(value) for value in row]


CONTESTANTS = {"reader": prepare_reader, "first load": prepare_first_load, "pandas": prepare_pandas}


def _report(rows: int, samples: dict[str, list[Sample]]) -> list[list[str]]:
    base = median(samples.get("pandas") or next(iter(samples.values())), "wall_s")
    cpu_base = median(samples.get("pandas") or next(iter(samples.values())), "cpu_s")
    lines = []
    for name, runs in samples.items():
        wall = median(runs, "wall_s")
        cpu = median(runs, "cpu_s")
        lines.append([
            f"{rows:,}", name, f"{wall:.2f}", f"{cpu:.2f}", f"{rows / wall:,.0f}", f"{median(runs, 'peak_mb'):.0f}",
            f"{base / wall:.1f}", f"{cpu_base / cpu:.1f}",
        ])  # fmt: skip
    return lines


def main() -> None:
    """Run the comparison, or one contestant when called by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, default=[100_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dsn", help="any MySQL server instead of a fresh MariaDB (needs the sequence engine)")
    parser.add_argument("--only", choices=sorted(CONTESTANTS), help="one contestant, e.g. where the peer lacks memory")
    parser.add_argument("--without", choices=sorted(CONTESTANTS), help="leave one out")
    parser.add_argument("--contestant", nargs=3, metavar=("NAME", "DSN", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        name, dsn, path = given.contestant
        measure(CONTESTANTS[name](dsn, path), fingerprint)
        return
    print(f"{machine()}; medians of {given.rounds}")
    lines: list[list[str]] = []
    with test_server(given.dsn) as database:
        database.execute(DDL)
        filled = 0
        for rows in sorted(given.rows):
            for first in range(filled + 1, rows + 1, 500_000):
                database.execute(FILL.format(first=first, last=min(first + 499_999, rows)))
            filled = rows
            lines += _report(rows, _rounds(database.dsn, given.rounds, given.only, given.without))
    head = ["rows", "reader", "seconds", "CPU s", "rows/s", "peak MB", "times faster", "times less CPU"]
    print(table(head, lines))


def _rounds(dsn: str, rounds: int, only: str | None, without: str | None) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in CONTESTANTS if only in (None, name) and name != without}
    for _ in range(rounds):
        for name, runs in samples.items():
            with tempfile.TemporaryDirectory() as directory:
                file = str(Path(directory) / "rows.duckdb")
                runs.append(in_child("benchmarks.bulk_read", ["--contestant", name, dsn, file]))
        found = {tuple(runs[-1].value) for runs in samples.values()}
        if len(found) != 1:
            raise SystemExit(f"the contestants disagree on the rows: {found}")
    return samples


if __name__ == "__main__":
    main()
