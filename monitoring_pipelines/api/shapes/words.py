"""Words to write JSON schemas with.

What belongs here: types, objects, lists, and columns of stored tables as properties. What does not: answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from monitoring_pipelines.severity import Health, Severity

if TYPE_CHECKING:
    from sqlalchemy import Table

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
INT: Schema = {"type": "integer"}
NUM: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
#: RFC 3339 with Z.
TIME: Schema = {"type": "string", "format": "date-time"}
DATE: Schema = {"type": "string", "format": "date"}
#: What a source, a person or a rule put there: any JSON.
ANY: Schema = {}


def one_of(words: Iterable[str]) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(words)}


HEALTH = one_of(get_args(Health))
SEVERITY = one_of(get_args(Severity))


def null(schema: Schema) -> Schema:
    """The same, or null."""
    return schema if schema == ANY else {"anyOf": [schema, {"type": "null"}]}


def nulls(schema: Schema, names: str) -> dict[str, Schema]:
    """Several properties of one type that may be null."""
    return dict.fromkeys(names.split(), null(schema))


def alike(schema: Schema, names: str) -> dict[str, Schema]:
    """Several properties of one type."""
    return dict.fromkeys(names.split(), schema)


def obj(properties: Mapping[str, Schema], optional: Collection[str] = (), **more: Schema) -> Schema:
    """A closed object: all properties are there but the ``optional`` ones, and no others."""
    whole = {**properties, **more}
    required = [name for name in whole if name not in optional]
    return {"type": "object", "properties": whole, "required": required, "additionalProperties": False}


def listed(item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": item}


def by_name(item: Schema) -> Schema:
    """An object whose keys are names of things, not fields."""
    return {"type": "object", "additionalProperties": item}


def ref(name: str) -> Schema:
    """A shape by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def paged(item: Schema, **more: Schema) -> Schema:
    """One page of a list (S-103)."""
    return obj({"items": listed(item), **alike(INT, "total page page_size pages")}, (), **more)


def of_table(table: Table, hidden: Collection[str] = (), **more: Schema) -> Schema:
    """A row of a table of the state store; ``more`` replaces or adds properties."""
    from sqlalchemy import Boolean, DateTime, Double, Integer
    from sqlalchemy.types import TypeDecorator

    from monitoring_pipelines.state.types import Json

    found: dict[str, Schema] = {}
    for column in table.columns:
        if column.name in hidden:
            continue
        kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
        known: Schema = TEXT
        if isinstance(kind, Boolean):
            known = FLAG
        elif isinstance(kind, DateTime):
            known = TIME
        elif isinstance(kind, Integer):
            known = INT
        elif isinstance(kind, Double):
            known = NUM
        elif isinstance(column.type, Json):
            known = ANY
        found[column.name] = null(known) if column.nullable else known
    return obj(found | more)


#: How a type of DuckDB is written in JSON, by the beginning of its name.
_OF_DUCKDB = {
    "BIGINT": INT, "UBIGINT": INT, "BOOLEAN": FLAG, "DATE": DATE, "DECIMAL": NUM, "DOUBLE": NUM, "JSON": ANY,
    "TIMESTAMP": TIME, "VARCHAR": TEXT,
}  # fmt: skip


def of_duckdb(kind: str) -> Schema:
    """A value of a column of this type, which may always be null."""
    return null(_OF_DUCKDB[kind.partition("(")[0]])


#: How a kind of ``entities.kind_of`` is written in JSON.
_OF_KIND = {"bool": FLAG, "json": ANY, "float": NUM, "int": INT, "time": TIME, "ms": NUM, "decimal": NUM, "text": TEXT}


def of_entity(names: Iterable[str]) -> dict[str, Schema]:
    """Columns of unified entities, which may all be null but a key of a source."""
    from monitoring_pipelines.entities import kind_of

    found = {name: null(_OF_KIND[kind_of(name)]) for name in names}
    return found | {name: TEXT for name in ("source_id",) if name in found}
