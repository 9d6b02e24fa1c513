"""Reading a big table into DuckDB: the product's bulk reader against pandas.read_sql with PyMySQL.

    python -m benchmarks.bulk_read                      # small: 100,000 rows, one round
    python -m benchmarks.bulk_read 1000000 5000000 --rounds 3

Both contestants run in processes of their own on the same rows of the same server, alternating; both end with the rows
in a DuckDB table. Every round checks that both hold the same rows. Prints medians, ratios and peak memory per process.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
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
TIMES = ("created_at", "started_at", "completed_at", "updated_at")


def prepare_product(dsn: str, path: str) -> Callable[[], Any]:
    """The product's way: whole microseconds and text over the wire, Arrow batches, DuckDB."""
    import connectorx  # noqa: F401
    import duckdb
    import pyarrow  # noqa: F401

    from monitoring_pipelines.source.bulk import read_arrow, stage

    times = ", ".join(f"timestampdiff(microsecond, timestamp'1970-01-01 00:00:00', {name}) as {name}" for name in TIMES)
    stamps = ", ".join(f"make_timestamp({name}) AS {name}" for name in TIMES)

    def work() -> Any:
        con = duckdb.connect(path, config={"memory_limit": "400MB", "preserve_insertion_order": False})
        with read_arrow(dsn, f"select {COLUMNS}, {times} from tasks", limit_s=600) as read:
            stage(con, "rows", read)
        con.execute(f"CREATE VIEW result AS SELECT * REPLACE ({stamps}) FROM rows")
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


CONTESTANTS = {"product": prepare_product, "pandas": prepare_pandas}


def _report(rows: int, samples: dict[str, list[Sample]]) -> list[list[str]]:
    base = median(samples.get("pandas") or samples["product"], "wall_s")
    lines = []
    for name, runs in samples.items():
        wall = median(runs, "wall_s")
        lines.append([
            f"{rows:,}", name, f"{wall:.2f}", f"{median(runs, 'cpu_s'):.2f}", f"{rows / wall:,.0f}",
            f"{median(runs, 'peak_mb'):.0f}", f"{base / wall:.1f}",
        ])  # fmt: skip
    return lines


def main() -> None:
    """Run the comparison, or one contestant when called by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=int, default=[100_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dsn", help="any MySQL server instead of a fresh MariaDB (needs the sequence engine)")
    parser.add_argument("--only", choices=sorted(CONTESTANTS), help="one contestant, e.g. where the peer lacks memory")
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
            lines += _report(rows, _rounds(database.dsn, given.rounds, given.only))
    head = ["rows", "reader", "seconds", "CPU s", "rows/s", "peak MB", "times faster"]
    print(table(head, lines))


def _rounds(dsn: str, rounds: int, only: str | None) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in CONTESTANTS if only in (None, name)}
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
