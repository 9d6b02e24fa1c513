"""The output table rows are inserted into: its columns, key and fingerprint, and which column gets which value.

What belongs here: facts out of the server's catalogue, the insert mapping (R-210), the hashes that stop a plan when
table or mapping change (R-402). What does not: values (``rows``) and statements that write (``apply``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from monitoring_pipelines.compensation.model import RepairRefused, sha256_of
from monitoring_pipelines.config.expr_sql import quote_name, quote_text
from monitoring_pipelines.config.expressions import Expr
from monitoring_pipelines.source.inspect import quote_table, split_table

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings, SourceSettings, TableMapping

#: Insert mapping of tables whose layout is known (R-210): column → where its value comes from.
PRESET_INSERT: dict[str, dict[str, Any]] = {
    "tktool": {
        "task_id": "task_key", "node_id": "node_key", "name": "name", "file_url": "uri", "file_type": "media_type",
        "file_size": "size_bytes", "created_at": "created_at", "local_path": "empty", "thumbnail_path": "empty",
    },
}  # fmt: skip
#: Where a value may come from; ``{const: …}`` is the other form.
VALUE_WORDS = (
    "task_key", "node_key", "name", "uri", "media_type", "size_bytes", "created_at", "natural_key", "uuid", "empty",
)  # fmt: skip
#: Columns that a preset maps and a table may lack.
_OPTIONAL_WORDS = ("node_key", "name", "size_bytes", "empty")


class Queryable(Protocol):
    """What the catalogue is read through: a planning connection or a repair session."""

    dialect: Any

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a statement without placeholders."""
        ...


@dataclass(frozen=True)
class TargetColumn:
    """One column of the output table, as the server's catalogue describes it."""

    name: str
    data_type: str
    column_type: str
    nullable: bool
    has_default: bool
    #: Characters; None for other types than text.
    max_length: int | None = None
    #: Bytes; for the TEXT family, whose limit counts bytes.
    max_bytes: int | None = None
    #: Digits of a second of a time column.
    precision: int | None = None
    auto_increment: bool = False
    generated: bool = False
    collation: str | None = None


@dataclass(frozen=True)
class Reference:
    """A foreign key of another table that points at the output table."""

    table: str
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """The output table of a source."""

    source_id: str
    table: str
    dialect: str
    columns: Mapping[str, TargetColumn] = field(hash=False)
    primary_key: tuple[str, ...]
    engine: str
    #: Column → value word or ``{"const": …}``, in column order.
    insert: Mapping[str, Any] = field(hash=False)
    #: (kind, zone) of the column that gets ``created_at``.
    time_kind: tuple[str, str | None] = ("naive_utc", None)

    @property
    def quoted(self) -> str:
        """The table as quoted identifiers."""
        return quote_table(self.table, self.dialect)

    def name(self, column: str) -> str:
        """A column as a quoted identifier."""
        return quote_name(column, self.dialect)  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """Hash over columns, types, lengths, nullability, defaults, collations and primary key (R-402)."""
        return sha256_of({
            "table": split_table(self.table)[1], "primary_key": self.primary_key, "engine": self.engine,
            "columns": [vars(column) for column in self.columns.values()],
        })  # fmt: skip


def output_mapping(source: SourceSettings) -> TableMapping:
    """The one mapped table that outputs are inserted into.

    Raises:
        RepairRefused: Outputs are inline, in several tables, or not mapped.
    """
    mapping = source.output_table()
    if mapping is None:
        raise RepairRefused(
            "no_output_table", f"{source.id}: repair needs exactly one mapped output table",
            "outputs that are a column of the task row, or spread over several tables, cannot be inserted",
        )  # fmt: skip
    return mapping


def why_not_repairable(settings: Settings, source: SourceSettings) -> str | None:
    """The reason word a plan of this source would be refused with whatever its tables look like; None: a plan can be made."""
    if not settings.repair.recoverers:
        return "no_recoverer"
    try:
        output_mapping(source)
    except RepairRefused as refused:
        return refused.code
    words = [word for word in _given(settings, source).values() if isinstance(word, str)]
    return None if {"task_key", "uri"} <= set(words) else "insert_mapping"


def _given(settings: Settings, source: SourceSettings) -> dict[str, Any]:
    """What preset and configuration say an insert fills: column → word or constant."""
    return {**PRESET_INSERT.get(source.preset or "", {}), **settings.repair.insert}


def inspect_target(connection: Queryable, settings: Settings, source: SourceSettings) -> Target:
    """Read the output table's schema and decide what an insert fills.

    Raises:
        RepairRefused: The table is missing, has no primary key, cannot be rolled back, or has a column nobody fills.
    """
    mapping = output_mapping(source)
    if connection.dialect == "sqlite":
        columns, key, engine = _sqlite_table(connection, mapping.table)
    else:
        columns, key, engine = _mysql_table(connection, mapping.table)
    if not columns:
        raise RepairRefused(
            "no_output_table", f"{source.id}: table {mapping.table} does not exist or cannot be seen",
            "check its name in the mapping and what the repair account may read",
        )  # fmt: skip
    if not key:
        raise RepairRefused(
            "no_primary_key", f"{source.id}: table {mapping.table} has no primary key",
            "without one an inserted row could not be found again to be verified or removed",
        )  # fmt: skip
    if engine.lower() not in ("innodb", "sqlite"):
        raise RepairRefused(
            "not_transactional", f"{source.id}: table {mapping.table} is of engine {engine}, which cannot roll back"
        )
    created = mapping.columns.get("created_at")
    kind = (created.time if created else None) or "naive_utc"
    zone = (created.zone if created else None) or source.timezone
    return Target(
        source.id, mapping.table, str(connection.dialect), columns, key, engine,
        insert_mapping(settings, source, columns), (kind, zone),
    )  # fmt: skip


def insert_mapping(
    settings: Settings, source: SourceSettings, columns: Mapping[str, TargetColumn]
) -> dict[str, str | dict[str, Any]]:
    """Which column gets which value (R-210).

    Raises:
        RepairRefused: An unknown column or word, or a column without default and without mapping.
    """
    given = _given(settings, source)
    by_name = {name.lower(): name for name in columns}
    chosen: dict[str, Any] = {}
    for column, word in given.items():
        known = by_name.get(column.lower())
        if known is None:
            if column in settings.repair.insert or word not in _OPTIONAL_WORDS:
                raise _refused(source, f"repair.insert: the output table has no column {column}")
            continue
        if not (word in VALUE_WORDS if isinstance(word, str) else isinstance(word, Mapping) and set(word) == {"const"}):
            raise _refused(source, f"repair.insert.{column}: {word!r} is none of {', '.join(VALUE_WORDS)}")
        if columns[known].generated:
            raise _refused(source, f"repair.insert.{column}: the server computes this column")
        chosen[known] = word
    for word in ("task_key", "uri"):
        if word not in chosen.values():
            raise _refused(source, f"repair.insert: no column gets {word}")
    for facts in columns.values():
        filled = facts.name in chosen or facts.auto_increment or facts.generated or facts.has_default
        if not filled and not facts.nullable:
            raise _refused(source, f"column {facts.name} has no default and repair.insert does not fill it")
    return {name: chosen[name] for name in columns if name in chosen}


def _refused(source: SourceSettings, message: str) -> RepairRefused:
    return RepairRefused("insert_mapping", f"{source.id}: {message}", "see `repair.insert` in docs/operations.md")


def config_hash(settings: Settings, source: SourceSettings) -> str:
    """Hash over everything in the configuration that decides which rows a plan holds (R-402 ``config_changed``)."""
    repair = settings.repair
    blocks = [mapping for name in ("task", "task_output") for mapping in source.mapped(name)]
    text = json.dumps([block.model_dump() for block in blocks], default=_expr_text, sort_keys=True)
    return sha256_of({
        "mapping": text, "preset_insert": PRESET_INSERT.get(source.preset or "", {}), "insert": repair.insert,
        "keep_query": repair.keep_query, "media_types": repair.media_types, "created_at": repair.created_at,
        "min_output_bytes": source.min_output_bytes, "timezone": source.timezone,
    })  # fmt: skip


def _expr_text(value: Any) -> str:
    if isinstance(value, Expr):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a mapping has no text form")


def references(connection: Queryable, target: Target) -> list[Reference]:
    """Foreign keys of other tables that point at the output table, as far as the account may see them (R-702)."""
    if connection.dialect == "sqlite":
        return _sqlite_references(connection, target)
    schema, name = split_table(target.table)
    place = quote_text(schema, "mysql") if schema else "database()"
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for child_schema, child, constraint, column, referenced in connection.query(
        "select table_schema, table_name, constraint_name, column_name, referenced_column_name "
        "from information_schema.key_column_usage "
        f"where referenced_table_schema = {place} and referenced_table_name = {quote_text(name, 'mysql')} "
        "order by constraint_name, ordinal_position"
    ):
        found.setdefault((_word(child_schema), _word(child), _word(constraint)), []).append(
            (_word(column), _word(referenced))
        )
    return [
        Reference(f"{child_schema}.{child}", tuple(c for c, _ in pairs), tuple(r for _, r in pairs))
        for (child_schema, child, _), pairs in found.items()
    ]


def insert_triggers(connection: Queryable, target: Target) -> list[str]:
    """Names of triggers that an INSERT into or a DELETE from the output table fires, as far as the account may see."""
    schema, name = split_table(target.table)
    if connection.dialect == "sqlite":
        found = connection.query(
            f"select name from sqlite_master where type = 'trigger' and tbl_name = {quote_text(name, 'sqlite')}"
        )
    else:
        place = quote_text(schema, "mysql") if schema else "database()"
        found = connection.query(
            "select trigger_name from information_schema.triggers where event_manipulation in ('INSERT', 'DELETE') and "
            f"event_object_schema = {place} and event_object_table = {quote_text(name, 'mysql')} order by trigger_name"
        )
    return [_word(row[0]) for row in found]


def _sqlite_references(connection: Queryable, target: Target) -> list[Reference]:
    result = []
    name = split_table(target.table)[1]
    for (table,) in connection.query("select name from sqlite_master where type = 'table'"):
        rows = connection.query(f"pragma foreign_key_list({quote_name(table, 'sqlite')})")
        pairs = [(row[3], row[4]) for row in rows if row[2].lower() == name.lower()]
        if pairs:
            result.append(
                Reference(table, tuple(c for c, _ in pairs), tuple(r or target.primary_key[0] for _, r in pairs))
            )
    return result


def _mysql_table(connection: Queryable, table: str) -> tuple[dict[str, TargetColumn], tuple[str, ...], str]:
    schema, name = split_table(table)
    place = quote_text(schema, "mysql") if schema else "database()"
    where = f"table_schema = {place} and table_name = {quote_text(name, 'mysql')}"
    columns: dict[str, TargetColumn] = {}
    for row in connection.query(
        "select column_name, data_type, column_type, is_nullable, column_default, character_maximum_length, "
        "character_octet_length, datetime_precision, extra, collation_name, generation_expression "
        f"from information_schema.columns where {where} order by ordinal_position"
    ):
        column, data_type, column_type, nullable, default, length, octets, precision, extra, collation, computed = (
            None if value is None else _word(value) for value in row
        )
        assert column is not None
        assert data_type is not None
        extra = (extra or "").lower()
        is_text = data_type.lower().endswith("text")
        columns[column] = TargetColumn(
            column, data_type.lower(), column_type or "", nullable == "YES",
            # MariaDB writes the word NULL where MySQL has no value.
            has_default=default is not None and default != "NULL",
            max_length=None if length is None or is_text else int(length),
            max_bytes=int(octets) if octets is not None and is_text else None,
            precision=None if precision is None else int(precision),
            auto_increment="auto_increment" in extra,
            generated=bool(computed) and computed != "NULL",
            collation=collation,
        )  # fmt: skip
    key = connection.query(
        "select column_name from information_schema.statistics "
        f"where {where} and index_name = 'PRIMARY' order by seq_in_index"
    )
    engine = connection.query(f"select engine from information_schema.tables where {where}")
    return columns, tuple(_word(row[0]) for row in key), _word(engine[0][0]) if engine and engine[0][0] else "?"


def _sqlite_table(connection: Queryable, table: str) -> tuple[dict[str, TargetColumn], tuple[str, ...], str]:
    columns: dict[str, TargetColumn] = {}
    key: list[tuple[int, str]] = []
    for _, name, declared, not_null, default, position in connection.query(
        f"pragma table_info({quote_name(split_table(table)[1], 'sqlite')})"
    ):
        declared = (declared or "text").lower()
        family, _, rest = declared.partition("(")
        digits = rest.split(")")[0] if rest else ""
        is_text = family.strip() in ("varchar", "char")
        columns[name] = TargetColumn(
            name, family.strip(), declared, not (not_null or position), default is not None,
            max_length=int(digits) if is_text and digits.isdigit() else None,
            precision=int(digits) if family.strip() in ("datetime", "timestamp") and digits.isdigit() else None,
            auto_increment=bool(position) and family.strip() == "integer",
        )  # fmt: skip
        if position:
            key.append((int(position), name))
    return columns, tuple(name for _, name in sorted(key)), "sqlite"


def _word(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
