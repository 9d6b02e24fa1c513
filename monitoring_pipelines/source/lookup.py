"""Looking up single tasks at the source before something is said about them (E-612).

What belongs here: tasks and their outputs by task key, typed like stored rows, without storing them.
What does not: reading ranges (``reconcile``) and deciding what a missing output means (the checks).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.config.expr_sql import quote_text
from monitoring_pipelines.source.convert import convert, create_stage, load_stage
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.inspect import inspect_tables
from monitoring_pipelines.source.select import build_select

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings, TableMapping
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.inspect import TableInfo

#: Keys of one look-up at the source (E-606).
KEYS_PER_QUERY = 1000


@dataclass
class SourceTask:
    """A task as the source shows it now: unified columns, and its outputs (inline ones as ``has_inline_output``)."""

    task: dict[str, Any]
    outputs: list[dict[str, Any]] = field(default_factory=list)
    has_inline_output: bool = False


def lookup_tasks(
    settings: Settings, source: SourceSettings, keys: Iterable[str], clock: Clock
) -> dict[str, SourceTask]:
    """Read tasks and their outputs by key, all of them in one snapshot of the source.

    Args:
        settings: Configuration, for time limits.
        source: The source.
        keys: Task keys; compared byte by byte (E-401).
        clock: Instant of the reading.

    Returns:
        Found tasks by key; a key that is missing no longer exists at the source.

    Raises:
        SourceUnavailable: Nothing can be said about any task then (E-613).
    """
    import duckdb

    wanted = sorted(set(keys))
    found: dict[str, SourceTask] = {}
    with connect(source.read_dsn(), settings) as connection, duckdb.connect(":memory:") as memory:
        mappings = [m for name in ("task", "task_output") for m in source.mapped(name) if m.inline is None]
        tables = inspect_tables(connection, [m.table for m in mappings])
        for mapping in mappings:
            info = tables.get(mapping.table)
            if info is None:
                continue
            for at in range(0, len(wanted), KEYS_PER_QUERY):
                chunk = wanted[at : at + KEYS_PER_QUERY]
                for row in _read(settings, source, connection, memory, mapping, info, chunk, clock):
                    _take(found, mapping.entity, row)
    return {key: found[key] for key in wanted if key in found}


def task_key_length(settings: Settings, source: SourceSettings) -> int | None:
    """Characters the output table's task-key column can hold; None for one without a length (C-117).

    Raises:
        SourceUnavailable: The source cannot be asked.
    """
    mappings = [m for m in source.mapped("task_output") if m.inline is None]
    lengths = []
    with connect(source.read_dsn(), settings) as connection:
        tables = inspect_tables(connection, [m.table for m in mappings])
        for mapping in mappings:
            info, column = tables.get(mapping.table), mapping.columns["task_key"].column
            if info is not None and column is not None and column.lower() in info.columns:
                lengths.append(info.columns[column.lower()].max_length)
    return min((length for length in lengths if length), default=None)


def _take(found: dict[str, SourceTask], entity: str, row: dict[str, Any]) -> None:
    inline, deleted = row.pop("__inline"), row.pop("__deleted")
    row["is_deleted"] = deleted
    if entity == "task":
        found[row["task_key"]] = SourceTask(row, has_inline_output=bool(inline))
    elif row["task_key"] in found:
        found[row["task_key"]].outputs.append(row)


def _read(
    settings: Settings, source: SourceSettings, connection: SourceConnection, memory: duckdb.DuckDBPyConnection,
    mapping: TableMapping, info: TableInfo, keys: list[str], clock: Clock,
) -> list[dict[str, Any]]:  # fmt: skip
    relation = read_by_key(connection, memory, settings, source, mapping, info, keys, clock.now())
    result = memory.execute(f"SELECT * FROM {relation} WHERE task_key IN (SELECT task_key FROM asked)")
    names = [description[0] for description in result.description or []]
    keep = [n for n in names if n in ("__inline", "__deleted") or not n.startswith("__")]
    return [{n: value for n, value in zip(names, row, strict=True) if n in keep} for row in result.fetchall()]


def read_by_key(
    connection: SourceConnection, memory: duckdb.DuckDBPyConnection, settings: Settings, source: SourceSettings,
    mapping: TableMapping, info: TableInfo, keys: Sequence[str], now: datetime,
) -> str:  # fmt: skip
    """Read the rows of the tasks ``keys`` of one mapped table, typed, into ``memory``.

    Returns:
        The relation that holds them. The server's collation may have found more than was asked: join with the table
        ``asked (task_key)``, which is filled too (E-401).
    """
    plan = build_select(mapping, source, connection.dialect, info.columns)
    column = mapping.columns["task_key"].column
    task_key = plan.field("task_key")
    assert task_key is not None
    # The plain column, so that its index serves the look-up.
    named = next((c.name for c in info.columns.values() if column and c.name == column.lower()), None)
    sql = f"`{named}`" if named and connection.dialect != "sqlite" else task_key.sql
    condition = f"{sql} in ({', '.join(quote_text(key, connection.dialect) for key in keys)})"
    create_stage(memory, plan, "stage_lookup")
    for rows in connection.stream(plan.render([condition])):
        load_stage(memory, "stage_lookup", plan.stage_columns(), rows)
    convert(memory, plan, source, "stage_lookup", now, settings.extract.future_tolerance_s)
    memory.execute("CREATE OR REPLACE TEMP TABLE asked (task_key VARCHAR)")
    memory.execute("INSERT INTO asked SELECT unnest(?::VARCHAR[])", [list(keys)])
    return "typed_stage_lookup"
