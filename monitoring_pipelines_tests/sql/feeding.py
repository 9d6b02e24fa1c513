"""Feeding rows into an in-memory warehouse as extraction cycles do, for tests of statistics.

What belongs here: mappings of plain tables, storing batches, one statistics cycle. What does not: expectations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import duckdb

from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings, TableMapping
from monitoring_pipelines.source.convert import convert, create_stage, load_stage
from monitoring_pipelines.source.digest import DIGEST_ALIAS
from monitoring_pipelines.source.inspect import ColumnType
from monitoring_pipelines.source.select import build_select
from monitoring_pipelines.warehouse.core_refresh import refresh_core
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.families import ENDPOINT, activate
from monitoring_pipelines.warehouse.ingest import apply_batch, mark_deleted
from monitoring_pipelines.warehouse.schema import ensure_schema, transaction
from monitoring_pipelines.warehouse.sql_cases import ALL_MAPPED, _insert
from monitoring_pipelines.warehouse.windows import close_minutes, due_work, refresh_day, refresh_due

EPOCH = datetime(1970, 1, 1)
KINDS = {
    "id": "bigint", "k": "varchar", "task": "varchar", "s": "varchar", "e": "varchar", "uri": "varchar",
    "size": "bigint", "gone": "tinyint", "job": "varchar", "ms": "decimal", "sla": "double", "err": "varchar",
    "created": "datetime", "planned": "datetime", "began": "datetime", "ended": "datetime", "at": "datetime",
    "v": "decimal", "up": "double", "n": "bigint",
}  # fmt: skip
TYPES = {name: ColumnType(name, kind, kind, nullable=True) for name, kind in KINDS.items()}


def mapping(entity: str, **columns: str) -> TableMapping:
    """A table whose columns carry short names, with an auto-increment id."""
    return TableMapping(
        entity=entity, table=entity, row_id="id", columns={name: ColumnMapping(column=c) for name, c in columns.items()}
    )


TASK = mapping("task", task_key="k", endpoint="e", status="s", created_at="created", ended_at="ended")
OUTPUT = mapping("task_output", output_key="k", task_key="task", uri="uri", size_bytes="size", created_at="created")
RUN = mapping(
    "job_run", run_key="k", job_id="job", outcome="s", scheduled_at="planned", started_at="began", ended_at="ended",
    duration_ms="ms", trigger="e",
)  # fmt: skip
JOB = mapping("job", job_id="k", sla_seconds="sla")
WORKER = mapping(
    "worker",
    worker_key="k",
    endpoint="e",
    status="s",
    created_at="created",
    ready_at="began",
    terminated_at="ended",
    concurrency="n",
)
WORKER_EVENT = mapping("worker_event", event_key="k", worker_key="task", endpoint="e", event_type="s", at="at")
MAPPINGS = {
    "task": TASK, "task_output": OUTPUT, "job_run": RUN, "job": JOB, "worker": WORKER, "worker_event": WORKER_EVENT,
}  # fmt: skip
SOURCE = SourceSettings(id="shop", min_output_bytes=10, tables={name: [found] for name, found in MAPPINGS.items()})


def new_store(setting: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """An empty warehouse with the source ``shop``, all families active."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    ensure_schema(con, EPOCH)
    ensure_core(con)
    given = {"has_task_event": False, "has_worker": False, "has_worker_snapshot": False, "has_worker_event": False}
    _insert(con, "meta.source_setting", [ALL_MAPPED | given | dict(setting or {})])
    _insert(con, "meta.source_state", [{"source_id": "shop"}])
    activate(con, "shop", MAPPINGS)
    return con


def feed(con: duckdb.DuckDBPyConnection, entity: str, rows: Iterable[Mapping[str, Any]], read_at: datetime) -> None:
    """Store what a cycle read at ``read_at``; instants are given as naive UTC."""
    plan = build_select(MAPPINGS[entity], SOURCE, "mariadb", TYPES)
    create_stage(con, plan, "stage")
    columns = plan.stage_columns()
    listed = []
    for row in rows:
        values = {name: _transported(value) for name, value in row.items()}
        listed.append(
            tuple(
                values.get(name, hash(repr(sorted(row.items()))) if name == DIGEST_ALIAS else None)
                for name, _ in columns
            )
        )
    load_stage(con, "stage", columns, listed)
    with transaction(con):
        apply_batch(con, convert(con, plan, SOURCE, "stage", read_at), read_at)


def _transported(value: Any) -> Any:
    return (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def delete(con: duckdb.DuckDBPyConnection, entity: str, key: str, now: datetime) -> None:
    """The source no longer has the row."""
    hashes = con.execute("SELECT md5_number_lower(concat_ws(chr(31), 'shop', ?))", [key]).fetchall()
    with transaction(con):
        mark_deleted(con, entity, "shop", entity, [hashes[0][0]], "hard", now)


def cycle(con: duckdb.DuckDBPyConnection, now: datetime, *, endpoints: bool = False) -> None:
    """What a tick does after reading at ``now``; statistics of endpoints, which cost most, only on request."""
    con.execute("UPDATE meta.source_state SET as_of = ?", [now])
    refresh_core(con, "shop")
    close_minutes(con, now)
    hours = due_work(con, now).hours
    refresh_due(con, [due for due in hours if endpoints or due.family != ENDPOINT], now)
    for day in due_work(con, now).days:
        refresh_day(con, day.day, now, day.source_id, day.family)


def rows_of(con: duckdb.DuckDBPyConnection, table: str) -> list[dict[str, Any]]:
    """All rows of a statistics table without their history, in the order of their keys."""
    cursor = con.execute(f"SELECT * EXCLUDE (revision, first_closed_at, restated_at, frozen) FROM {table} ORDER BY ALL")
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
