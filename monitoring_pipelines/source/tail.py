"""One extraction cycle of a source: new, changed and late rows since the last one (E-601 to E-613).

What belongs here: which rows a cycle asks for, and committing rows and marks together. What does not: how a row is
selected, typed and stored (``select``, ``convert``, ``warehouse.ingest``) and comparing both sides (``reconcile``).

All tables are read in one snapshot, without the warehouse lock; then one short transaction writes rows, marks and dirty
keys. The first cycle of a source loads its history through ``reconcile`` and then reads on from before that began.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.config.expr_sql import quote_text
from monitoring_pipelines.entities import OPEN_WORDS, entities
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.source import drift, peek
from monitoring_pipelines.source.convert import (
    Staged,
    convert,
    create_stage,
    derives_from_outputs,
    load_stage,
    typing_of,
)
from monitoring_pipelines.source.digest import STORE_COLUMN
from monitoring_pipelines.source.engine import SourceConnection, clock_offset, connect
from monitoring_pipelines.source.inspect import TableInfo, inspect_tables
from monitoring_pipelines.source.load import LoadGuard
from monitoring_pipelines.source.lookup import KEYS_PER_QUERY
from monitoring_pipelines.source.marks import Mark, load_marks, store_error, store_mark
from monitoring_pipelines.source.older import load_older, open_rows
from monitoring_pipelines.source.select import INSIDE, MARK, SelectPlan, build_select
from monitoring_pipelines.warehouse import families
from monitoring_pipelines.warehouse.connect import FEW_ROWS, WarehouseMissing, transaction
from monitoring_pipelines.warehouse.entity_rules import write_polls
from monitoring_pipelines.warehouse.ingest import BatchResult, apply_batch, mark_deleted
from monitoring_pipelines.warehouse.output_refresh import revalidate_outputs

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings, TableMapping
    from monitoring_pipelines.warehouse.connect import Warehouse

log = logging.getLogger(__name__)

#: Small mutable tables are read whole (E-6xx strategies).
FULL_ROWS = 20_000
RESCAN_ROWS = 50_000
#: Without an index of times the first cycle reads this many newest ids again, to learn which are still missing.
UNPLACED_IDS = 1000
SMALL_ENTITIES = ("worker", "job", "endpoint")
#: Longest pause of a cycle for a busy source; the minute must still be told.
LONGEST_PAUSE_S = 20.0


@dataclass
class TableCycle:
    """One table in one cycle."""

    mapping: TableMapping
    plan: SelectPlan
    info: TableInfo
    strategy: str
    mark: Mark
    open_keys: list[tuple[Any, ...]] = field(default_factory=list)
    #: Digests the store knows of rows that may be asked for, by row id.
    known: dict[int, int] = field(default_factory=dict)
    batches: list[Staged] = field(default_factory=list)
    #: Their rows, in the memory of the connection that typed them.
    rows: list[duckdb.DuckDBPyRelation] = field(default_factory=list)
    rows_read: int = 0
    #: Longest query of the cycle, rows included (C-118).
    slowest_query_s: float = 0.0
    written: BatchResult = field(default_factory=BatchResult)
    deleted: int = 0

    @property
    def ids_rise(self) -> bool:
        """Whether the server gives new rows higher ids; ids of a platform's own may begin anywhere."""
        column = self.info.columns.get((self.mapping.row_id or "").lower())
        return column is not None and column.auto_increment


@dataclass
class CycleResult:
    """What a cycle did. ``as_of`` is the instant it began: everything committed before is in the store."""

    source_id: str
    as_of: datetime
    first_load: bool = False
    seconds: float = 0.0
    paused_s: float = 0.0
    #: The source's clock minus the product's, seconds; None where the source has none (C-512).
    clock_offset_s: float | None = None
    tables: dict[tuple[str, str], TableCycle] = field(default_factory=dict)

    def entity_figures(self, entity: str) -> dict[str, float]:
        """Rows read, inserted, updated and deleted of one entity, over its tables."""
        found = [table for (_, name), table in self.tables.items() if name == entity]
        return {
            "rows_read": sum(t.rows_read for t in found),
            "rows_inserted": sum(t.written.inserted for t in found),
            "rows_updated": sum(t.written.updated for t in found),
            "rows_rejected": sum(t.written.rejected for t in found),
            "rows_deleted": sum(t.deleted for t in found),
        }


def extract_cycle(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    log: logging.Logger = log,
) -> CycleResult:
    """Bring the store to the state of the source now.

    Args:
        settings: Configuration: overlap, batch size, limits.
        source: The source to read.
        warehouse: The store; its lock is held only to read marks and to write.
        clock: Instant of the cycle.
        log: Where it is told.

    Raises:
        SourceUnavailable, SchemaDrift: Nothing was changed but the recorded error (E-613).
    """
    import duckdb

    began = clock.now()
    started = time.monotonic()
    result = CycleResult(source.id, began)
    try:
        stored = _stored(settings, source, warehouse, began)
        marks = stored.marks
        with ExitStack() as kept, ExitStack() as stack:
            if not marks:
                result.first_load = True
                marks = _first_load(settings, source, warehouse, clock, began, log)
            connection = stack.enter_context(connect(source.read_dsn(), settings))
            guard = replace(LoadGuard.of(settings.extract), longest_pause_s=LONGEST_PAUSE_S)
            result.paused_s = guard.wait(connection)
            result.clock_offset_s = clock_offset(connection, clock)
            tables = _tables(source, connection, marks)
            memory = kept.enter_context(duckdb.connect(":memory:", config={"threads": 1}))
            for table in tables:
                name = (table.mapping.table, table.mapping.entity)
                table.open_keys, table.known = stored.open_keys.get(name, []), stored.known.get(name, {})
                own = kept.enter_context(memory.cursor())  # names in it are the table's own
                _read(settings, source, connection, own, table, began)
                result.tables[name] = table
            stack.close()
            few = sum(table.rows_read for table in result.tables.values()) < FEW_ROWS
            with warehouse.writer(f"extract {source.id}", small=few) as con, transaction(con):
                _write(con, settings, source, result, began)
    except ProductError as error:
        _record(warehouse, source.id, began, error)
        raise
    result.seconds = time.monotonic() - started
    log.info(
        "%s: %d rows read, %d new, %d changed in %.2f s", source.id, sum(t.rows_read for t in tables),
        sum(t.written.inserted for t in tables), sum(t.written.updated for t in tables), result.seconds,
    )  # fmt: skip
    return result


# -- what the store knows ---------------------------------------------------------------------------------------------


@dataclass
class _Stored:
    """What the store knows of a source, by (table, entity)."""

    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)
    #: (row id, key) of the rows believed open.
    open_keys: dict[tuple[str, str], list[tuple[Any, ...]]] = field(default_factory=dict)
    #: Digests of rows that are open or changed lately, by row id.
    known: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)


def _stored(settings: Settings, source: SourceSettings, warehouse: Warehouse, began: datetime) -> _Stored:
    stored = _Stored()
    lately = began - 2 * timedelta(seconds=settings.extract.overlap_s)
    try:
        with warehouse.reader(f"marks of {source.id}", small=True) as con:
            stored.marks = load_marks(con, source.id)
            for name in {entity for _, entity in stored.marks if entities()[entity].mutable} & source.tables.keys():
                for table, row_id, digest in peek.known_digests(con, name, source.id, lately):
                    stored.known.setdefault((table, name), {})[row_id] = digest
                if name not in OPEN_WORDS:
                    continue
                key = entities()[name].key[0]
                for table, row_id, value, digest in con.execute(
                    f'SELECT src_table, row_id, "{key}", {STORE_COLUMN} FROM raw."{name}" WHERE source_id = ? '
                    f"AND {open_rows(name)} AND deleted_at IS NULL",
                    [source.id],
                ).fetchall():
                    stored.open_keys.setdefault((table, name), []).append((row_id, value))
                    stored.known.setdefault((table, name), {})[row_id] = digest
    except WarehouseMissing:
        return _Stored()
    return stored


def _record(warehouse: Warehouse, source_id: str, began: datetime, error: ProductError) -> None:
    with warehouse.writer(f"error of {source_id}") as con, transaction(con):
        store_error(con, source_id, began, error.message, error.code)


# -- first load -------------------------------------------------------------------------------------------------------


def _first_load(
    settings: Settings, source: SourceSettings, warehouse: Warehouse, clock: Clock, began: datetime, log: logging.Logger
) -> dict[tuple[str, str], Mark]:
    """Load history day by day, oldest first; the marks are those from before, so the cycle overlaps the load (E-604)."""
    from monitoring_pipelines.source.reconcile import prove_empty_days, reconcile_day, reconcile_undated

    marks: dict[tuple[str, str], Mark] = {}
    overlap = timedelta(seconds=settings.extract.overlap_s)
    limit = _first_possible_day(settings, began)
    with connect(source.read_dsn(), settings) as connection:
        tables = _tables(source, connection, {})
        for table in tables:
            oldest = datetime.combine(limit, datetime.min.time())
            marks[table.mapping.table, table.mapping.entity] = _baseline(connection, table, began - overlap, oldest)
        first = _first_day(settings, connection, tables, began)
    log.info("%s: first load from %s", source.id, first)
    days = (began.date() - first).days + 1
    read: Counter[tuple[str, str]] = Counter()
    for number in range(days + 1):
        day = first + timedelta(days=number)
        loaded = (
            reconcile_day(settings, source, warehouse, clock, day, log=log, and_later=number == days - 1)
            if number < days
            else reconcile_undated(settings, source, warehouse, clock, log=log)
        )
        for one in loaded:
            read[one.src_table, one.entity] += one.rows_read
    # Tables that every cycle reads whole need nothing more.
    older = [(t.plan, t.info) for t in tables if _conditions(t, overlap) != [None]]
    read.update(
        load_older(settings, source, warehouse, clock, older, datetime.combine(limit, datetime.min.time()), log)
    )
    if limit < first:
        prove_empty_days(settings, source, warehouse, clock, limit, first - timedelta(days=1), began, log)
    return {name: replace(mark, rows_total=mark.rows_total + read[name]) for name, mark in marks.items()}


def _baseline(connection: SourceConnection, table: TableCycle, since: datetime, oldest: datetime) -> Mark:
    """A mark whose next reading covers the overlap; ids below it are covered by the load itself.

    Without an index of times the newest ids stand for the overlap, as far as their rows are not older than ``oldest``.
    """
    plan, mark = table.plan, table.mark
    searchable = {name: field for name, field in plan.times.items() if table.info.indexed(field.column)}
    times = dict.fromkeys(plan.times, since)
    if plan.row_id_sql is None:
        return replace(mark, times=times)
    top = connection.query(f"select max({plan.row_id_sql}) from {plan.from_sql}")[0][0]
    tests = []
    name = entities()[plan.entity].time_column or ""
    if name in searchable:
        tests = [f"{searchable[name].sql} >= {searchable[name].bound(since)}"]
    elif top is not None:
        tests = [f"{plan.row_id_sql} > {int(top) - UNPLACED_IDS}"]
        tests += [f"{plan.times[name].sql} >= {plan.times[name].bound(oldest)}"] if name in plan.times else []
    if tests:
        sql = f"select min({plan.row_id_sql}) from {plan.from_sql} where {' and '.join(tests)}"
        low = connection.query(sql)[0][0]
        top = int(low) - 1 if low is not None else top
    return replace(mark, max_id=int(top) if top is not None else 0, times=times)


def _first_possible_day(settings: Settings, began: datetime) -> date:
    return began.date() - timedelta(days=settings.stats.backfill_days)


def _first_day(settings: Settings, connection: SourceConnection, tables: list[TableCycle], began: datetime) -> date:
    """The first UTC day within ``backfill_days`` that has rows in any table."""
    limit = _first_possible_day(settings, began)
    first = began.date()
    for table in tables:
        column = table.plan.times.get(entities()[table.plan.entity].time_column or "")
        if column is None:
            continue
        if not table.info.indexed(column.column) and (table.info.row_estimate or 0) > FULL_ROWS:
            return limit
        day = limit
        while day < first:
            start = datetime(day.year, day.month, day.day)
            sql = (
                f"select 1 from {table.plan.from_sql} where {column.sql} >= {column.bound(start)} "
                f"and {column.sql} < {column.bound(start + timedelta(days=1))} limit 1"
            )
            if connection.query(sql):
                first = day
                break
            day += timedelta(days=1)
    return first


# -- tables and strategies --------------------------------------------------------------------------------------------


def _tables(
    source: SourceSettings, connection: SourceConnection, marks: dict[tuple[str, str], Mark]
) -> list[TableCycle]:
    mappings = [m for found in source.tables.values() for m in found if m.inline is None]
    infos = inspect_tables(connection, [m.table for m in mappings])
    tables = []
    for mapping in mappings:
        mark = marks.get((mapping.table, mapping.entity))
        info = infos.get(mapping.table)
        if info is None:
            drift.missing_table(source, mapping, mark)
            continue
        plan = build_select(mapping, source, connection.dialect, info.columns)
        columns = drift.check(source, plan, info, mark)
        strategy = _strategy(mapping, plan, info)
        mark = replace(mark or Mark(mapping.table, mapping.entity), strategy=strategy, columns=columns)
        tables.append(TableCycle(mapping, plan, info, strategy, mark))
    return tables


def _strategy(mapping: TableMapping, plan: SelectPlan, info: TableInfo) -> str:
    """The strategy of the mapping; ``auto`` follows from ids, indexes and size."""
    if mapping.strategy != "auto":
        return mapping.strategy
    entity = entities()[mapping.entity]
    if entity.name in SMALL_ENTITIES and (info.row_estimate or 0) <= FULL_ROWS:
        return "full"
    updated = plan.times.get(MARK)
    if entity.mutable and updated is not None and info.indexed(updated.column):
        return "updated"
    if plan.row_id_sql is not None:
        return "append"
    return "rescan"


def _conditions(table: TableCycle, overlap: timedelta) -> list[str | None]:
    """Conditions whose rows are read this cycle; None reads everything."""
    plan, mark = table.plan, table.mark
    entity = entities()[plan.entity]
    small = (table.info.row_estimate or 0) <= RESCAN_ROWS
    if table.strategy == "full" or (table.strategy == "rescan" and small):
        return [None]
    wanted: list[str | None] = []
    if plan.row_id_sql is not None:
        wanted.append(mark.id_conditions(plan.row_id_sql))
    names = [MARK] if table.strategy == "updated" else []
    if table.strategy == "rescan" or (MARK not in names and not table.ids_rise):
        names.append(entity.time_column or "")
    if entity.mutable:
        names += [name for name in ("created_at", "started_at", "ended_at") if name != entity.time_column]
        # New rows come by id; rows nobody believes open, and those whose end has no index, change unseen otherwise.
        ended = plan.times.get("ended_at")
        if entity.open_column is None or ended is None or not table.info.indexed(ended.column):
            names.append(entity.time_column or "")
    for name in dict.fromkeys(names):
        column = plan.times.get(name)
        # A rescan table has nothing better: its server looks at every row, but only new ones are handed over (E-608).
        searched = name == MARK or (table.strategy == "rescan" and name == entity.time_column)
        if column is None or name not in mark.times or not (searched or table.info.indexed(column.column)):
            continue
        # An hour more where the wall clock may repeat; `bound` says why.
        slack = timedelta(hours=1) if column.kind == "naive_local" else timedelta(0)
        wanted.append(f"{column.sql} >= {column.bound(mark.times[name] - overlap - slack)}")
    return wanted or [None]


def _open_conditions(table: TableCycle, seen: set[str]) -> Iterator[str]:
    """Look-ups of open rows that the other conditions did not bring (E-606)."""
    plan = table.plan
    keys = [key for key in table.open_keys if key[1] not in seen]
    for at in range(0, len(keys), KEYS_PER_QUERY):
        part = keys[at : at + KEYS_PER_QUERY]
        if plan.row_id_sql is not None and all(key[0] is not None for key in part):
            yield from peek.by_ids(plan, (key[0] for key in part))
        elif len(plan.key_sql) == 1:
            yield f"{plan.key_sql[0]} in ({', '.join(quote_text(str(key[1]), plan.dialect) for key in part)})"


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(
    settings: Settings, source: SourceSettings, connection: SourceConnection, memory: duckdb.DuckDBPyConnection,
    table: TableCycle, began: datetime,
) -> None:  # fmt: skip
    """Read and type the rows of one table in ``memory``; they stay there until the writer lock is taken."""
    overlap = timedelta(seconds=settings.extract.overlap_s)
    horizon = began + timedelta(seconds=settings.extract.future_tolerance_s)
    unique = bool(table.plan.key_sql) and table.info.unique_key([c.strip('`"') for c in table.plan.key_sql])
    ids: list[int] = []
    seen: set[str] = set()
    create_stage(memory, table.plan, "stage", flagged=True)

    def flush() -> None:
        staged = convert(
            memory, table.plan, source, "stage", began, settings.extract.future_tolerance_s, unique_key=unique
        )
        if staged.rows:
            table.batches.append(staged)
            table.mark = table.mark.with_times(_greatest(memory, table.plan, staged.relation, horizon))
            key = entities()[table.plan.entity].key[0]
            seen.update(row[0] for row in memory.execute(f'SELECT "{key}" FROM "{staged.relation}"').fetchall())
            ids.extend(_ids(memory, staged.relation))
            kept = f"kept_{len(table.rows)}"
            memory.execute(f'ALTER TABLE "{staged.relation}" RENAME TO "{kept}"')
            table.rows.append(memory.sql(f'SELECT * FROM "{kept}"'))
        memory.execute('DELETE FROM "stage"')

    def take(condition: str | None) -> None:
        columns = table.plan.stage_columns(flagged=True)
        sql = table.plan.render([condition] if condition else [], flagged=True)
        asked = time.monotonic()
        for rows in connection.stream(sql, settings.extract.batch_rows):
            table.rows_read += len(rows)
            load_stage(memory, "stage", columns, rows)
        table.slowest_query_s = max(table.slowest_query_s, time.monotonic() - asked)

    typed = typing_of(memory, table.plan, source, "stage") if unique and _may_peek(table) else ""
    conditions = _conditions(table, overlap)
    if typed and table.mark.typed == typed:
        take(conditions[0])
        for differing in _changed(settings, connection, table, conditions[1:], set(_ids(memory, "stage"))):
            take(differing)
    else:
        for condition in conditions:
            take(condition)
    flush()
    table.mark = replace(table.mark, typed=typed)
    if table.open_keys and table.strategy != "full":
        for condition in _open_conditions(table, seen):
            take(condition)
        flush()
    if table.plan.row_id_sql is not None:
        table.mark = table.mark.advanced(ids, began, overlap)
    table.mark = replace(table.mark, rows_total=table.mark.rows_total + table.rows_read)


def _may_peek(table: TableCycle) -> bool:
    """Whether digests can tell which rows are news: rows change, and ids name them."""
    changes = entities()[table.plan.entity].mutable and table.strategy in ("append", "updated")
    return changes and table.plan.row_id_sql is not None and table.mark.max_id is not None


def _changed(
    settings: Settings, connection: SourceConnection, table: TableCycle, conditions: list[str | None], read: set[int]
) -> Iterator[str]:
    """Conditions of the rows that differ from the stored ones: those of the overlap, and open ones (E-606).

    Open rows that were looked at leave ``open_keys``. ``read`` are the ids of rows this cycle has read already.
    """
    found: set[int] = set()
    changed: set[int] = set()

    def ask(condition: str) -> None:
        asked = time.monotonic()
        there, other = peek.differing(connection, table.plan, condition, table.known, settings.extract.batch_rows)
        table.slowest_query_s = max(table.slowest_query_s, time.monotonic() - asked)
        found.update(there)
        changed.update(other)

    for condition in conditions:
        if condition is not None:
            ask(condition)
    for condition in peek.by_ids(table.plan, {key[0] for key in table.open_keys if key[0] is not None} - found - read):
        ask(condition)
    table.open_keys = [key for key in table.open_keys if key[0] is None]
    yield from peek.by_ids(table.plan, changed - read)


def _ids(memory: duckdb.DuckDBPyConnection, relation: str) -> list[int]:
    return [row[0] for row in memory.execute(f'SELECT row_id FROM "{relation}" WHERE row_id IS NOT NULL').fetchall()]


def _greatest(
    memory: duckdb.DuckDBPyConnection, plan: SelectPlan, relation: str, horizon: datetime
) -> dict[str, datetime | None]:
    """Greatest instants that are not in the future, per searchable column (E-605, E-306)."""
    names = list(plan.times)
    if not names:
        return {}
    columns = {name: "__mark" if name == MARK else name for name in names}
    parts = ", ".join(f'max("{c}") FILTER ("{c}" <= $horizon)' for c in columns.values())
    row = memory.execute(f'SELECT {parts} FROM "{relation}"', {"horizon": horizon}).fetchone()
    return dict(zip(names, row or (), strict=False))


# -- writing ----------------------------------------------------------------------------------------------------------


def _write(
    con: duckdb.DuckDBPyConnection, settings: Settings, source: SourceSettings, result: CycleResult, began: datetime
) -> None:
    """Rows, marks, settings, polls and the instant of the cycle, in the caller's transaction (E-602)."""
    _write_settings(con, settings, source, result)
    state = con.execute("SELECT raw_from FROM meta.source_state WHERE source_id = ?", [source.id]).fetchone()
    for table in result.tables.values():
        is_whole = _conditions(table, timedelta(0)) == [None]
        if is_whole:
            con.execute("CREATE OR REPLACE TEMP TABLE read_key (key_hash UBIGINT)")
        for staged, rows in zip(table.batches, table.rows, strict=True):
            # DuckDB hands the rows over itself; importing pyarrow for it would cost 0.2 CPU-s.
            con.register("typed_rows", rows.__arrow_c_stream__())
            con.execute(f'CREATE OR REPLACE TEMP TABLE "{staged.relation}" AS SELECT * FROM typed_rows')
            con.unregister("typed_rows")
            if is_whole and staged is table.batches[0]:
                con.execute(
                    f'INSERT INTO read_key SELECT key_hash FROM "{staged.relation}" WHERE coalesce("{INSIDE}", true)'
                )
            again = state[0] if state and table.strategy in ("full", "rescan") else None
            table.written.add(apply_batch(con, staged, began, again))
        if is_whole:
            table.deleted = _delete_missing(con, source.id, table, began)
        store_mark(con, source.id, table.mark, began)
        table.rows.clear()
    if any(entity == "worker" for _, entity in result.tables):
        write_polls(con, source.id, began)
    con.execute("INSERT OR IGNORE INTO meta.source_state (source_id) VALUES (?)", [source.id])
    con.execute(
        "UPDATE meta.source_state SET as_of = greatest(coalesce(as_of, $at::TIMESTAMP), $at::TIMESTAMP), "
        "last_error = NULL, last_error_code = NULL, last_error_at = NULL, updated_at = $at::TIMESTAMP, "
        "clock_offset_s = $offset, clock_at = $at::TIMESTAMP WHERE source_id = $source",
        {"at": began, "source": source.id, "offset": result.clock_offset_s},
    )


def _delete_missing(con: duckdb.DuckDBPyConnection, source_id: str, table: TableCycle, began: datetime) -> int:
    """Tables read whole show deletions in the same cycle (E-608, E-610); ``read_key`` holds what was read."""
    entity = table.mapping.entity
    gone = con.execute(
        f'SELECT key_hash FROM raw."{entity}" WHERE source_id = ? AND src_table = ? '
        "AND coalesce(deleted_reason, 'soft') = 'soft' AND key_hash NOT IN (SELECT key_hash FROM read_key)",
        [source_id, table.mapping.table],
    ).fetchall()
    return mark_deleted(con, entity, source_id, table.mapping.table, [row[0] for row in gone], "hard", began)


def _write_settings(
    con: duckdb.DuckDBPyConnection, settings: Settings, source: SourceSettings, result: CycleResult
) -> None:
    """What the SQL models need to know of a source: limits, and which inputs are mapped (E-510)."""
    mapped: dict[str, set[str]] = {}
    for table in result.tables.values():
        names = {name for name in table.mapping.columns if name not in table.plan.absent}
        mapped.setdefault(table.mapping.entity, set()).update(names)
    task, worker = mapped.get("task", set()), mapped.get("worker", set())
    inline = any(m.inline is not None for m in source.tables.get("task_output", ()))
    stats = settings.stats
    values: dict[str, Any] = {
        "source_id": source.id,
        "settle_s": stats.settle_s,
        "snapshot_interval_s": stats.snapshot_interval_s,
        "snapshot_tolerance_s": stats.snapshot_tolerance_s,
        "clock_skew_max_s": stats.clock_skew_max_s,
        "max_duration_h": stats.max_duration_h,
        "timeout_mode": source.timeouts.mode,
        "timeout_limit_s": source.timeouts.limit_s,
        "future_tolerance_s": settings.extract.future_tolerance_s,
        "has_task": "task" in mapped,
        "has_task_times": {"created_at", "started_at", "ended_at", "status"} <= task,
        "has_task_event": "task_event" in mapped,
        "has_worker": bool(worker & {"ready_at", "terminated_at", "last_heartbeat_at"}),
        "has_worker_snapshot": "worker_snapshot" in mapped,
        "has_worker_event": "worker_event" in mapped,
        "has_cold_start": "cold_start_ms" in worker,
        "has_endpoint": "endpoint" in mapped,
        "has_output": "task_output" in mapped or inline,
        "has_output_created": "created_at" in mapped.get("task_output", set()),
        # When an output came to be: its creation, or the end of the task whose row holds it (E-103).
        "has_output_time": inline or "created_at" in mapped.get("task_output", set()),
        "output_settle_s": settings.checks.settle_s,
        "output_delay_s": settings.checks.delay_s,
        "min_output_bytes": source.min_output_bytes,
        "status_derived": derives_from_outputs(source),
    }
    families.activate(con, source.id, [*mapped, *(["task_output"] if inline else [])])
    revalidate_outputs(con, source.id, source.min_output_bytes)
    con.execute("DELETE FROM meta.source_setting WHERE source_id = ?", [source.id])
    columns = ", ".join(values)
    con.execute(
        f"INSERT INTO meta.source_setting ({columns}) VALUES ({', '.join('?' * len(values))})", list(values.values())
    )
