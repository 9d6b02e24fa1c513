"""Sources and their mapping after presets are merged in (entities §6, E-501…E-508).

What belongs here: the models consumers read. What does not: merging and short forms (``mapping``), YAML (``loader``).
"""

# pydantic copies default lists and dicts per object.
# ruff: noqa: RUF012

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, PrivateAttr, model_validator

from monitoring_pipelines.config.base import (
    Block,
    Count,
    EnvName,
    Flag,
    PositiveCount,
    PositiveSeconds,
    SourceId,
    Text,
    Zone,
)  # fmt: skip
from monitoring_pipelines.config.expressions import Expr, ExprError, column_expr, parse
from monitoring_pipelines.config.secrets import mask_dsn, read_secret
from monitoring_pipelines.errors import ConfigError

TIME_KINDS = ("naive_utc", "naive_local", "timestamp", "epoch_s", "epoch_ms", "epoch_us", "iso8601")
TimeKind = Literal["naive_utc", "naive_local", "timestamp", "epoch_s", "epoch_ms", "epoch_us", "iso8601"]
Unit = Literal["bytes", "kb", "mb", "mib", "ms", "s", "us", "m", "percent", "ratio"]
Strategy = Literal["auto", "append", "updated", "rescan", "full"]
Scalar = str | int | float | bool | None


def parse_expr(value: Any) -> Any:
    """Text → ``Expr``; a ValueError names the position (E-504)."""
    if isinstance(value, Expr):
        return value
    if not isinstance(value, str):
        raise ValueError('an expression is a text, e.g. "left(error, 500)"')
    try:
        return parse(value)
    except ExprError as error:
        raise ValueError(f"bad expression: {error}") from None


def _flag_or_expr(value: Any) -> Any:
    return value if isinstance(value, bool) else parse_expr(value)


def _value_expr(value: Any) -> Any:
    expr = parse_expr(value)
    return expr.bounded() if isinstance(expr, Expr) else expr


Expression = Annotated[InstanceOf[Expr], BeforeValidator(parse_expr)]
#: An expression whose value leaves the server: pieces of JSON documents are cut (E-403).
ValueExpression = Annotated[InstanceOf[Expr], BeforeValidator(_value_expr)]
ColumnName = Annotated[Text, Field(max_length=64)]


class _Mapping(Block):
    model_config = ConfigDict(arbitrary_types_allowed=True)


class ColumnMapping(_Mapping):
    """How one unified column is filled (E-503): exactly one of ``column``, ``expr``, ``const``, ``derive``."""

    column: ColumnName | None = None
    #: Values out of JSON documents are already cut to 255 characters.
    expr: ValueExpression | None = None
    const: Scalar = None
    derive: Literal["outputs"] | None = None
    #: None for columns that are not times. The default is ``naive_utc``.
    time: TimeKind | None = None
    #: Zone of ``naive_local``; None = the source's.
    zone: Zone | None = None
    unit: Unit | None = None
    #: Exact, case-sensitive source text → unified value (E-202). None = values are taken as they are.
    map: dict[str, Text] | None = None
    #: Value for NULL and, with ``map``, for values that are not in it.
    default: Scalar = None
    null_if: list[str | int | float] = []
    #: Characters kept.
    max_len: Annotated[PositiveCount, Field(le=1000)] | None = None
    #: The source column must exist; False = absent means "not mapped" (E-702).
    required: Flag = True

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [n for n in ("column", "expr", "derive") if getattr(self, n) is not None]
        if "const" in self.model_fields_set:
            given.append("const")
        if len(given) != 1:
            what = " and ".join(given) if given else "none of them"
            raise ValueError(f"give exactly one of column, expr, const, derive (E-503); found {what}")
        if self.zone is not None and self.time != "naive_local":
            raise ValueError("zone is only used with time: naive_local")
        return self

    @property
    def kind(self) -> Literal["column", "expr", "const", "derive"]:
        """Which of the four forms this is."""
        if self.column is not None:
            return "column"
        if self.expr is not None:
            return "expr"
        return "derive" if self.derive is not None else "const"

    @property
    def source_expr(self) -> Expr | None:
        """``column`` or ``expr`` as an expression; None for const and derive."""
        return column_expr(self.column) if self.column is not None else self.expr

    def source_columns(self) -> set[str]:
        """Columns of the source table this mapping reads."""
        expr = self.source_expr
        return expr.columns() if expr is not None else set()


class TableMapping(_Mapping):
    """One source table that feeds one entity. The key is in ``columns`` like any other column."""

    entity: str
    #: ``table`` or ``schema.table``.
    table: Annotated[Text, Field(pattern=r"^[^`\x00.]{1,64}(\.[^`\x00.]{1,64})?$")]
    optional: Flag = False
    row_id: ColumnName | None = None
    updated_at: ColumnName | None = None
    strategy: Strategy = "auto"
    where: Expression | None = None
    deleted_when: Expression | None = None
    #: task_output only: predicate on the task row (E-103); the table is then the task's.
    inline: Expression | None = None
    retention_days: PositiveCount | None = None
    columns: dict[str, ColumnMapping]

    @property
    def schema_and_table(self) -> tuple[str | None, str]:
        """(schema or None, table)."""
        schema, _, table = self.table.rpartition(".")
        return schema or None, table

    def source_columns(self) -> set[str]:
        """Every column of the source table that is read or evaluated, row id and predicates included."""
        names = {name for name in (self.row_id, self.updated_at) if name}
        for expr in (self.where, self.deleted_when, self.inline):
            if expr is not None:
                names |= expr.columns()
        for column in self.columns.values():
            names |= column.source_columns()
        return names


class Timeouts(Block):
    """Who ends attempts that take too long (C-320, M-217)."""

    mode: Literal["derive", "source", "off"] = "off"
    limit_s: PositiveSeconds | None = None


class Slots(Block):
    """Concurrency limit shown by the compatible API (C-330)."""

    limit: PositiveCount | None = None


class TriggerHook(Block):
    """Where the source's own scheduler starts a job (S-425): the job's id is posted there as JSON."""

    url_env: EnvName | None = None
    url_file: Text | None = None
    timeout_s: PositiveSeconds = 10

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if not (self.url_env or self.url_file):
            raise ValueError("a trigger_hook needs url_env or url_file")
        return self


class SourceSettings(_Mapping):
    """One source with its preset merged in (E-502, E-508)."""

    id: SourceId
    preset: str | None = None
    enabled: Flag = True
    read_dsn_env: EnvName | None = None
    read_dsn_file: Text | None = None
    repair_dsn_env: EnvName | None = None
    repair_dsn_file: Text | None = None
    rollback_dsn_env: EnvName | None = None
    rollback_dsn_file: Text | None = None
    strict_readonly: Flag = False
    read_replica: Flag = False
    timezone: Zone = "UTC"
    #: None = for ever.
    retention_days: PositiveCount | None = None
    timeouts: Timeouts = Timeouts()
    slots: Slots = Slots()
    trigger_hook: TriggerHook | None = None
    min_output_bytes: Count | None = None
    output_expected: Annotated[bool | InstanceOf[Expr], BeforeValidator(_flag_or_expr)] = True
    tables: dict[str, list[TableMapping]]

    _file: str | None = PrivateAttr(default=None)
    _base: Path = PrivateAttr(default_factory=Path.cwd)
    _path: str = PrivateAttr(default="sources[?]")
    _keep_query: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    def attach(self, file: Path | None, base: Path, index: int, keep_query: dict[str, list[str]] | None = None) -> None:
        """Remember where the configuration came from, and what of it concerns every source; called by the loader."""
        self._file, self._base, self._path = str(file) if file else None, base, f"sources[{index}]"
        self._keep_query = keep_query or {}

    @property
    def keep_query(self) -> dict[str, list[str]]:
        """Parameters of links that are part of an output's identity, by host: ``repair.keep_query`` (R-202)."""
        return self._keep_query

    def read_dsn(self) -> str:
        """The DSN for reading: ``mysql://``, ``mariadb://`` or ``sqlite:///absolute/path``.

        Raises:
            ConfigError: When it is not set, or not a DSN. The message never shows it (E-006).
        """
        return self._dsn("read_dsn", self.read_dsn_env, self.read_dsn_file)

    @property
    def is_repairable(self) -> bool:
        """Whether repair can be tried: one mapped output table, and an account that may write to it."""
        blocks = self.mapped("task_output")
        own_table = len(blocks) == 1 and blocks[0].inline is None
        return own_table and bool(self.repair_dsn_env or self.repair_dsn_file)

    def repair_dsn(self) -> str | None:
        """The DSN of apply and resume, None when not configured."""
        if not (self.repair_dsn_env or self.repair_dsn_file):
            return None
        return self._dsn("repair_dsn", self.repair_dsn_env, self.repair_dsn_file)

    def rollback_dsn(self) -> str | None:
        """The DSN of rollback; the repair DSN unless configured."""
        if not (self.rollback_dsn_env or self.rollback_dsn_file):
            return self.repair_dsn()
        return self._dsn("rollback_dsn", self.rollback_dsn_env, self.rollback_dsn_file)

    def trigger_url(self) -> str | None:
        """Where this source's scheduler starts jobs (S-425), None when no hook is configured.

        Raises:
            ConfigError: The address cannot be read.
        """
        hook = self.trigger_hook
        if hook is None:
            return None
        return read_secret(hook.url_env, hook.url_file, self._base, f"{self._path}.trigger_hook", self._file)

    def mapped(self, entity: str) -> list[TableMapping]:
        """Tables that feed ``entity``; empty when it is not mapped."""
        return self.tables.get(entity, [])

    def output_table(self) -> TableMapping | None:
        """The one mapped table that holds outputs; None if they are inline, in several tables, or not mapped."""
        blocks = self.mapped("task_output")
        return blocks[0] if len(blocks) == 1 and blocks[0].inline is None else None

    def _dsn(self, key: str, env: str | None, file: str | None) -> str:
        path = f"{self._path}.{key}_{'env' if env or not file else 'file'}"
        value = read_secret(env, file, self._base, path, self._file)
        if value is None:
            raise ConfigError(self._file, None, path, "no DSN configured", hint=f"name a variable: {key}_env: …")
        if value.startswith(("mysql+pymysql://", "mariadb+pymysql://")):
            value = value.replace("+pymysql", "", 1)
        if not value.startswith(("mysql://", "mariadb://", "sqlite:///")):
            shown = mask_dsn(value).split("://")[0] if "://" in value else "that text"
            raise ConfigError(
                self._file, None, path, f"the DSN in {env or file} has an unknown form ({shown})",
                hint="mysql://user:password@host:3306/database",
            )  # fmt: skip
        return value
