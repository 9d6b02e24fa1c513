"""Staged rows in transport types become typed rows of a unified entity, with their anomalies, in DuckDB SQL.

What belongs here: the meaning of values: time kinds and zones (E-302…E-305), units, ``null_if``, status maps (E-202),
bad values, GPU readings (E-115), identities of outputs (R-201, R-202).
What does not: how values leave the server (``select``), storing rows (``warehouse.ingest``).

Any DuckDB connection will do, also one in memory: the tail converts before it takes the writer lock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.entities import (
    EVENT_TYPES,
    FINAL_TASK_STATUSES,
    JOB_RUN_OUTCOMES,
    TASK_STATUSES,
    WORKER_EVENT_TYPES,
    WORKER_STATUSES,
    Column,
    Entity,
    entities,
    raw_columns,
)
from monitoring_pipelines.source.digest import DIGEST_ALIAS
from monitoring_pipelines.source.select import (
    DELETED,
    INLINE,
    INSIDE,
    INVALID_TIME,
    MARK,
    NUMBER_TIMES,
    Field,
    SelectPlan,
    time_kind,
)
from monitoring_pipelines.warehouse.ingest import hash_sql, key_hash_sql, key_text_sql, row_hash_sql
from monitoring_pipelines.warehouse.output_refresh import valid_output_sql

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings

EPOCH = datetime(1970, 1, 1)
#: First instant that is out of range (E-304), microseconds since 1970.
END_OF_TIME = (datetime(2100, 1, 1) - EPOCH) // timedelta(microseconds=1)
#: Values an enumerated column may have, and what an unmapped value becomes (E-202).
ENUMERATED: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("task", "status"): (TASK_STATUSES, "unknown"),
    # `info` is stored and never interpreted (E-101); an unknown kind must not count as a sign of life either.
    ("task_event", "event_type"): (EVENT_TYPES, "info"),
    ("worker", "status"): (WORKER_STATUSES, "unknown"),
    ("worker_event", "event_type"): (WORKER_EVENT_TYPES, "unknown"),
    ("job_run", "outcome"): (JOB_RUN_OUTCOMES, "unknown"),
    ("job", "risk_level"): (("low", "medium", "high", "critical"), "medium"),
    ("notification", "state"): (("pending", "sent", "failed", "abandoned", "suppressed"), "unknown"),
}
#: Values of NOT NULL columns that the source does not give, as SQL.
DEFAULTS: dict[tuple[str, str], str] = {
    ("task", "output_expected"): "true",
    ("worker", "concurrency"): "1",
    ("job", "enabled"): "true",
    ("job", "risk_level"): "'medium'",
    ("job_run", "trigger"): "'schedule'",
    ("process_sample", "scope"): "'process'",
    ("probe_result", "kind"): "'http'",
    ("ingest_counter", "kind"): "'generic'",
    ("endpoint", "status"): "'unknown'",
}
#: Times that are plans, not observations: they may lie ahead without being wrong.
PLANNED = frozenset({"deadline_at", "scheduled_at", "next_retry_at"})
#: Names of workers: an empty one is no worker (E-402).
EMPTY_IS_NULL = frozenset({"worker_key", "task_key", "current_task_key", "remote_id", "node_key"})
#: Up to so many rows, JSON costs less than importing pyarrow (0.2 CPU-s), which takes a quarter of its time for each.
JSON_ROWS = 20_000
_BYTES = {"bytes": 1, "kb": 1024, "mb": 1_048_576, "mib": 1_048_576}
_MILLIS = {"us": "0.001", "ms": "1", "s": "1000", "m": "60000"}
_WALL = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
_OFFSET_BASE = r"^(.*\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(?:Z|z|[+-]\d{2}(?::?\d{2})?)$"
_OFFSET = r"(\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|z|[+-]\d{2}(?::?\d{2})?)$"
_ZERO = r"^(0000|\d{4}-00|\d{4}-\d{2}-00)"


@dataclass(frozen=True)
class Staged:
    """Typed rows of one entity from one table, ready for ``warehouse.ingest.apply_batch``.

    ``relation`` has every column of ``raw.<entity>`` that a source row decides, ``anomalies`` (kinds), and the helpers
    ``__details`` (list of {kind, detail}), ``__key`` (text of the key), ``__deleted``, ``__inside``, ``__inline``,
    ``__due`` (list of instants that lie ahead, E-306) and ``__mark`` (the mapping's updated_at).
    """

    entity: str
    source_id: str
    src_table: str
    relation: str
    #: task: status and end come from the outputs; task_output: tasks follow its changes (E-503).
    derive_outputs: bool = False
    #: task: one virtual output per row with a true ``__inline`` (E-103).
    inline_outputs: bool = False
    #: The server keeps the entity's key unique in this table.
    unique_key: bool = False
    rows: int = 0
    #: Instant of the snapshot the rows were read in; None = they are as new as their writing.
    read_at: datetime | None = None
    #: An output on the task row is valid: no least size is configured that it could not show (E-102).
    inline_valid: bool = True


def create_stage(con: duckdb.DuckDBPyConnection, plan: SelectPlan, name: str, *, flagged: bool = False) -> None:
    """Create (or empty) the temporary table ``name`` that takes the rows of ``plan``."""
    columns = ", ".join(f'"{alias}" {kind}' for alias, kind in plan.stage_columns(flagged))
    con.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" ({columns})')


def load_stage(con: duckdb.DuckDBPyConnection, name: str, columns: Sequence[tuple[str, str]],
               rows: Sequence[Sequence[Any]]) -> None:  # fmt: skip
    """Append driver rows (integers, text, None) to the stage ``name``.

    Args:
        con: Connection that has the stage.
        name: Stage table.
        columns: ``plan.stage_columns()``.
        rows: Rows in that order.
    """
    if not rows:
        return
    listed = [
        [None if v is None else int(v) for v in values] if kind == "BIGINT" else [_as_text(v) for v in values]
        for values, (_, kind) in zip(zip(*rows, strict=True), columns, strict=True)
    ]
    if len(rows) <= JSON_ROWS:
        _load_few(con, name, columns, listed)
        return
    import pyarrow as pa

    kinds = {"BIGINT": pa.int64(), "VARCHAR": pa.string()}
    arrays = [pa.array(values, kinds[kind]) for values, (_, kind) in zip(listed, columns, strict=True)]
    table = pa.Table.from_arrays(arrays, names=[alias for alias, _ in columns])
    con.register("__stage_rows", table)
    try:
        con.execute(f'INSERT INTO "{name}" SELECT * FROM __stage_rows')
    finally:
        con.unregister("__stage_rows")


def _load_few(
    con: duckdb.DuckDBPyConnection, name: str, columns: Sequence[tuple[str, str]], listed: Sequence[Sequence[Any]]
) -> None:
    """Append columns of values to the stage ``name`` as one JSON text."""
    shape = json.dumps({alias: [kind] for alias, kind in columns})
    values = ", ".join(f'unnest(v."{alias}")' for alias, _ in columns)
    text = json.dumps(dict(zip((alias for alias, _ in columns), listed, strict=True)), ensure_ascii=False)
    con.execute(
        f'INSERT INTO "{name}" SELECT {values} FROM (SELECT from_json_strict(?::VARCHAR, {text_literal(shape)}) AS v)',
        [text],
    )


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def convert(
    con: duckdb.DuckDBPyConnection,
    plan: SelectPlan,
    source: SourceSettings,
    stage: str,
    read_at: datetime,
    future_tolerance_s: float = 5.0,
    *,
    unique_key: bool = False,
) -> Staged:
    """Turn the stage into the temporary table ``typed_<stage>``; the stage is left as it is.

    Args:
        con: Connection that has the stage.
        plan: The plan the stage was read with.
        source: Source settings: id, default zone, ``min_output_bytes``, ``output_expected``.
        stage: Name of the stage table or view, with the columns of ``plan.stage_columns()``.
        read_at: Naive UTC instant the source's snapshot was taken.
        future_tolerance_s: Seconds a time may lie ahead before it is ``future_time`` (E-306).
        unique_key: The source guarantees unique keys (``TableInfo.unique_key``).
    """
    converter = _Converter(con, plan, source, stage, read_at, future_tolerance_s)
    relation = f"typed_{stage}"
    con.execute(f'CREATE OR REPLACE TEMP TABLE "{relation}" AS {converter.sql()}')
    rows = con.execute(f'SELECT count(*) FROM "{relation}"').fetchone()
    return Staged(
        plan.entity, source.id, plan.table, relation,
        derive_outputs=plan.entity in ("task", "task_output") and derives_from_outputs(source),
        inline_outputs=plan.field(INLINE) is not None,
        unique_key=unique_key,
        rows=rows[0] if rows else 0,
        read_at=read_at,
        inline_valid=source.min_output_bytes is None,
    )  # fmt: skip


def typing_of(con: duckdb.DuckDBPyConnection, plan: SelectPlan, source: SourceSettings, stage: str) -> str:
    """A word for the way ``convert`` types rows: another one after any change of the mapping or of the product.

    Args:
        con: As for ``convert``.
        plan: As for ``convert``.
        source: As for ``convert``.
        stage: As for ``convert``.
    """
    # The instant stands for all: a literal of the reading must not make a difference.
    sql = _Converter(con, plan, source, stage, datetime(1970, 1, 1), 0.0).sql()
    return hashlib.sha256(f"{sql}{source.min_output_bytes}".encode()).hexdigest()[:16]


def derives_from_outputs(source: SourceSettings) -> bool:
    """Whether the status of the source's tasks is derived from their outputs (E-503)."""
    return any("status" in m.columns and m.columns["status"].derive for m in source.tables.get("task", []))


class _Converter:
    """Builds the one SELECT that types a stage.

    Steps: ``s`` renames stage columns to ``s_<name>`` and applies ``null_if``; ``z`` adds instants ``u_<name>``
    (microseconds, UTC) of time columns; ``t`` types every column; ``r`` adjusts across columns and lists anomalies.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, plan: SelectPlan, source: SourceSettings, stage: str,
        read_at: datetime, tolerance_s: float,
    ) -> None:  # fmt: skip
        self.con, self.plan, self.source, self.stage = con, plan, source, stage
        self.entity: Entity = entities()[plan.entity]
        self.read_at = read_at
        self.limit = read_at + timedelta(seconds=tolerance_s)
        self.present = [row[0] for row in con.execute(f'DESCRIBE "{stage}"').fetchall()]
        #: (kind, condition, detail), evaluated over ``t``.
        self.checks: list[tuple[str, str, str]] = []
        self.instants: list[str] = []
        self.joins: list[str] = []

    def sql(self) -> str:
        staged = ", ".join(f'{self.without_null_ifs(name)} AS "s_{name}"' for name in self.present)
        typed = {column.name: self.column(column) for column in self.entity.columns}
        mark = self.mark()
        helpers = {
            "__deleted": self.flag(DELETED, "false"),
            "__inside": self.flag(INSIDE, "true"),
            "__inline": self.flag(INLINE, "false"),
            "row_id": '"s_row_id"' if "row_id" in self.present else "NULL::BIGINT",
            "src_digest": f'"s_{DIGEST_ALIAS}"' if DIGEST_ALIAS in self.present else "NULL::BIGINT",
            "__mark": mark,
        }
        body = ", ".join(f'{value} AS "{name}"' for name, value in (typed | helpers).items())
        adjusted = self.adjusted()
        replace = f" REPLACE ({', '.join(f'{v} AS {k}' for k, v in adjusted.items())})" if adjusted else ""
        future = self.future()
        return (
            f'WITH s AS (SELECT {staged} FROM "{self.stage}"), '
            f"z AS (SELECT s.*{''.join(', ' + i for i in self.instants)} FROM s {' '.join(self.joins)}), "
            f"t AS (SELECT z.*, {body} FROM z), "
            f"r AS (SELECT t.*{replace}, {self.details()} AS __details, {future} AS __due FROM t) "
            f"SELECT {self.final()}, __details, {key_text_sql(self.entity)} AS __key, "
            "__deleted, __inside, __inline, __due, __mark FROM r"
        )

    def final(self) -> str:
        """Columns of the raw table that a source row decides."""
        made = {
            "src_table": text_literal(self.plan.table),
            "row_hash": row_hash_sql(self.entity),
            "anomalies": "list_distinct(list_transform(__details, lambda d: d.kind))",
            "key_hash": key_hash_sql(self.entity),
            "task_hash": hash_sql(["source_id", "task_key"]),
        }
        from_row = {column.name for column in self.entity.columns} | {"row_id", "src_digest"}
        return ", ".join(
            f'"{name}"' if name in from_row else f"{made[name]} AS {name}"
            for name, _ in raw_columns(self.entity)
            if name in from_row or name in made
        )

    # -- single columns -----------------------------------------------------------------------------------------------

    def column(self, column: Column) -> str:
        if column.name == "source_id":
            return text_literal(self.source.id)
        if column.derived:
            return self.derived(column)
        given = self.given(column)
        return f"CAST({given} AS {column.type})"

    def given(self, column: Column) -> str:
        name, mapped = column.name, self.plan.mapping.columns.get(column.name)
        default = DEFAULTS.get((self.entity.name, name), "NULL")
        if name == "raw_status" and mapped is None:
            return self.text_before_map("status")
        if name == "raw_type" and mapped is None:
            return self.text_before_map("event_type")
        if name in self.present:
            if mapped is None:  # the source-wide predicate `output_expected`
                return f'"s_{name}" <> 0'
            value = self.value(column, mapped)
            if mapped.default is not None and (self.entity.name, name) not in ENUMERATED and not mapped.map:
                value = f'CASE WHEN "s_{name}" IS NULL THEN {literal(mapped.default, column.type)} ELSE {value} END'
            return self.not_null(column, value, default)
        if mapped is not None and mapped.kind == "const":
            return self.constant(column, mapped)
        if name == "output_expected" and isinstance(self.source.output_expected, bool):
            return "true" if self.source.output_expected else "false"
        if name == "endpoint" and not column.nullable:
            return text_literal(self.source.id)
        if mapped is not None and mapped.default is not None:
            return literal(mapped.default, column.type)
        if (self.entity.name, name) in ENUMERATED and default == "NULL":
            return text_literal("created" if mapped and mapped.derive else ENUMERATED[self.entity.name, name][1])
        return default

    def not_null(self, column: Column, value: str, default: str) -> str:
        if column.name == "endpoint" and not column.nullable:
            return f"coalesce(nullif({value}, ''), '_unassigned')"
        if column.name in EMPTY_IS_NULL | {"endpoint"} and column.name not in self.entity.key:
            return f"nullif({value}, '')"
        return value if default == "NULL" else f"coalesce({value}, {default})"

    def constant(self, column: Column, mapped: ColumnMapping) -> str:
        if mapped.const is None:
            return "NULL"
        text = str(mapped.const)
        return literal((mapped.map or {}).get(text, mapped.const), column.type)

    def text_before_map(self, name: str) -> str:
        mapped = self.plan.mapping.columns.get(name)
        if name in self.present:
            return f'"s_{name}"'
        if mapped is not None and mapped.kind == "const" and mapped.const is not None:
            return text_literal(str(mapped.const))
        return "NULL"

    def value(self, column: Column, mapped: ColumnMapping) -> str:
        """The staged value of ``column`` in its unified type; registers what can be wrong with it."""
        name = column.name
        source = f'"s_{name}"'
        if column.kind == "time":
            return self.time(name, source)
        if mapped.map is not None or (self.entity.name, name) in ENUMERATED:
            return self.enumerated(column, mapped, source)
        if column.kind == "text":
            return source
        other = column.kind in ("bool", "json")
        typed = self.other(column, source) if other else self.number(column, mapped, source)
        if self.transport(name) == "text":
            self.check("bad_value", f'{source} IS NOT NULL AND "{name}" IS NULL', self.detail(name, source))
        return typed

    def enumerated(self, column: Column, mapped: ColumnMapping, source: str) -> str:
        name = column.name
        valid, fallback = ENUMERATED.get((self.entity.name, name), ((), None))
        pairs = {str(k): v for k, v in mapped.map.items()} if mapped.map is not None else {v: v for v in valid}
        if mapped.default is not None:
            fallback = str(mapped.default)
        other = "NULL" if fallback is None else text_literal(fallback)
        whens = " ".join(f"WHEN {text_literal(k)} THEN {text_literal(v)}" for k, v in pairs.items())
        known = ", ".join(text_literal(k) for k in pairs)
        unknown = f" AND {source}::VARCHAR NOT IN ({known})" if pairs else ""
        self.check(
            "unmapped_status",
            f"{source} IS NOT NULL AND {source}::VARCHAR <> ''{unknown}",
            self.detail(name, source),
        )
        return f"CASE {source}::VARCHAR {whens} ELSE {other} END" if pairs else other

    def number(self, column: Column, mapped: ColumnMapping, source: str) -> str:
        name, unit = column.name, mapped.unit
        if column.kind == "float":
            value = f"TRY_CAST({source} AS DOUBLE)"
            factor = {"ratio": "* 100"}.get(unit or "", "")
            if name.endswith(("_s", "_seconds")):
                factor = {"ms": "/ 1000", "us": "/ 1000000", "m": "* 60"}.get(unit or "", "")
            # NaN and infinity are no measurements, and no number compares well with them.
            return f"CASE WHEN isfinite({value}) THEN {value} {factor} END"
        exact = f"TRY_CAST({source} AS DECIMAL(28,9))"
        if column.kind == "decimal":
            return f"TRY_CAST({source} AS DECIMAL(38,6))"
        if column.kind == "ms":
            return f"TRY_CAST({exact} * {_MILLIS.get(unit or 'ms', '1')} AS DECIMAL(20,3))"
        factor_in = _BYTES.get(unit or "", 1)
        if name.endswith("_mb") and unit in _BYTES:
            return f"TRY_CAST({exact} * {factor_in} AS BIGINT) // {_BYTES['mib']}"
        if self.transport(name) == "int" and factor_in == 1:
            return source
        return f"TRY_CAST({exact} * {factor_in} AS BIGINT)"

    def other(self, column: Column, source: str) -> str:
        if column.kind == "bool":
            if self.transport(column.name) == "int":
                return f"{source} <> 0"
            word = f"lower(trim({source}))"
            return (
                f"CASE WHEN {word} IN ('1', 'true', 't', 'yes', 'y', 'on') THEN true "
                f"WHEN {word} IN ('0', 'false', 'f', 'no', 'n', 'off') THEN false END"
            )
        if column.name == "alert_ids":  # one id or a list of them
            listed = f"json_valid({source}) AND json_type({source}) = 'ARRAY'"
            return (
                f"CASE WHEN {source} IS NULL THEN NULL WHEN {listed} THEN {source}::JSON ELSE to_json([{source}]) END"
            )
        return f"CASE WHEN json_valid({source}) THEN {source} END"

    # -- times --------------------------------------------------------------------------------------------------------

    def time(self, name: str, source: str) -> str:
        """A time as TIMESTAMP in UTC; adds its instant ``u_<name>`` to step ``z``."""
        kind, zone = time_kind(self.plan, name)
        wall, invalid = self.wall(name, source, kind)
        instant = wall
        if kind == "naive_local":
            instant = self.local(name, wall, zone or self.source.timezone)
        self.instants.append(f'{instant} AS "u_{name}"')
        u = f'"u_{name}"'
        where = self.detail(name, source) if self.transport(name) == "text" else f"{text_literal(name)}"
        self.check("zero_date", f"coalesce({invalid}, false)", where)
        outside = f"({u} < 0 OR {u} >= {END_OF_TIME})"
        self.check("time_out_of_range", f"coalesce({outside}, false)", f"{text_literal(name + '=')} || {u}::VARCHAR")
        if self.transport(name) == "text":
            self.check("bad_value", f"{source} IS NOT NULL AND {u} IS NULL AND NOT ({invalid})", where)
        return f"CASE WHEN {u} >= 0 AND {u} < {END_OF_TIME} THEN make_timestamp({u}) END"

    def wall(self, name: str, source: str, kind: str) -> tuple[str, str]:
        """(microseconds since 1970 on the value's own clock, condition of a zero date)."""
        if self.transport(name) != "text":
            return f"nullif({source}, {INVALID_TIME})", f"{source} = {INVALID_TIME}"
        if kind in NUMBER_TIMES:
            factor = 1_000_000 // NUMBER_TIMES[kind]
            return f"TRY_CAST(floor(TRY_CAST({source} AS DECIMAL(28,9)) * {factor}) AS BIGINT)", "false"
        text = f"trim({source})"
        offset = f"regexp_extract({text}, '{_OFFSET}', 2)"
        digits = f"regexp_replace({offset}, '[^0-9]', '', 'g')"
        base = f"CASE WHEN {offset} = '' THEN {text} ELSE regexp_extract({text}, '{_OFFSET_BASE}', 1) END"
        minutes = f"(left({digits}, 2)::INT * 60 + coalesce(nullif(substr({digits}, 3, 2), ''), '0')::INT)"
        sign = f"CASE WHEN left({offset}, 1) = '-' THEN -1 ELSE 1 END"
        shift = f"CASE WHEN {offset} IN ('', 'Z', 'z') THEN 0 ELSE {sign} * {minutes} END"
        zero = f"regexp_matches({text}, '{_ZERO}')"
        wall = (
            f"CASE WHEN regexp_matches({base}, '{_WALL}') "
            f"THEN epoch_us(TRY_CAST({base} AS TIMESTAMP)) - ({shift})::BIGINT * 60000000 END"
        )
        return wall, zero

    def local(self, name: str, wall: str, zone: str) -> str:
        """Instant of a wall clock: the earlier one if it occurs twice, shifted by the gap if it never does (E-303)."""
        shifts = zone_shifts(zone)
        if len(shifts) == 1:
            return f"{wall} - {shifts[0][3]}"
        table = f"zone_{len(self.joins)}"
        rows = ", ".join(f"({a}, {b}, {before}, {after})" for a, b, before, after in shifts)
        self.joins.append(
            f"ASOF LEFT JOIN (VALUES {rows}) {table}(wall_from, wall_to, before_us, after_us) "
            f"ON ({wall}) >= {table}.wall_from"
        )
        inside = f"({wall}) < {table}.wall_to"
        self.instants.append(f'coalesce({inside}, false) AS "a_{name}"')
        self.check("ambiguous_time", f'"a_{name}"', text_literal(name))
        return f"({wall}) - CASE WHEN {inside} THEN {table}.before_us ELSE {table}.after_us END"

    def mark(self) -> str:
        return self.time(MARK, f'"s_{MARK}"') if MARK in self.present else "NULL::TIMESTAMP"

    def future(self) -> str:
        """Instants of the row that lie ahead (E-306)."""
        names = [
            c.name for c in self.entity.columns
            if c.kind == "time" and not c.derived and c.name not in PLANNED and c.name in self.present
        ]  # fmt: skip
        if not names:
            return "[]::TIMESTAMP[]"
        return f"CASE WHEN {self.ahead(names)} THEN {self.those_ahead(names)} ELSE []::TIMESTAMP[] END"

    def ahead(self, names: Iterable[str]) -> str:
        return "(" + " OR ".join(f'coalesce(t."{n}" > {timestamp_literal(self.limit)}, false)' for n in names) + ")"

    def those_ahead(self, names: Iterable[str]) -> str:
        listed = ", ".join(f't."{n}"' for n in names)
        return f"list_filter([{listed}], lambda x: x > {timestamp_literal(self.limit)})"

    # -- across columns -----------------------------------------------------------------------------------------------

    def derived(self, column: Column) -> str:
        """Columns the product fills (derived ones that depend on the typed row are in ``adjusted``)."""
        values = {
            "is_deleted": self.flag(DELETED, "false"),
            "status_seen_at": timestamp_literal(self.read_at),
            "origin": "'source'" if self.entity.name == "worker_snapshot" else "'app'",
        }
        return f"CAST({values.get(column.name, 'NULL')} AS {column.type})"

    def adjusted(self) -> dict[str, str]:
        if self.entity.name == "task":
            final = ", ".join(text_literal(s) for s in FINAL_TASK_STATUSES)
            return {"effective_end": f"coalesce(t.ended_at, CASE WHEN t.status IN ({final}) THEN t.created_at END)"}
        if self.entity.name == "task_output":
            register_identity(self.con, self.source.keep_query)
            size = self.source.min_output_bytes
            uri = "CASE WHEN t.uri IS NULL THEN NULL ELSE mp_canonical_uri(t.uri) END"
            identity = f"t.task_key || chr(31) || coalesce(t.node_key, '') || chr(31) || coalesce({uri}, '')"
            return {
                "canonical_uri": uri,
                "natural_key": f"sha256({identity})",
                "valid": valid_output_sql("t", size),
            }
        if self.entity.name == "worker_snapshot":
            columns = ("gpu_utilization", "gpu_memory_used_mb", "gpu_memory_total_mb")
            self.check("gpu_not_collected", self.no_gpu(), "'gpu columns are all 0'")
            return {c: f"CASE WHEN {self.no_gpu()} THEN NULL ELSE t.{c} END" for c in columns}
        if self.entity.name == "job_run" and "result_error" in self.present:
            truthy = "lower(trim(coalesce(t.result_error, ''))) NOT IN ('', 'null', 'false', '0', '[]', '{}')"
            return {"outcome": f"CASE WHEN t.outcome = 'success' AND {truthy} THEN 'failure' ELSE t.outcome END"}
        return {}

    @staticmethod
    def no_gpu() -> str:
        return "coalesce(t.gpu_utilization = 0 AND t.gpu_memory_used_mb = 0 AND t.gpu_memory_total_mb = 0, false)"

    def details(self) -> str:
        names = [
            c.name for c in self.entity.columns
            if c.kind == "time" and not c.derived and c.name not in PLANNED and c.name in self.present
        ]  # fmt: skip
        for name in names:
            self.check("future_time", self.ahead([name]), f'{text_literal(name + "=")} || t."{name}"::VARCHAR')
        for name in self.entity.key:
            self.check("bad_value", f't."{name}" IS NULL', text_literal(f"{name}: key is missing"))
        empty = "[]::STRUCT(kind VARCHAR, detail VARCHAR)[]"
        if not self.checks:
            return empty
        wrong = " OR ".join(f"({condition})" for _, condition, _ in self.checks)
        listed = ", ".join(
            f"CASE WHEN {condition} THEN {{'kind': {text_literal(kind)}, 'detail': {detail}}} END"
            for kind, condition, detail in self.checks
        )
        # The list is only built for the few rows that need it.
        return f"CASE WHEN {wrong} THEN list_filter([{listed}], lambda d: d IS NOT NULL) ELSE {empty} END"

    # -- pieces -------------------------------------------------------------------------------------------------------

    def check(self, kind: str, condition: str, detail: str) -> None:
        if (kind, condition, detail) not in self.checks:
            self.checks.append((kind, condition, detail))

    @staticmethod
    def detail(name: str, source: str) -> str:
        return f"{text_literal(name + '=')} || left({source}::VARCHAR, 100)"

    def transport(self, name: str) -> str:
        field: Field | None = self.plan.field(name)
        return field.transport if field is not None else "int"

    def flag(self, name: str, otherwise: str) -> str:
        return f'coalesce("s_{name}" <> 0, false)' if name in self.present else otherwise

    def without_null_ifs(self, name: str) -> str:
        mapped = self.plan.mapping.columns.get(name)
        quoted = f'"{name}"'
        if mapped is None or not mapped.null_if:
            return quoted
        conditions = []
        for value in mapped.null_if:
            if self.transport(name) == "us":
                conditions.append(f"{quoted} = {wall_micros(str(value))}")
                continue
            conditions.append(f"{quoted}::VARCHAR = {text_literal(str(value))}")
            if not isinstance(value, str):
                conditions.append(f"TRY_CAST({quoted} AS DOUBLE) = {value}")
        return f"CASE WHEN {' OR '.join(conditions)} THEN NULL ELSE {quoted} END"


def wall_micros(text: str) -> int:
    """A ``null_if`` time as the ``us`` transport carries it."""
    try:
        wall = datetime.fromisoformat(text)
    except ValueError:
        return INVALID_TIME
    return (wall.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)


@cache
def zone_shifts(zone: str) -> tuple[tuple[int, int, int, int], ...]:
    """Offset changes of ``zone`` from 1970 to 2100 as (wall from, wall to, offset before, offset after), microseconds.

    Wall clocks in [from, to) occur twice or not at all; for both, the offset before the change gives the instant E-303
    asks for. The first row only carries the offset at the beginning.
    """
    tz = ZoneInfo(zone)

    def offset(instant: int) -> int:
        moment = datetime.fromtimestamp(instant, tz)
        delta = moment.utcoffset()
        return int(delta.total_seconds()) if delta is not None else 0

    start, end, step = -86400 * 2, END_OF_TIME // 1_000_000, 86400 * 7
    current = offset(start)
    rows = [(-(2**62), -(2**62), current * 1_000_000, current * 1_000_000)]
    for low in range(start, end, step):
        at = low
        while (after := offset(low + step)) != offset(at):
            before, left, right = offset(at), at, low + step
            while right - left > 1:
                middle = (left + right) // 2
                left, right = (middle, right) if offset(middle) == before else (left, middle)
            after = offset(right)
            walls = sorted((right + before, right + after))
            rows.append(
                (walls[0] * 1_000_000, walls[1] * 1_000_000, before * 1_000_000, after * 1_000_000)
            )  # fmt: skip
            at = right
    return tuple(rows)


def register_identity(con: duckdb.DuckDBPyConnection, keep_query: Mapping[str, Sequence[str]]) -> None:
    """Give ``con`` the function ``mp_canonical_uri`` (R-202)."""
    from monitoring_pipelines.natural_key import canonical_uri

    known = con.execute("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'mp_canonical_uri'").fetchone()
    if not known or not known[0]:
        con.create_function("mp_canonical_uri", lambda uri: canonical_uri(uri, keep_query), ["VARCHAR"], "VARCHAR")


def text_literal(value: str) -> str:
    """``value`` as a DuckDB text literal."""
    return "'" + value.replace("'", "''") + "'"


def timestamp_literal(value: datetime) -> str:
    """A naive UTC instant as a DuckDB literal."""
    return f"TIMESTAMP '{value.isoformat(sep=' ', timespec='microseconds')}'"


def literal(value: Any, kind: str) -> str:
    """A configured constant as a DuckDB literal of type ``kind``."""
    return "NULL" if value is None else f"CAST({text_literal(str(value))} AS {kind})"
