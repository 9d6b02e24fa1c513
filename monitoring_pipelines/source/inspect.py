"""What the source's schema looks like: columns, types and indexes of the mapped tables.

What belongs here: catalogue queries of the three dialects and the facts later steps decide on.
What does not: comparing a schema with the stored one (``drift``) and choosing transports (``select``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring_pipelines.config.expr_sql import quote_name, quote_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from monitoring_pipelines.source.engine import SourceConnection

#: MySQL types by family; anything else is read as text.
INTEGER_TYPES = frozenset({"tinyint", "smallint", "mediumint", "int", "integer", "bigint", "year"})
TEMPORAL_TYPES = frozenset({"datetime", "timestamp", "date"})
DECIMAL_TYPES = frozenset({"decimal", "numeric", "float", "double", "real"})
#: May leave the server only in pieces (E-403).
PAYLOAD_TYPES = frozenset(
    {"json", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point",
     "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection"}
)  # fmt: skip


@dataclass(frozen=True)
class ColumnType:
    """Type facts of one column, names and types in lower case."""

    name: str
    data_type: str
    column_type: str
    nullable: bool
    max_length: int | None = None
    auto_increment: bool = False

    @property
    def unsigned_bigint(self) -> bool:
        """Whether values may not fit a signed 64-bit integer."""
        return self.data_type == "bigint" and "unsigned" in self.column_type


@dataclass(frozen=True)
class IndexInfo:
    """One index: its columns in order, lower case."""

    name: str
    unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True)
class TableInfo:
    """Columns by lower-case name, indexes, and the server's rough row count."""

    name: str
    columns: dict[str, ColumnType] = field(hash=False)
    indexes: tuple[IndexInfo, ...] = ()
    row_estimate: int | None = None

    def indexed(self, column: str | None) -> bool:
        """Whether an index starts with ``column``, so that a range on it does not scan the table."""
        return column is not None and any(index.columns[:1] == (column.lower(),) for index in self.indexes)

    def unique_key(self, columns: Iterable[str]) -> bool:
        """Whether the server guarantees that no two rows have equal values in ``columns``."""
        wanted = {column.lower() for column in columns}
        return bool(wanted) and any(
            index.unique
            and set(index.columns) <= wanted
            and all(name in self.columns and not self.columns[name].nullable for name in index.columns)
            for index in self.indexes
        )


def split_table(table: str) -> tuple[str | None, str]:
    """``schema.table`` or ``table`` as (schema or None, table)."""
    schema, _, name = table.rpartition(".")
    return (schema or None), name


def quote_table(table: str, dialect: str) -> str:
    """The table name as quoted identifiers; reserved words and odd characters are safe."""
    schema, name = split_table(table)
    quoted = quote_name(name, dialect)  # type: ignore[arg-type]
    return f"{quote_name(schema, dialect)}.{quoted}" if schema else quoted  # type: ignore[arg-type]


def inspect_tables(conn: SourceConnection, tables: Iterable[str]) -> dict[str, TableInfo]:
    """Facts of those of ``tables`` that exist (and that the account may see), by the name given.

    Raises:
        SourceUnavailable: The connection failed.
    """
    wanted = sorted(set(tables))
    if not wanted:
        return {}
    if conn.dialect == "sqlite":
        return {table: info for table in wanted if (info := _inspect_sqlite(conn, table)) is not None}
    return _inspect_mysql(conn, wanted)


def _inspect_mysql(conn: SourceConnection, wanted: list[str]) -> dict[str, TableInfo]:
    def condition(table: str) -> str:
        schema, name = split_table(table)
        place = quote_text(schema, "mysql") if schema else "database()"
        return f"(table_schema = {place} and table_name = {quote_text(name, 'mysql')})"

    where = " or ".join(condition(table) for table in wanted)
    default = str(conn.query("select database()")[0][0])
    columns: dict[tuple[str, str], dict[str, ColumnType]] = {}
    for schema, table, name, data_type, column_type, nullable, length, extra in conn.query(
        "select table_schema, table_name, column_name, data_type, column_type, is_nullable, character_maximum_length, "
        f"extra from information_schema.columns where {where} order by ordinal_position"
    ):
        columns.setdefault((schema, table), {})[name.lower()] = ColumnType(
            name.lower(), _text(data_type), _text(column_type), nullable == "YES",
            None if length is None else int(length), "auto_increment" in _text(extra),
        )  # fmt: skip
    indexes: dict[tuple[str, str, str], tuple[bool, list[str]]] = {}
    for schema, table, name, non_unique, column in conn.query(
        "select table_schema, table_name, index_name, non_unique, column_name from information_schema.statistics "
        f"where {where} order by index_name, seq_in_index"
    ):
        # A functional index has no column name: it serves no range on a column.
        indexes.setdefault((schema, table, name), (not int(non_unique), []))[1].append((column or "").lower())
    estimates = {
        (schema, table): None if count is None else int(count)
        for schema, table, count in conn.query(
            f"select table_schema, table_name, table_rows from information_schema.tables where {where}"
        )
    }
    result = {}
    for table in wanted:
        schema, name = split_table(table)
        place = (schema or default, name)
        if place in columns:
            own = tuple(IndexInfo(i, unique, tuple(c)) for (s, t, i), (unique, c) in indexes.items() if (s, t) == place)
            result[table] = TableInfo(table, columns[place], own, estimates.get(place))
    return result


def _inspect_sqlite(conn: SourceConnection, table: str) -> TableInfo | None:
    schema, name = split_table(table)
    prefix = f"{quote_name(schema, 'sqlite')}." if schema else ""
    columns: dict[str, ColumnType] = {}
    primary: list[tuple[int, str, str]] = []
    for _, column, declared, not_null, _, position in conn.query(
        f"pragma {prefix}table_info({quote_name(name, 'sqlite')})"
    ):
        kind = (declared or "text").lower()
        family = kind.split("(")[0].strip()
        columns[column.lower()] = ColumnType(column.lower(), family, kind, not not_null and not position)
        if position:
            primary.append((position, column.lower(), family))
    if not columns:
        return None
    indexes = []
    if primary:
        if len(primary) == 1 and primary[0][2] == "integer":
            only = columns[primary[0][1]]
            columns[only.name] = ColumnType(only.name, only.data_type, only.column_type, False, auto_increment=True)
        indexes.append(IndexInfo("primary", True, tuple(column for _, column, _ in sorted(primary))))
    for row in conn.query(f"pragma {prefix}index_list({quote_name(name, 'sqlite')})"):
        parts = conn.query(f"pragma {prefix}index_info({quote_name(row[1], 'sqlite')})")
        indexes.append(IndexInfo(row[1], bool(row[2]), tuple((part[2] or "").lower() for part in parts)))
    return TableInfo(table, columns, tuple(indexes), None)


def _text(value: object) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value or "")).lower()
