"""A mapping held against the live schema: missing columns, payload reads, index advice (E-403, E-511, E-702).

What belongs here: judgements that need types and indexes but no rows. What does not: connecting (``source.engine``),
catalogue queries (``source.inspect``) and printing (``cli``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.entities import entities

if TYPE_CHECKING:
    from monitoring_pipelines.config.expressions import Expr
    from monitoring_pipelines.config.source_schema import SourceSettings, TableMapping
    from monitoring_pipelines.source.inspect import ColumnType, TableInfo

#: Types of which the server never hands over a whole value (E-403).
_WIDE = {"json", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob"}
_GEOMETRY = {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
             "geometrycollection"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One remark about a mapping. ``level`` is error, warning or info."""

    level: str
    path: str
    message: str


def payload_problem(expr: Expr, types: dict[str, ColumnType]) -> str | None:
    """Why ``expr`` may not be read from columns of ``types`` (lower-case name → type), None if it may (E-403)."""
    for use in sorted(expr.payload_uses(), key=lambda u: (u.column, u.how)):
        found = types.get(use.column.lower())
        if found is None or use.how == "null_test":
            continue
        kind = found.data_type
        if kind in _GEOMETRY:
            return f"{kind} column {use.column} can only be tested with is [not] null"
        if kind == "text" and use.how != "left":
            return f"text column {use.column} can only be read through left({use.column}, n) with n ≤ 1000"
        if kind in _WIDE and use.how == "raw":
            return (
                f"{kind} column {use.column} can only be read through left({use.column}, n) with n ≤ 1000, a scalar "
                "JSON path, or is [not] null"
            )
    return None


def payload_findings(table: TableMapping, types: dict[str, ColumnType]) -> Iterator[Finding]:
    """E-403 for every column and predicate of one mapped table."""
    for name, column in table.columns.items():
        expr = column.source_expr
        if expr is None or (column.column is not None and column.max_len is not None):
            continue  # max_len reads through left()
        problem = payload_problem(expr, types)
        if problem:
            yield Finding("error", f"columns.{name}", problem)
    for path, predicate in (("where", table.where), ("deleted_when", table.deleted_when), ("inline", table.inline)):
        problem = payload_problem(predicate, types) if predicate is not None else None
        if problem:
            yield Finding("error", path, problem)


def column_findings(table: TableMapping, types: dict[str, ColumnType]) -> Iterator[Finding]:
    """Mapped columns that the table does not have; type surprises."""
    known = list(types)
    required: dict[str, str] = {}
    for path, expr in (("where", table.where), ("deleted_when", table.deleted_when), ("inline", table.inline)):
        required |= dict.fromkeys(expr.columns() if expr is not None else (), path)
    for path, name in (("row_id", table.row_id), ("updated_at", table.updated_at)):
        if name is not None:
            required[name] = path
    for name, path in required.items():
        if name.lower() not in types:
            level = "warning" if table.optional else "error"
            yield Finding(level, path, f"{table.table} has no column {name}{did_you_mean(name, known)}")
    keys = entities()[table.entity].key
    for name, column in table.columns.items():
        missing = sorted(c for c in column.source_columns() if c.lower() not in types)
        if missing:
            level = "error" if column.required or name in keys else "info"
            tail = "" if level == "error" else "; not mapped"
            message = f"{table.table} has no column {', '.join(missing)}{did_you_mean(missing[0], known)}{tail}"
            yield Finding(level, f"columns.{name}", message)
        elif column.time == "naive_local" and column.column and types[column.column.lower()].data_type == "timestamp":
            yield Finding(
                "warning", f"columns.{name}", "a TIMESTAMP column is UTC on our connections; zone is not used"
            )
    if table.row_id and (found := types.get(table.row_id.lower())) and not found.auto_increment:
        yield Finding(
            "warning",
            "row_id",
            f"{table.row_id} is not AUTO_INCREMENT: new rows with lower ids are found by an indexed time, else by reconciliation",
        )


def present_columns(table: TableMapping, types: dict[str, ColumnType]) -> set[str]:
    """Unified columns of one mapping whose source columns exist."""
    return {n for n, c in table.columns.items() if all(s.lower() in types for s in c.source_columns())}


def key_findings(source: SourceSettings, tables: dict[str, TableInfo]) -> Iterator[tuple[str, Finding]]:
    """C-117: output tables whose task key column is shorter than the task's own key."""
    lengths = [
        info.columns[column.column.lower()].max_length
        for task in source.mapped("task")
        if (info := tables.get(task.table)) is not None
        and (column := task.columns.get("task_key")) is not None
        and column.column is not None
        and column.column.lower() in info.columns
    ]
    longest = max((n for n in lengths if n is not None), default=None)
    for output in source.mapped("task_output"):
        key = output.columns.get("task_key")
        info = tables.get(output.table)
        if longest is None or info is None or key is None or key.column is None or output.inline is not None:
            continue
        found = info.columns.get(key.column.lower())
        if found is not None and found.max_length is not None and found.max_length < longest:
            yield (
                output.table,
                Finding(
                    "warning",
                    "columns.task_key",
                    f"holds {found.max_length} characters, the task key {longest} (C-117)",
                ),
            )


def index_advice(table: TableMapping, info: TableInfo) -> list[str]:
    """Indexes of E-511 that are missing, as ``table(column, …)``."""
    wanted: list[tuple[str, ...]] = []

    def real(name: str | None) -> str | None:
        column = table.columns.get(name or "")
        return column.column if column is not None else None

    if table.row_id:
        wanted.append((table.row_id,))
    if table.entity == "task":
        changed = table.updated_at if table.updated_at and info.indexed(table.updated_at) else real("ended_at")
        if changed or table.updated_at:
            wanted.append((changed or str(table.updated_at),))
        if real("status") and real("ended_at"):
            wanted.append((str(real("status")), str(real("ended_at"))))
        wanted += [(k,) for k in (real("task_key"),) if k]
    elif table.entity == "task_output" and table.inline is None:
        wanted += [(c,) for c in (real("task_key"), real("created_at")) if c]
    elif table.strategy == "updated" and table.updated_at:
        wanted.append((table.updated_at,))
    time_column = real(entities()[table.entity].time_column)
    if time_column and table.entity not in ("task", "task_output", "worker"):
        wanted.append((time_column,))  # daily reconciliation reads by time
    missing = []
    for columns in dict.fromkeys(wanted):
        lower = tuple(c.lower() for c in columns)
        if all(c in info.columns for c in lower) and not any(i.columns[: len(lower)] == lower for i in info.indexes):
            missing.append(f"{table.table}({', '.join(columns)})")
    return missing
