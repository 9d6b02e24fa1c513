"""Tables a team's application can write when the data exists only in its memory (E-512).

What belongs here: the text of ``mp ddl``, made from the unified entities so that names cannot drift.
What does not: writing the tables (``client``) and mapping them (the presets).
"""

from __future__ import annotations

from collections.abc import Iterator

from monitoring_pipelines.entities import EVENT_TYPES, Column, Entity, entities
from monitoring_pipelines.errors import UsageError

#: Entity -> table of E-512.
TABLES = {
    "task_event": "mp_task_events",
    "job_run": "mp_job_runs",
    "process_sample": "mp_process_samples",
    "probe_result": "mp_probe_results",
    "ingest_counter": "mp_ingest_samples",
}
DIALECTS = ("mysql", "mariadb", "sqlite")
#: A source's own figures and spellings: an application that writes unified rows has none.
_LEFT_OUT = {"raw_type", "src_queue_wait_ms", "src_execution_ms", "src_total_ms"}
_SHORT = {"kind", "event_type", "outcome", "trigger", "scope", "health_state"}
_LONG = {"error_message": 500, "result_error": 1000, "labels": 500}
#: Columns that range reads and look-ups use (E-511), besides the key.
_INDEXES = {
    "task_event": ("task_key", "at"),
    "job_run": ("job_id", "started_at", "ended_at"),
    "process_sample": ("at",),
    "probe_result": ("at",),
    "ingest_counter": ("at",),
}
_DEFAULTS = {"scope": "'process'", "trigger": "'schedule'"}
_NOTES = {
    "task_event": f"event_type: {', '.join(EVENT_TYPES)} (E-101).",
    "job_run": "outcome: running, then success, failure, timeout or skipped in the same row. result_error: the `error` "
    "value of what the run returned, if any (E-121).",
    "process_sample": "NULL = not measured, never 0 (E-123). tcp_by_state: JSON object, state -> count.",
    "probe_result": "kind: http or scrape.",
    "ingest_counter": "value: counter that only grows while the process lives. kind: ok, error or generic.",
}
_MYSQL_TYPES = {
    "time": "datetime(6)", "int": "bigint", "ms": "decimal(20,3)", "float": "double", "decimal": "decimal(38,6)",
    "bool": "tinyint(1)",
}  # fmt: skip
_SQLITE_TYPES = {
    "time": "text",
    "int": "integer",
    "ms": "numeric",
    "float": "real",
    "decimal": "numeric",
    "bool": "integer",
}
# Byte-wise comparison, trailing blanks included (E-401).
_TAIL = {
    "mysql": " engine=InnoDB default charset=utf8mb4 collate=utf8mb4_0900_bin",
    "mariadb": " engine=InnoDB default charset=utf8mb4 collate=utf8mb4_nopad_bin",
    "sqlite": "",
}


def ddl(entity: str | None, dialect: str = "mysql") -> str:
    """``CREATE TABLE`` statements, each ended by a semicolon and a newline.

    Args:
        entity: One of ``TABLES``; None: all.
        dialect: mysql, mariadb or sqlite.

    Raises:
        UsageError: Unknown entity or dialect.
    """
    if dialect not in DIALECTS:
        raise UsageError(f"unknown dialect {dialect!r}", f"one of {', '.join(DIALECTS)}")
    if entity is not None and entity not in TABLES:
        raise UsageError(f"there is no table to write for {entity!r}", f"one of {', '.join(TABLES)}")
    names = [entity] if entity else list(TABLES)
    return "\n".join(_create(entities()[name], dialect) for name in names)


def columns(entity: str) -> tuple[Column, ...]:
    """Columns of the table an application writes, without its auto-increment ``id``."""
    return tuple(c for c in entities()[entity].mappable if c.name not in _LEFT_OUT)


def _create(entity: Entity, dialect: str) -> str:
    lines = [*_column_lines(entity, dialect), *_key_lines(entity, dialect)]
    body = ",\n  ".join(lines)
    table = TABLES[entity.name]
    note = f"-- {entity.name}: times are UTC. {_NOTES[entity.name]}\n"
    text = f"{note}create table if not exists {table} (\n  {body}\n){_TAIL[dialect]};\n"
    if dialect == "sqlite":
        for column in _INDEXES.get(entity.name, ()):
            text += f"create index if not exists {table}_{column} on {table} ({_quote(column, dialect)});\n"
    return text


def _column_lines(entity: Entity, dialect: str) -> Iterator[str]:
    if dialect == "sqlite":
        yield "id integer primary key autoincrement"
    else:
        yield "id bigint not null auto_increment primary key"
    for column in columns(entity.name):
        null = "null" if column.nullable else "not null"
        if column.name in _DEFAULTS:
            null += f" default {_DEFAULTS[column.name]}"
        yield f"{_quote(column.name, dialect)} {_type(column, dialect)} {null}"


def _key_lines(entity: Entity, dialect: str) -> Iterator[str]:
    key = ", ".join(_quote(name, dialect) for name in entity.key)
    if dialect == "sqlite":
        yield f"unique ({key})"
        return
    yield f"unique key {TABLES[entity.name]}_key ({key})"
    for column in _INDEXES.get(entity.name, ()):
        yield f"key {TABLES[entity.name]}_{column} ({_quote(column, dialect)})"


def _type(column: Column, dialect: str) -> str:
    types = _SQLITE_TYPES if dialect == "sqlite" else _MYSQL_TYPES
    if column.kind in types:
        return types[column.kind]
    if dialect == "sqlite":
        return "text"
    # Maps are short JSON text: a JSON column could only be read path by path (E-403).
    default = 500 if column.kind == "json" else 255
    return f"varchar({32 if column.name in _SHORT else _LONG.get(column.name, default)})"


def _quote(name: str, dialect: str) -> str:
    return f'"{name}"' if dialect == "sqlite" else f"`{name}`"
