"""Row tests of the core layer, written in YAML: raw rows in, a refresh, core rows expected.

What belongs here: filling an empty warehouse with raw rows as the extraction would, marking them dirty, comparing.
What does not: the refresh itself, and cases (``dbt_like_sql/tests/core``).

A case has the shape of the statistics' cases, without a window::

    description: what is guaranteed
    rules: [M-205]
    source_setting: {timeout_mode: derive, timeout_limit_s: 60}    # merged over "everything mapped"
    as_of: 2026-02-01 12:00:00                                     # the "now" of the core layer
    input: {raw.task_event: [{task_key: T, event_type: created, at: …}]}     # or {defaults: {…}, rows: […]}
    expect: {core.task_attempt: [{…}]}                             # all rows of the table, named columns only
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import yaml

from monitoring_pipelines.entities import entities, raw_columns
from monitoring_pipelines.warehouse.core_refresh import refresh_core
from monitoring_pipelines.warehouse.core_tables import CORE_DDL, ensure_core
from monitoring_pipelines.warehouse.schema import ensure_schema
from monitoring_pipelines.warehouse.sql_cases import ALL_MAPPED, _equal, _insert

SOURCE = "shop"
AS_OF = datetime(2026, 2, 1, 12)
#: What every row of an entity has unless a case says otherwise.
DEFAULTS: dict[str, dict[str, Any]] = {
    "raw.task": {"endpoint": "a", "status": "running", "is_deleted": False, "output_expected": True},
    "raw.task_event": {"endpoint": "a", "src_table": "task_events"},
    "raw.worker": {"endpoint": "a", "status": "online", "life_no": 1, "concurrency": 1},
    "raw.worker_event": {"endpoint": "a", "src_table": "worker_events"},
    "raw.worker_snapshot": {"endpoint": "a", "origin": "source"},
}
_KEYS = {"raw.task_event": "event_key", "raw.worker_event": "event_key", "raw.worker_snapshot": "snapshot_key"}


def new_warehouse(setting: Mapping[str, Any] | None = None, as_of: datetime = AS_OF) -> duckdb.DuckDBPyConnection:
    """An empty in-memory warehouse with one source."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    ensure_schema(con, datetime(1970, 1, 1))
    ensure_core(con)
    _insert(con, "meta.source_setting", [ALL_MAPPED | dict(setting or {})])
    _insert(con, "meta.source_state", [{"source_id": SOURCE, "as_of": as_of}])
    return con


def add_rows(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]], start_no: int = 1) -> None:
    """Store raw rows as the extraction does: keys filled in, hashes, dirty marks, pending instants."""
    names = dict(raw_columns(entities()[table.split(".")[1]])) if table in DEFAULTS else {}
    for number, given in enumerate(rows, start_no):
        row = {"source_id": SOURCE} | DEFAULTS.get(table, {}) | given
        if table in _KEYS:
            row.setdefault("row_id", number)
            row.setdefault(_KEYS[table], f"{table[4:]}{row['row_id']}")
        if "first_seen_at" in names:
            row.setdefault("first_seen_at", AS_OF)
            row.setdefault("changed_at", row["first_seen_at"])
        _insert(con, table, [row])
        if table in DEFAULTS:
            mark(con, table, row)
    if table in DEFAULTS:
        key = {"raw.task": "task_key", "raw.worker": "worker_key"}.get(table) or _KEYS[table]
        con.execute(
            f"UPDATE {table} SET key_hash = md5_number_lower(concat_ws(chr(31), source_id, {key})) WHERE key_hash IS NULL"
        )
        if "task_hash" in names:
            con.execute(
                f"UPDATE {table} SET task_hash = md5_number_lower(concat_ws(chr(31), source_id, task_key)) "
                "WHERE task_hash IS NULL"
            )


def mark(con: duckdb.DuckDBPyConnection, table: str, row: Mapping[str, Any]) -> None:
    """Dirty marks of one stored row, and the instant at which a future-dated one begins to exist (E-306)."""
    instant = row.get("at")
    if table in ("raw.task", "raw.task_event"):
        con.execute("INSERT INTO meta.dirty_task VALUES (?, ?, ?)", [SOURCE, row["task_key"], AS_OF])
    else:
        con.execute("INSERT INTO meta.dirty_worker VALUES (?, ?, ?, ?)", [SOURCE, row["worker_key"], instant, AS_OF])
    times = (
        [instant]
        if instant
        else [v for k, v in row.items() if k in ("created_at", "queued_at", "started_at", "ended_at", "ready_at")]
    )
    (now,) = con.execute("SELECT as_of FROM meta.source_state").fetchone() or (AS_OF,)
    for due in times:
        due = datetime.fromisoformat(str(due)) if due is not None else now
        if due > now + timedelta(seconds=5):
            key = row.get(_KEYS.get(table, "")) or row.get("task_key") or row.get("worker_key")
            con.execute("INSERT INTO meta.pending_instant VALUES (?, ?, ?, ?)", [SOURCE, table[4:], key, due])


def set_now(con: duckdb.DuckDBPyConnection, as_of: datetime) -> None:
    """Move the newest extraction."""
    con.execute("UPDATE meta.source_state SET as_of = ?", [as_of])


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, Counter[tuple[Any, ...]]]:
    """All core rows and anomalies as multisets, without bookkeeping of when something was first seen."""
    result = {name: Counter(con.execute(f"SELECT * FROM {name}").fetchall()) for name in CORE_DDL}
    result["raw.anomaly"] = Counter(
        con.execute('SELECT source_id, kind, entity, "key", "at", count FROM raw.anomaly').fetchall()
    )
    return result


def run_core_case(path: Path) -> list[str]:
    """Run a case; what differs, empty if it holds."""
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    with new_warehouse(case.get("source_setting"), case.get("as_of", AS_OF)) as con:
        for table, content in (case.get("input") or {}).items():
            defaults: dict[str, Any] = {}
            if isinstance(content, dict):
                defaults, content = content.get("defaults", {}), content.get("rows", [])
            add_rows(con, table, [defaults | row for row in content])
        refresh_core(con, SOURCE)
        before = contents(con)
        for later in case.get("then", []):
            set_now(con, later["as_of"])
            for table, rows in (later.get("input") or {}).items():
                add_rows(con, table, rows, 1000)
            refresh_core(con, SOURCE)
        problems = [] if case.get("then") else list(_changes_when_repeated(con, before))
        for table, rows in case["expect"].items():
            problems += _differences(con, table, rows)
    return problems


def _changes_when_repeated(con: duckdb.DuckDBPyConnection, before: Mapping[str, Any]) -> Iterator[str]:
    con.execute("INSERT INTO meta.dirty_task SELECT source_id, task_key, NULL FROM raw.task_event UNION "
                "SELECT source_id, task_key, NULL FROM raw.task")  # fmt: skip
    con.execute("INSERT INTO meta.dirty_worker SELECT source_id, worker_key, '1970-01-01', NULL FROM raw.worker")
    refresh_core(con, SOURCE)
    for table, rows in contents(con).items():
        if rows != before[table]:
            yield f"{table} changed when computed again"


def _differences(con: duckdb.DuckDBPyConnection, table: str, expected: list[dict[str, Any]]) -> Iterator[str]:
    """Every expected row is there, and no other; the columns named by any row are compared."""
    cursor = con.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description or ()]
    left = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for wanted in expected:
        found = next((r for r in left if all(k in r and _equal(v, r[k]) for k, v in wanted.items())), None)
        if found is None:
            yield f"{table}: no row {wanted}"
        else:
            left.remove(found)
    for row in left:
        yield f"{table}: unexpected { ({k: str(v) for k, v in row.items() if v is not None and 'hash' not in k}) }"
