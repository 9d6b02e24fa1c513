"""Row tests of SQL models, written in YAML: input rows, a window, and the rows expected.

What belongs here: reading such a file, filling an empty in-memory warehouse, running the model, saying what differs.
What does not: test discovery (the test suite) and the models.

A case is ``dbt_like_sql/tests/<schema>/<table>/<case>.yaml``::

    description: what is guaranteed
    rules: [M-309]
    source_setting: {source_id: shop, has_worker: true}   # merged over "everything mapped"; a list for several sources
    source_state: {source_id: shop, closed_through: 2026-02-01 11:00:00}
    input: {core.task_attempt: [{task_key: T1, …}]}       # or {defaults: {…}, rows: […]}
    build: [mart.endpoint_minute_stats]                   # models computed and stored before the one under test
    window: [2026-02-01 10:00:00, 2026-02-01 11:00:00]
    expect: {rows: [{endpoint: a, …}]}                    # named columns only, unless exact: true

Statements of ``dbt_like_sql/checks`` have cases of the same shape in ``tests/checks/<statement>``. Their parameters have
the values a check gives by default; ``parameters: {…}`` changes some. Numbers of tasks and the ends of rows follow from
the rows: a case does not name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.check_sql import query
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.schema import ensure_schema
from monitoring_pipelines.warehouse.sql_models import (
    FOLDER,
    Model,
    ModelError,
    ensure_table,
    install_macros,
    load_model,
    load_models,
    sql_root,
    window_parameters,
)

if TYPE_CHECKING:
    import duckdb

#: A source with every input mapped; cases name only what they change.
ALL_MAPPED: dict[str, object] = {
    "source_id": "shop", "settle_s": 60, "snapshot_interval_s": 60, "snapshot_tolerance_s": 180,
    "clock_skew_max_s": 300, "max_duration_h": 168, "timeout_mode": "off", "timeout_limit_s": None,
    "future_tolerance_s": 5, "has_task": True, "has_task_times": True, "has_task_event": True, "has_worker": True,
    "has_worker_snapshot": True, "has_worker_event": True, "has_cold_start": True, "has_endpoint": True,
    "has_output": True, "has_output_created": True, "output_settle_s": 300, "output_delay_s": 1800,
}  # fmt: skip
#: Folder of the statements of checks.
CHECKS = "checks"
_TASK_HASH = "md5_number_lower(concat_ws(chr(31), source_id, task_key))"
#: Tables that anomalies are looked for in by a number, and the key it is derived from.
_KEY_HASHES = {
    "raw.task": "task_key", "raw.task_event": "event_key", "raw.worker_event": "event_key", "raw.worker_snapshot": "snapshot_key",
}  # fmt: skip
CLAIMS = {
    "claim_task": "source_id VARCHAR, task_key VARCHAR",
    "claim_worker": "source_id VARCHAR, worker_key VARCHAR",
}
Prepare = Callable[["duckdb.DuckDBPyConnection"], None]


@dataclass
class CaseResult:
    """Outcome of one case; ``problems`` is empty when it holds."""

    path: Path
    description: str
    rules: list[str]
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.path.parent.name}/{self.path.name}: {self.description} ({', '.join(self.rules)})"
        return "\n  ".join([head, *self.problems])


def find_cases(root: Path | None = None, schema: str = "") -> list[Path]:
    """All case files below ``tests/<schema>``, sorted. In a wheel there may be none."""
    return sorted(((root or sql_root()) / "tests" / schema).rglob("*.yaml"))


def run_case(path: Path, prepare: Prepare | None = None) -> CaseResult:
    """Run one case in an empty in-memory warehouse.

    Args:
        path: The YAML file.
        prepare: Creates tables that neither the schema nor a model creates.

    Raises:
        ModelError: The file names an unknown model, or lacks ``window`` for a model that needs one.
    """
    import duckdb
    import yaml

    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = case.get("model") or f"{path.parent.parent.name}.{path.parent.name}"
    result = CaseResult(path, str(case.get("description", "")), list(case.get("rules", [])))
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        of_check = path.parent.parent.name == CHECKS
        empty_warehouse(con, prepare, statistics=not of_check)
        fill(con, case)
        _hash_keys(con)
        if of_check:
            result.problems = _check_problems(con, path.parent.name, case)
            return result
        for built in case.get("build", []):
            model = load_model(built)
            ensure_table(con, model)
            rows = _query(con, model, case.get("window"))
            _insert(con, built, rows)
        actual = _query(con, load_model(name), case.get("window"))
    result.problems = list(differences(case.get("expect") or {}, actual, load_model(name).key))
    return result


def _hash_keys(con: duckdb.DuckDBPyConnection) -> None:
    """Numbers that the extraction derives from keys; a case does not name them."""
    for table in ("raw.task", "raw.task_event", "raw.task_output", "core.task_attempt", "core.task_status"):
        con.execute(f"UPDATE {table} SET task_hash = {_TASK_HASH} WHERE task_hash IS NULL")
    for table, key in _KEY_HASHES.items():
        con.execute(f"UPDATE {table} SET key_hash = {_TASK_HASH.replace('task_key', key)} WHERE key_hash IS NULL")


def _check_problems(con: duckdb.DuckDBPyConnection, name: str, case: Mapping[str, Any]) -> list[str]:
    """What differs in a case of a check's statement."""
    con.execute(
        "UPDATE raw.task SET effective_end = coalesce(ended_at, created_at) WHERE effective_end IS NULL "
        "AND status IN ('succeeded', 'failed', 'timed_out', 'cancelled')"
    )
    start, end = (_instant(value) for value in case["window"])
    parameters: dict[str, Any] = {
        "source_id": "shop", "window_start": start, "window_end": end, "now": end, "settle_us": 300_000_000,
        "delay_us": 1_800_000_000, "outputs_from": start - timedelta(days=1), "latest": end + timedelta(seconds=5),
        "tasks_from": start - timedelta(hours=1), "midnight": start, "oldest": datetime(1970, 1, 1), "most": 1000,
    }  # fmt: skip
    parameters |= case.get("parameters") or {}
    for key in ("hashes", "missing"):
        keys = parameters.get(key, [])
        parameters[key] = [_task_hash(con, one) for one in keys]
    for built in case.get("build", []):
        query(con, built.removeprefix(f"{CHECKS}."), parameters, into=built.removeprefix(f"{CHECKS}."))
    return list(differences(case.get("expect") or {}, query(con, name, parameters), ()))


def _task_hash(con: duckdb.DuckDBPyConnection, task_key: str) -> int:
    row = con.execute(f"SELECT {_TASK_HASH} FROM (SELECT 'shop' AS source_id, ? AS task_key)", [task_key]).fetchone()
    return int(row[0]) if row else 0


def empty_warehouse(con: duckdb.DuckDBPyConnection, prepare: Prepare | None = None, *, statistics: bool = True) -> None:
    """Create all schemas and tables: fixed ones, the core's, ``prepare``'s, and those of the statistics."""
    ensure_schema(con, datetime(1970, 1, 1))
    for name, columns in CLAIMS.items():
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name}({columns})")
    ensure_core(con)
    if prepare is not None:
        prepare(con)
    for model in _in_dependency_order(load_models()) if statistics else ():
        if model.schema == "mart":
            ensure_table(con, model)


def fill(con: duckdb.DuckDBPyConnection, case: Mapping[str, Any]) -> None:
    """Insert settings, states and input rows of a case."""
    settings = case.get("source_setting") or {}
    states = case.get("source_state") or {}
    window = case.get("window")
    for entry in settings if isinstance(settings, list) else [settings]:
        _insert(con, "meta.source_setting", [ALL_MAPPED | entry])
    for entry in states if isinstance(states, list) else [states]:
        start, end = (_instant(value) for value in window) if window else (datetime(1970, 1, 1),) * 2
        day = datetime(start.year, start.month, start.day)
        state = {"source_id": "shop", "as_of": end + timedelta(minutes=5), "closed_through": end, "origin": day}
        _insert(con, "meta.source_state", [state | entry])
    for table, content in (case.get("input") or {}).items():
        defaults = {"source_id": "shop"}
        if isinstance(content, dict):
            defaults |= content.get("defaults", {})
            content = content.get("rows", [])
        _insert(con, table, [defaults | row for row in content])


def differences(expect: Mapping[str, Any], actual: list[dict[str, Any]], key: tuple[str, ...]) -> Iterator[str]:
    """Say for every expected row what the result has instead; unexpected rows count unless ``partial: true``."""
    left = list(actual)
    for wanted in expect.get("rows", []):
        names = [name for name in key if name in wanted] or list(wanted)
        found = next((row for row in left if all(_equal(wanted[name], row.get(name)) for name in names)), None)
        label = ", ".join(f"{name}={wanted[name]}" for name in names)
        if found is None:
            yield f"no row {label}"
            continue
        left.remove(found)
        columns = set(found) | set(wanted) if expect.get("exact") else set(wanted)
        for column in sorted(columns):
            if column not in found:
                yield f"{label}: there is no column {column}"
            elif not _equal(wanted.get(column), found[column]):
                yield f"{label}: {column} is {found[column]!r}, expected {wanted.get(column)!r}"
    if not expect.get("partial"):
        for row in left:
            yield "unexpected row " + ", ".join(f"{name}={row.get(name)}" for name in key or row)


def _query(con: duckdb.DuckDBPyConnection, model: Model, window: Any) -> list[dict[str, Any]]:
    if "$window_start" in model.sql and not window:
        raise ModelError(f"{model.name} needs a window", f"add `window: [from, to]` to the case in {FOLDER}/tests")
    start, end = (_instant(value) for value in window) if window else (datetime(1970, 1, 1),) * 2
    install_macros(con, model.sql)
    cursor = con.execute(model.sql, window_parameters(model.sql, start, end))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        values = [json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()]
        con.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", values)


def _in_dependency_order(models: Mapping[str, Model]) -> Iterator[Model]:
    done: set[str] = set()

    def visit(name: str) -> Iterator[Model]:
        if name in done or name not in models:
            return
        done.add(name)
        for ref in sorted(models[name].refs):
            yield from visit(ref)
        yield models[name]

    for name in sorted(models):
        yield from visit(name)


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return datetime.fromisoformat(str(value))


def _equal(wanted: Any, found: Any) -> bool:
    """Equality across the types YAML and DuckDB use for one value: numbers by value, JSON by content."""
    if wanted is None or found is None:
        return wanted is None and found is None
    if isinstance(wanted, bool) or isinstance(found, bool):
        return bool(wanted is found)
    if isinstance(wanted, int | float | Decimal) and isinstance(found, int | float | Decimal):
        return Decimal(str(wanted)) == Decimal(str(found))
    if isinstance(wanted, dict | list):
        content = json.loads(found) if isinstance(found, str) else found
        if isinstance(wanted, dict) and isinstance(content, dict):
            return {str(k): v for k, v in wanted.items()} == {str(k): v for k, v in content.items()}
        return bool(wanted == content)
    if isinstance(found, datetime | date):
        return _instant(wanted) == _instant(found)
    return bool(wanted == found)
