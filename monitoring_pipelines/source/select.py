"""The SELECT of one mapped table, in transport types that every reader hands over unharmed.

What belongs here: which columns are read (only mapped ones, never ``*``, E-403), how they leave the server, and the
conditions of range and key reads. What does not: running it (``engine``, ``bulk``) and giving values their meaning
(``convert``).

Transports: ``us`` is a BIGINT, microseconds from 1970 to the literal wall clock, ``INVALID_TIME`` for zero dates;
``int`` is a BIGINT; ``text`` is utf8mb4 text. Drivers mistreat zero dates, decimals and booleans; these they cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from monitoring_pipelines.config.expr_sql import quote_name, quote_text
from monitoring_pipelines.config.live import payload_problem
from monitoring_pipelines.entities import Column, Entity, entities
from monitoring_pipelines.errors import ConfigError, SchemaDrift
from monitoring_pipelines.source.digest import DIGEST_ALIAS, digest_sql
from monitoring_pipelines.source.inspect import (
    DECIMAL_TYPES,
    INTEGER_TYPES,
    PAYLOAD_TYPES,
    TEMPORAL_TYPES,
    ColumnType,
    quote_table,
)

if TYPE_CHECKING:
    from monitoring_pipelines.config.expressions import Dialect, Expr
    from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings, TableMapping

Transport = Literal["us", "int", "text"]
#: What a non-NULL time that is no instant (``0000-00-00``, a zero month or day) travels as (E-304).
INVALID_TIME = -(2**63)
#: Text that may leave the server per value (E-403); also the longest stored error message.
LONGEST_TEXT = 1000
NUMBER_TIMES = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
#: Names of helper columns in the stage; unified columns never start with an underscore.
INSIDE, DELETED, INLINE, MARK = "__inside", "__deleted", "__inline", "__mark"


@dataclass(frozen=True)
class Field:
    """One selected value: its name in the stage, its SQL at the source, and how it travels."""

    alias: str
    sql: str
    transport: Transport


@dataclass(frozen=True)
class TimeField:
    """A time column whose ranges the source can search: everything needed to write a bound."""

    name: str
    column: str
    sql: str
    kind: str
    zone: str
    transport: Transport
    dialect: Dialect

    def bound(self, instant: datetime) -> str:
        """The naive UTC ``instant`` as a literal of this column.

        An instant that a zone repeats or skips gives the wall clock it is shown as; ranges on such columns must be
        widened by an hour and filtered again.
        """
        if self.kind in NUMBER_TIMES:
            micros = (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)
            per_second = NUMBER_TIMES[self.kind]
            return str(micros // (1_000_000 // per_second))
        wall = instant
        if self.kind == "naive_local":
            wall = instant.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        return quote_text(wall.isoformat(sep=" ", timespec="microseconds"), self.dialect)


@dataclass(frozen=True)
class SelectPlan:
    """How rows of one mapped table are read; ``render`` gives the statement."""

    entity: str
    table: str
    dialect: Dialect
    fields: tuple[Field, ...]
    from_sql: str
    #: The mapping's ``where``; rows outside do not exist (E-611).
    where_sql: str | None
    mapping: TableMapping = field(hash=False)
    #: Quoted auto-increment column, if mapped.
    row_id_sql: str | None
    #: Quoted columns of the entity key, when all of them are plain columns; else empty.
    key_sql: tuple[str, ...]
    #: Range-searchable time columns by unified name; ``updated_at`` of the mapping is ``MARK``.
    times: dict[str, TimeField] = field(hash=False)
    #: Unified columns that are mapped but absent at the source (E-702).
    absent: tuple[str, ...] = ()
    #: Physical columns read, lower case: what the fingerprint covers.
    used_columns: tuple[str, ...] = ()

    @property
    def sql_columns(self) -> list[tuple[str, str]]:
        """(alias, SQL) of every selected value, in order."""
        return [(f.alias, f.sql) for f in self.fields]

    def field(self, alias: str) -> Field | None:
        """The field called ``alias``, or None."""
        return next((f for f in self.fields if f.alias == alias), None)

    def render(
        self,
        conditions: Sequence[str] = (),
        *,
        order_by: str | None = None,
        limit: int | None = None,
        flagged: bool = False,
    ) -> str:
        """The SELECT statement, without placeholders: run it without driver-side formatting.

        Args:
            conditions: SQL conditions, joined by ``and``.
            order_by: SQL of the order.
            limit: Most rows.
            flagged: Instead of dropping rows outside ``where``, add the column ``__inside`` (1 or 0), so that the
                reader learns that a row left the mapping and that its id is no gap.
        """
        columns = [f"{f.sql} as {quote_name(f.alias, self.dialect)}" for f in self.fields]
        tests = list(conditions)
        if self.where_sql:
            if flagged:
                columns.append(f"{truth(self.where_sql)} as {quote_name(INSIDE, self.dialect)}")
            else:
                tests.append(f"({self.where_sql})")
        text = f"select {', '.join(columns)} from {self.from_sql}"
        if tests:
            text += " where " + " and ".join(tests)
        if order_by:
            text += f" order by {order_by}"
        return text if limit is None else f"{text} limit {limit:d}"

    def stage_columns(self, flagged: bool = False) -> list[tuple[str, str]]:
        """(name, DuckDB type) of the stage table that takes the rows of ``render``."""
        columns = [(f.alias, "VARCHAR" if f.transport == "text" else "BIGINT") for f in self.fields]
        return [*columns, (INSIDE, "BIGINT")] if flagged and self.where_sql else columns


def truth(sql: str) -> str:
    """``sql`` as 1 or 0; NULL counts as not true."""
    return f"(case when {sql} then 1 else 0 end)"


def build_select(
    mapping: TableMapping,
    source: SourceSettings,
    dialect: Dialect,
    column_types: dict[str, ColumnType],
) -> SelectPlan:
    """Plan the reading of one mapped table.

    Args:
        mapping: The resolved mapping.
        source: The source it belongs to: default zone, ``output_expected``, inline outputs.
        dialect: SQL dialect of the source.
        column_types: Columns of the table by lower-case name (``inspect.TableInfo.columns``).

    Raises:
        SchemaDrift: A mapped column that may not be absent is absent (E-702).
        ConfigError: A column would be read in a way E-403 forbids.
    """
    return _Planner(mapping, source, dialect, column_types).plan()


class _Planner:
    def __init__(
        self, mapping: TableMapping, source: SourceSettings, dialect: Dialect, types: dict[str, ColumnType]
    ) -> None:
        self.mapping, self.source, self.dialect, self.types = mapping, source, dialect, types
        self.entity: Entity = entities()[mapping.entity]
        self.fields: list[Field] = []
        self.times: dict[str, TimeField] = {}
        self.absent: list[str] = []
        self.used: set[str] = set()

    def plan(self) -> SelectPlan:
        for column in self.entity.mappable:
            mapped = self.mapping.columns.get(column.name)
            if mapped is not None:
                self.add(column, mapped)
        row_id = self.row_id()
        self.helpers()
        # Last, so that it covers everything else that is read of the row (E-609).
        self.fields.append(Field(DIGEST_ALIAS, digest_sql([f.sql for f in self.fields], self.dialect), "int"))
        where = self.mapping.where
        if where is not None:
            self.require(where.columns(), "where")
        return SelectPlan(
            entity=self.entity.name,
            table=self.mapping.table,
            dialect=self.dialect,
            fields=tuple(self.fields),
            from_sql=quote_table(self.mapping.table, self.dialect),
            where_sql=where.render(self.dialect) if where is not None else None,
            mapping=self.mapping,
            row_id_sql=row_id,
            key_sql=self.key(),
            times=self.times,
            absent=tuple(self.absent),
            used_columns=tuple(sorted(self.used)),
        )

    def add(self, column: Column, mapped: ColumnMapping) -> None:
        if mapped.column is None and mapped.expr is None:
            return  # a constant or a derived value needs nothing from the server
        needed = {mapped.column} if mapped.column is not None else mapped.expr.columns()  # type: ignore[union-attr]
        if not self.present(needed):
            if column.name in self.entity.key or not (self.mapping.optional or not mapped.required):
                self.require(needed, f"columns.{column.name}")
            self.absent.append(column.name)
            return
        self.used |= {name.lower() for name in needed}
        if mapped.column is not None:
            found = self.types[mapped.column.lower()]
            sql, transport = self.plain(column, mapped, found)
            if column.kind == "time":
                self.time_field(column.name, mapped.column, mapped.time, mapped.zone, transport)
        else:
            assert mapped.expr is not None
            self.allow(column.name, mapped.expr)
            sql, transport = self.computed(column, mapped, f"({mapped.expr.render(self.dialect)})")
        self.fields.append(Field(column.name, sql, transport))

    def allow(self, name: str, expr: Expr) -> None:
        """Refuse an expression that would hand over a payload column whole (E-403)."""
        problem = payload_problem(expr, self.types) if self.dialect != "sqlite" else None
        if problem is not None:
            raise self.refused(name, problem)

    def plain(self, column: Column, mapped: ColumnMapping, found: ColumnType) -> tuple[str, Transport]:
        sql = quote_name(found.name, self.dialect)
        limit = self.text_limit(column, mapped)
        if found.data_type in PAYLOAD_TYPES and self.dialect != "sqlite":
            if column.kind not in ("text", "json") or (limit is None and column.kind == "text"):
                raise self.refused(
                    column.name, f"{found.data_type} column {found.name} may be read only through left()"
                )
            return f"left({sql}, {limit or LONGEST_TEXT})", "text"
        if column.kind == "time":
            return self.time_value(sql, mapped.time, found.data_type)
        if column.kind in ("bool", "int", "ms", "float", "decimal"):
            if found.data_type in INTEGER_TYPES and not found.unsigned_bigint:
                return self.cast(sql, "int"), "int"
            if found.data_type == "bit":
                return f"cast({sql} as unsigned)", "int"
            return self.cast(sql, "text"), "text"
        return self.text(sql, found.data_type, limit), "text"

    def computed(self, column: Column, mapped: ColumnMapping, sql: str) -> tuple[str, Transport]:
        if column.kind == "time":
            return self.time_value(sql, mapped.time, "datetime")
        return self.text(sql, "", self.text_limit(column, mapped)), "text"

    def time_value(self, sql: str, kind: str | None, data_type: str) -> tuple[str, Transport]:
        if kind in NUMBER_TIMES or kind == "iso8601" or data_type not in TEMPORAL_TYPES or self.dialect == "sqlite":
            return self.cast(sql, "text"), "text"
        # A typed literal: the server would parse a text one for every row, which costs twice the time.
        micros = f"timestampdiff(microsecond, timestamp'1970-01-01 00:00:00', {sql})"
        return f"coalesce({micros}, case when {sql} is null then null else {INVALID_TIME} end)", "us"

    def text(self, sql: str, data_type: str, limit: int | None) -> str:
        if data_type in ("binary", "varbinary"):
            sql = f"lower(hex({sql}))"
        elif data_type not in ("varchar", "char"):
            sql = self.cast(sql, "text")
        if limit is None:
            return sql
        return f"substr({sql}, 1, {limit})" if self.dialect == "sqlite" else f"left({sql}, {limit})"

    def cast(self, sql: str, transport: Transport) -> str:
        names = {"int": "integer", "text": "text"} if self.dialect == "sqlite" else {"int": "signed", "text": "char"}
        return f"cast({sql} as {names[transport]})"

    def text_limit(self, column: Column, mapped: ColumnMapping) -> int | None:
        if mapped.max_len is not None:
            return min(mapped.max_len, LONGEST_TEXT)
        return LONGEST_TEXT if column.name in ("error_message", "error") else None

    def time_field(self, name: str, column: str, kind: str | None, zone: str | None, transport: Transport) -> None:
        data_type = self.types[column.lower()].data_type
        kind = self.effective_kind(kind, data_type)
        searchable = transport == "us" or self.dialect == "sqlite" or (
            kind in NUMBER_TIMES and data_type in INTEGER_TYPES | DECIMAL_TYPES
        )  # fmt: skip
        if searchable and not (self.dialect == "sqlite" and kind == "iso8601"):
            quoted = quote_name(column, self.dialect)
            where = zone or self.source.timezone or "UTC"
            self.times[name] = TimeField(name, column.lower(), quoted, kind, where, transport, self.dialect)

    @staticmethod
    def effective_kind(kind: str | None, data_type: str) -> str:
        """A TIMESTAMP column is UTC on our connections whatever the mapping says (E-301)."""
        return "timestamp" if data_type == "timestamp" else (kind or "naive_utc")

    def row_id(self) -> str | None:
        name = self.mapping.row_id
        if name is None:
            return None
        if not self.present({name}):
            if not self.mapping.optional:
                self.require({name}, "row_id")
            return None
        self.used.add(name.lower())
        quoted = quote_name(name, self.dialect)
        self.fields.append(Field("row_id", self.cast(quoted, "int"), "int"))
        return quoted

    def helpers(self) -> None:
        updated = self.mapping.updated_at
        if updated is not None and self.present({updated}):
            found = self.types[updated.lower()]
            mapped = self.mapping.columns.get("updated_at")
            same = mapped is not None and mapped.column is not None and mapped.column.lower() == updated.lower()
            kind, zone = (mapped.time, mapped.zone) if same and mapped else (None, None)
            sql, transport = self.time_value(quote_name(updated, self.dialect), kind, found.data_type)
            self.fields.append(Field(MARK, sql, transport))
            self.time_field(MARK, updated, kind, zone, transport)
            self.used.add(updated.lower())
        if self.mapping.deleted_when is not None:
            self.predicate(DELETED, self.mapping.deleted_when, "deleted_when")
        if self.entity.name == "task":
            expected = self.source.output_expected
            if "output_expected" not in self.mapping.columns and not isinstance(expected, bool):
                self.predicate("output_expected", expected, "output_expected")
            inline = inline_mapping(self.source, self.mapping)
            if inline is not None and inline.inline is not None:
                self.predicate(INLINE, inline.inline, "inline")

    def predicate(self, alias: str, expr: object, path: str) -> None:
        self.require(expr.columns(), path)  # type: ignore[attr-defined]
        self.used |= {name.lower() for name in expr.columns()}  # type: ignore[attr-defined]
        self.fields.append(Field(alias, truth(expr.render(self.dialect)), "int"))  # type: ignore[attr-defined]

    def key(self) -> tuple[str, ...]:
        names = [self.mapping.columns.get(name) for name in self.entity.key]
        if all(m is not None and m.column is not None for m in names):
            return tuple(quote_name(m.column, self.dialect) for m in names if m is not None and m.column is not None)
        return ()

    def present(self, names: Iterable[str]) -> bool:
        return all(name.lower() in self.types for name in names)

    def require(self, names: Iterable[str], path: str) -> None:
        missing = sorted(name for name in names if name.lower() not in self.types)
        if missing:
            raise SchemaDrift(
                f"{self.source.id}: table {self.mapping.table} has no column {', '.join(missing)} "
                f"(mapped as {self.entity.name}.{path})",
                "restore the column, or change the mapping and run `mp validate`",
            )
        self.used |= {name.lower() for name in names}

    def refused(self, column: str, message: str) -> ConfigError:
        return ConfigError(None, None, f"{self.source.id}.tables.{self.entity.name}.columns.{column}", message)


def inline_mapping(source: SourceSettings, task: TableMapping) -> TableMapping | None:
    """The ``task_output: {inline: …}`` block that belongs to the task table ``task``, if any (E-103)."""
    for mapping in source.tables.get("task_output", []):
        if mapping.inline is not None and (not mapping.table or mapping.table == task.table):
            return mapping
    return None


def time_kind(plan: SelectPlan, column: str, types: dict[str, ColumnType] | None = None) -> tuple[str, str | None]:
    """(kind, zone) by which the values of the unified time ``column`` become instants (E-301, E-302)."""
    known = plan.times.get(column)
    if known is not None:
        return known.kind, known.zone
    mapped = plan.mapping.columns.get(column)
    return ((mapped.time if mapped else None) or "naive_utc"), (mapped.zone if mapped else None)
