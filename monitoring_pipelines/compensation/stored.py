"""How tasks and outputs are read one by one: the same few columns when planning and when applying (R-201, R-405).

What belongs here: the SELECTs of single tasks and of the outputs of given tasks, and the meaning of their values.
What does not: windows of tasks (``candidates``) and locks (``session``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import RepairRefused
from monitoring_pipelines.compensation.rows import KeepQuery, output_key
from monitoring_pipelines.config.expr_sql import quote_text
from monitoring_pipelines.source.select import DELETED, SelectPlan, build_select

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.target import Queryable, Target
    from monitoring_pipelines.config.schema import SourceSettings, TableMapping


@dataclass(frozen=True)
class StoredOutput:
    """An output row as the source has it: primary key as text, natural key, and whether it is valid (E-102)."""

    pk: tuple[str, ...]
    task_key: str
    natural_key: str
    live: bool
    valid: bool


@dataclass(frozen=True)
class StoredTask:
    """A task row as the source has it."""

    task_key: str
    raw_status: str | None
    status: str
    remote_id: str | None
    deleted: bool


def plain(value: Any) -> str | None:
    """A driver's value as text, the same from every driver."""
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def _keys_condition(plan: SelectPlan, keys: Sequence[str]) -> str:
    """Rows of the tasks ``keys``; the server's collation may find more, so results are compared again (E-401)."""
    column = plan.mapping.columns["task_key"].column
    text = plan.field("task_key")
    assert text is not None
    named = column.lower() if column and column.lower() in plan.used_columns else None
    sql = f"`{column}`" if named and plan.dialect != "sqlite" else text.sql
    return f"{sql} in ({', '.join(quote_text(key, plan.dialect) for key in keys)})"


def _select_plan(connection: Queryable, source: SourceSettings, mapping: TableMapping) -> SelectPlan:
    from monitoring_pipelines.source.inspect import inspect_tables

    info = inspect_tables(connection, [mapping.table]).get(mapping.table)  # type: ignore[arg-type]
    if info is None:
        raise RepairRefused(
            "privileges_missing", f"{source.id}: table {mapping.table} does not exist, or the account may not read it",
            "`mp repair doctor` prints the GRANT statements",
        )  # fmt: skip
    return build_select(mapping, source, connection.dialect, info.columns)


class OutputReader:
    """Reads the outputs of given tasks."""

    def __init__(
        self, connection: Queryable, source: SourceSettings, mapping: TableMapping, target: Target, keep: KeepQuery
    ) -> None:
        self._plan = _select_plan(connection, source, mapping)
        self._least, self._keep, self._target = source.min_output_bytes, keep, target
        self._names = [
            name for name in ("task_key", "node_key", "uri", "size_bytes", DELETED) if self._plan.field(name)
        ]

    def sql(self, keys: Sequence[str]) -> str:
        """The SELECT of the outputs of ``keys``: primary key first, then what identifies and validates an output."""
        fields = [self._plan.field(name) for name in self._names]
        columns = [self._target.name(c) for c in self._target.primary_key]
        columns += [f"{f.sql} as {self._target.name(f.alias)}" for f in fields if f is not None]
        where = _keys_condition(self._plan, keys)
        if self._plan.where_sql:
            where += f" and ({self._plan.where_sql})"
        return f"select {', '.join(columns)} from {self._plan.from_sql} where {where}"

    def outputs(self, rows: Iterable[Sequence[Any]], keys: Iterable[str]) -> list[StoredOutput]:
        """Rows of ``sql`` as outputs of exactly the tasks ``keys``, byte by byte (E-401)."""
        wanted, width = set(keys), len(self._target.primary_key)
        found = []
        for row in rows:
            values = dict(zip(self._names, (plain(v) for v in row[width:]), strict=True))
            task_key = values["task_key"]
            if task_key is None or task_key not in wanted:
                continue
            live = values.get(DELETED) != "1"
            key = output_key(task_key, self._null_if("node_key", values), self._null_if("uri", values), self._keep)
            pk = tuple(str(plain(v)) for v in row[:width])
            found.append(StoredOutput(pk, task_key, key, live, live and self._large_enough(values)))
        return found

    def _large_enough(self, values: Mapping[str, str | None]) -> bool:
        if self._least is None:
            return True
        size = self._null_if("size_bytes", values)
        unit = self._plan.mapping.columns["size_bytes"].unit if size is not None else None
        factor = {"kb": 1024, "mb": 1_048_576, "mib": 1_048_576}.get(unit or "", 1)
        return size is not None and float(size) * factor >= self._least

    def _null_if(self, name: str, values: Mapping[str, str | None]) -> str | None:
        value, mapped = values.get(name), self._plan.mapping.columns.get(name)
        return None if mapped is not None and value in [str(v) for v in mapped.null_if] else value


class TaskReader:
    """Reads single tasks of one mapped task table."""

    def __init__(self, connection: Queryable, source: SourceSettings, mapping: TableMapping) -> None:
        self._plan = _select_plan(connection, source, mapping)
        self._mapping = mapping
        self._names = [name for name in ("task_key", "status", "remote_id", DELETED) if self._plan.field(name)]

    def sql(self, key: str) -> str:
        """The SELECT of one task."""
        columns = ", ".join(
            f"{f.sql} as {_alias(f.alias)}" for f in map(self._plan.field, self._names) if f is not None
        )
        where = _keys_condition(self._plan, [key])
        if self._plan.where_sql:
            where += f" and ({self._plan.where_sql})"
        return f"select {columns} from {self._plan.from_sql} where {where}"

    def task(self, rows: Iterable[Sequence[Any]], key: str) -> StoredTask | None:
        """The task ``key`` out of the rows of ``sql``; None when it does not exist (any more)."""
        for row in rows:
            values = dict(zip(self._names, (plain(v) for v in row), strict=True))
            if values["task_key"] == key:
                raw, remote = values.get("status"), values.get("remote_id")
                mapped = self._mapping.columns.get("remote_id")
                if remote == "" or (mapped is not None and remote in [str(v) for v in mapped.null_if]):
                    remote = None
                return StoredTask(key, raw, self._status(raw), remote, values.get(DELETED) == "1")
        return None

    def _status(self, raw: str | None) -> str:
        mapped = self._mapping.columns.get("status")
        if mapped is None or mapped.kind == "const":
            return "succeeded"  # the same for every row of the table
        if mapped.map is None:
            return raw or "unknown"
        return str(mapped.map.get(raw or "", mapped.default or "unknown"))


def _alias(name: str) -> str:
    return f"m_{name.strip('_')}"
