"""Proving the store equal to the source, and making it so (E-609, E-610).

What belongs here: comparing ranges by count and digest, reading differing ones again, finding deletions, the line
"verified equal at". What does not: how rows are converted and stored (``convert``, ``warehouse.ingest``: the tail uses
the same path) and ranges as such (``ranges``).

An empty store is only a range that differs: first load, repair of history and proof are one operation. Rows are read
without the warehouse lock; each slice is written in one short transaction, so a crash repeats a slice and never skips
one, and a minute tick gets its turn between slices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import SchemaDrift
from monitoring_pipelines.progress import Listener, Progress
from monitoring_pipelines.readable import sentence
from monitoring_pipelines.source.bulk import QueryTooSlow
from monitoring_pipelines.source.convert import END_OF_TIME, EPOCH, text_literal
from monitoring_pipelines.source.digest import DIGEST_ALIAS
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.inspect import inspect_tables
from monitoring_pipelines.source.load import LoadGuard
from monitoring_pipelines.source.ranges import Range, Scope
from monitoring_pipelines.source.repair_range import RangeOutcome, RangeRepair
from monitoring_pipelines.source.select import build_select
from monitoring_pipelines.warehouse.connect import WarehouseMissing, transaction

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings, TableMapping
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.warehouse.connect import Warehouse

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
_MICRO = timedelta(microseconds=1)
#: A differing range with more rows than this is cut again before its rows are read, so that one changed row costs a
#: small read. An empty store has nothing to spare: there, ranges of one batch are read.
DRILL_ROWS = 4_000
FAN_OUT = 16
#: A look at the store that is older than this is taken again, seconds: rows written since would look like differences.
LOOK_AGE_S = 5.0
#: Row ids of one range where ids are the only order; few queries, each far below the statement limit.
ID_STEP = 200_000
#: At most so many ranges: ids made of clocks and machine numbers lie far apart. A range that differs is cut further.
MOST_ID_RANGES = 400
#: Rows, digest sum and rows with a digest of one range in the store.
Counts = tuple[int, int, int]
NOTHING: Counts = (0, 0, 0)


@dataclass
class ReconcileResult:
    """What one table and day (None: rows without a day) came to; ``equal`` as of the instants the rows were read."""

    source_id: str
    src_table: str
    entity: str
    day: date | None
    verified_at: datetime
    equal: bool = True
    source_rows: int = 0
    store_rows: int = 0
    ranges: int = 0
    ranges_reread: int = 0
    rows_read: int = 0
    rows_reread: int = 0
    rows_deleted: int = 0
    rows_rejected: int = 0
    detail: str | None = None

    def add(self, outcome: RangeOutcome, wanted: Range) -> None:
        """Count one repaired range."""
        self.ranges_reread += 1
        self.source_rows += outcome.source_rows
        self.rows_read += outcome.source_rows
        self.rows_reread += outcome.rows_written
        self.rows_deleted += outcome.rows_deleted
        self.rows_rejected += outcome.rows_rejected
        if outcome.rows_rejected and self.equal:
            self.detail = sentence("{n} rows have no key: not stored", n=self.rows_rejected)
        if not outcome.equal:
            self.equal = False
            self.detail = f"{wanted}: {outcome.detail}"

    def __str__(self) -> str:
        what = f"{self.source_id}.{self.src_table} ({self.entity}) {self.day or 'undated'}"
        if self.equal:
            return f"{what}: verified equal at {self.verified_at:%Y-%m-%d %H:%M:%S} UTC, {self.source_rows:,} rows"
        return f"{what}: DIFFERS, {self.source_rows:,} rows at the source, {self.store_rows:,} stored; {self.detail}"


@dataclass(frozen=True)
class _Sides:
    """Both sides of one range. ``source_sum`` None: only counted, because the store has nothing there."""

    wanted: Range
    source_rows: int | None
    source_sum: int | None
    store_rows: int
    store_sum: int
    digested: int

    @property
    def equal(self) -> bool:
        if not self.store_rows and self.source_rows == 0:
            return True
        return (
            (self.source_rows, self.source_sum) == (self.store_rows, self.store_sum)
            and self.digested == self.store_rows
        )  # fmt: skip

    def join(self, after: _Sides) -> _Sides | None:
        """Both as one range, if both differ and touch."""
        wanted = self.wanted.join(after.wanted)
        if wanted is None or self.equal or after.equal or self.source_rows is None or after.source_rows is None:
            return None
        # Not compared as a whole: a digest nobody has keeps it different.
        return _Sides(wanted, self.source_rows + after.source_rows, -1, self.store_rows + after.store_rows, 0, 0)


def _joined(sides: list[_Sides], most: Callable[[_Sides], int]) -> Iterator[_Sides]:
    """Neighbouring ranges that differ become one as long as it is not too big: many small reads cost more than one."""
    held: _Sides | None = None
    for side in sides:
        both = None if held is None else held.join(side)
        if both is not None and both.source_rows is not None and max(both.source_rows, both.store_rows) <= most(both):
            held = both
            continue
        if held is not None:
            yield held
        held = side
    if held is not None:
        yield held


def reconcile_day(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    day: date,
    entity: str | None = None,
    log: logging.Logger = log,
    listen: Listener | None = None,
    and_later: bool = False,
) -> list[ReconcileResult]:
    """Make every dated table of ``source`` equal to the source for the UTC ``day``, and store the proof.

    Args:
        settings: Configuration: batch size, time limits, load limits.
        source: The source to compare.
        warehouse: The store; its lock is taken for short writes only.
        clock: Time of the proof.
        day: UTC day, by the entity's time column.
        entity: Only this entity.
        log: Where progress is told (rows, rows/s, time left).
        listen: Called with the progress after every range, e.g. to draw it.
        and_later: Also read rows dated after the day, of tables in which no index finds them (E-306).

    Returns:
        One result per mapped table that has times the source can search; see ``reconcile_undated`` for the others.

    Raises:
        SourceUnavailable, SchemaDrift: Reading failed; slices already written stay, a repetition completes the rest.
    """
    tables = [t for t in _tables(settings, source, warehouse, clock, entity, log) if t.scope.time is not None]
    start = datetime(day.year, day.month, day.day)
    ids = _stored_ids([t for t in tables if t.day_needs_ids])
    ranges = [t.day_ranges(start, ids.get(t.mapping.table, ()), and_later) for t in tables]
    return _reconcile(tables, day, ranges, listen)


def reconcile_undated(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    entity: str | None = None,
    log: logging.Logger = log,
    listen: Listener | None = None,
) -> list[ReconcileResult]:
    """The same for what no day covers: whole tables without usable time, and rows whose time is missing.

    Arguments, results and errors are those of ``reconcile_day``.
    """
    tables = _tables(settings, source, warehouse, clock, entity, log)
    ids = _stored_ids(tables)
    return _reconcile(tables, None, [t.undated_ranges(ids.get(t.mapping.table, ())) for t in tables], listen)


def reconcile_whole(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    src_tables: set[str],
    since: datetime,
    log: logging.Logger = log,
    listen: Listener | None = None,
) -> list[ReconcileResult]:
    """The same for tables without row id and ``updated_at``, of all times in one range (E-608).

    Their days cannot be searched one by one without looking at every row each time. Only ``src_tables`` are compared, and
    of them no row before ``since`` (naive UTC): never loaded, or removed by retention. Other arguments, results and
    errors are those of ``reconcile_day``.
    """
    tables = [t for t in _tables(settings, source, warehouse, clock, None, log) if t.mapping.table in src_tables]
    ranges = [[Range(since, EPOCH + END_OF_TIME * _MICRO) if t.scope.time else Range()] for t in tables]
    return _reconcile(tables, None, ranges, listen)


def prove_empty_days(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    first: date,
    last: date,
    seen_at: datetime,
    log: logging.Logger = log,
) -> int:
    """Store the proof of the days ``first`` to ``last`` (inclusive), where the source had no row at ``seen_at``.

    Tables and days of which the store has rows get none, and are compared in their turn.

    Returns:
        Number of proofs.
    """
    found = _tables(settings, source, warehouse, clock, None, log)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    tables = [t for t in found if t.scope.time is not None for _ in days]
    starts = [datetime(day.year, day.month, day.day) for day in days] * (len(tables) // max(len(days), 1))
    ranges = [[Range(start, start + 24 * HOUR)] for start in starts]
    if not tables:
        return 0
    stored = _stored([(t.scope, r) for t, r in zip(tables, ranges, strict=True)], tables[0].shared)
    empty = [i for i, counts in enumerate(stored) if counts == [NOTHING]]
    if not empty:
        return 0
    results = [replace(tables[i].result(starts[i].date()), verified_at=seen_at) for i in empty]
    _store_proofs([tables[i] for i in empty], results, [ranges[i] for i in empty])
    return len(results)


def verify_source(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    first: date,
    last: date,
    log: logging.Logger = log,
    listen: Listener | None = None,
) -> list[ReconcileResult]:
    """Compare without repairing: the days ``first`` to ``last`` (inclusive) and the undated rows of every table.

    Nothing is written, not even the proof. A difference is looked at twice, so a row on its way is none.
    """
    results = []
    tables = _tables(settings, source, warehouse, clock, None, log)
    stored = _stored_ids(tables)
    for table in tables:
        ids = stored.get(table.mapping.table, ())
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)] if table.scope.time else []
        for day in days:
            results.append(table.verify(day, table.day_ranges(datetime(day.year, day.month, day.day), ids), listen))
        results.append(table.verify(None, table.undated_ranges(ids), listen))
    return results


def _tables(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    entity: str | None,
    log: logging.Logger,
) -> list[_Table]:
    """Every mapped table that exists; inline outputs come with their tasks (E-103)."""
    wanted = [
        mapping
        for name, mappings in source.tables.items()
        if entity is None or name == entity
        for mapping in mappings
        if mapping.inline is None
    ]
    shared = _Shared(settings, source, warehouse, clock, LoadGuard.of(settings.extract), log)
    with shared.connection() as connection:
        found = inspect_tables(connection, [mapping.table for mapping in wanted])
        dialect = connection.dialect
    tables = []
    for mapping in wanted:
        info = found.get(mapping.table)
        if info is None:
            if not mapping.optional:
                raise SchemaDrift(
                    f"{source.id}: table {mapping.table} does not exist", "restore it or change the mapping"
                )
            continue
        plan = build_select(mapping, source, dialect, info.columns)
        key = [m.column for m in (mapping.columns.get(n) for n in _key_of(mapping)) if m is not None and m.column]
        unique = len(key) == len(_key_of(mapping)) and info.unique_key(key)
        tables.append(_Table(shared, mapping, Scope.of(plan, source.id, info), unique))
    return tables


def _reconcile(
    tables: list[_Table], day: date | None, ranges: list[list[Range]], listen: Listener | None
) -> list[ReconcileResult]:
    """Compare all tables, repair what differs, store the proofs.

    Opening the warehouse costs more than looking at a small table: one look serves all tables as long as it is fresh,
    and all proofs are stored together, those of the tables before an error too.
    """
    results: list[ReconcileResult] = []
    looks: list[list[Counts]] = []
    looked = 0.0
    try:
        for at, table in enumerate(tables):
            if not looks or time.monotonic() - looked > LOOK_AGE_S:
                looked = time.monotonic()
                looks = _stored([(t.scope, r) for t, r in zip(tables[at:], ranges[at:], strict=True)], table.shared)
            results.append(table.reconcile(day, ranges[at], looks.pop(0), listen))
    finally:
        if results:
            _store_proofs(tables, results, ranges)
    for result in results:
        tables[0].shared.log.info("%s", result)
    return results


def _store_proofs(tables: list[_Table], results: list[ReconcileResult], ranges: list[list[Range]]) -> None:
    columns = (
        "source_id", "src_table", "entity", "day", "verified_at", "equal", "source_rows", "store_rows", "ranges",
        "ranges_reread", "rows_reread", "rows_deleted", "detail",
    )  # fmt: skip
    with tables[0].shared.warehouse.writer("reconcile: proof") as con, transaction(con):
        for table, result, covered in zip(tables, results, ranges, strict=False):
            found = con.execute(_count_sql(table.scope, 0, _span(covered))).fetchone()
            result.store_rows = found[1] if found else 0
            con.execute(
                "DELETE FROM meta.reconciliation WHERE source_id = ? AND src_table = ? AND entity = ? "
                'AND "day" IS NOT DISTINCT FROM ?',
                [result.source_id, result.src_table, result.entity, result.day],
            )
            con.execute(
                f"INSERT INTO meta.reconciliation ({', '.join(f'{chr(34)}{c}{chr(34)}' for c in columns)}) "
                f"VALUES ({', '.join('?' * len(columns))})",
                [getattr(result, c) for c in columns],
            )


def _span(ranges: list[Range]) -> Range:
    """The one range that ``ranges`` were cut from, without its row ids."""
    return Range(ranges[0].start, ranges[-1].end, undated=ranges[0].undated)


# -- looking at the store ---------------------------------------------------------------------------------------------


def _stored(wanted: list[tuple[Scope, list[Range]]], shared: _Shared) -> list[list[Counts]]:
    """What the store has in the ranges of each table: rows, digest sum, rows with a digest."""
    parts = [(scope, part) for scope, ranges in wanted for part in ranges]
    sql = " UNION ALL ".join(_count_sql(scope, i, part) for i, (scope, part) in enumerate(parts))
    rows = _look(shared, f"{sql} ORDER BY 1") if parts else []
    counts = iter([(r[1], r[2], r[3]) for r in rows] or [NOTHING] * len(parts))
    return [[next(counts) for _ in ranges] for _, ranges in wanted]


def _count_sql(scope: Scope, number: int, wanted: Range) -> str:
    return (
        f"SELECT {number}, count(*), coalesce(sum(src_digest), 0)::HUGEINT, count(src_digest) FROM {scope.store_table} "
        f"WHERE {scope.store_condition(wanted)}"
    )


def _stored_ids(tables: list[_Table]) -> dict[str, tuple[int | None, int | None]]:
    """Least and greatest row id the store has of each table."""
    if not tables:
        return {}
    queries = [
        f"SELECT {text_literal(t.mapping.table)}, min(row_id), max(row_id) FROM {t.scope.store_table} "
        f"WHERE {t.scope.store_condition(Range())}"
        for t in tables
    ]
    rows = _look(tables[0].shared, " UNION ALL ".join(queries))
    bounds: dict[str, tuple[int | None, int | None]] = {}
    for name, low, high in rows:
        before = [x for x in bounds.get(name, ()) if x is not None]
        found = [x for x in (low, high) if x is not None] + before
        bounds[name] = (min(found, default=None), max(found, default=None))
    return bounds


def _look(shared: _Shared, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a short read; none when nothing was ever stored."""
    try:
        with shared.warehouse.reader("reconcile: compare") as con:
            return con.execute(sql).fetchall()
    except WarehouseMissing:
        return []


def _key_of(mapping: TableMapping) -> tuple[str, ...]:
    from monitoring_pipelines.entities import entities

    return entities()[mapping.entity].key


@dataclass
class _Shared:
    """What all tables of one call use."""

    settings: Settings
    source: SourceSettings
    warehouse: Warehouse
    clock: Clock
    guard: LoadGuard
    log: logging.Logger

    @contextmanager
    def connection(self) -> Iterator[SourceConnection]:
        """A connection that sees what is committed by now; a range is one statement, so no snapshot is held open."""
        with connect(self.source.read_dsn(), self.settings, snapshot=False) as connection:
            yield connection


@dataclass
class _Table:
    """One mapped table under comparison."""

    shared: _Shared
    mapping: TableMapping
    scope: Scope
    unique_key: bool
    progress: Progress = field(default_factory=lambda: Progress(""))

    # -- which ranges -------------------------------------------------------------------------------------------------

    @property
    def day_needs_ids(self) -> bool:
        """Whether the rows of a day are searched in row ids, because no index finds them."""
        return not self.scope.indexed and self.scope.plan.dialect != "sqlite"

    def day_ranges(
        self, start: datetime, stored_ids: tuple[int | None, ...] = (), and_later: bool = False
    ) -> list[Range]:
        """The day in hours where an index finds them; else in row ids, so that each statement stays short."""
        day = Range(start, start + 24 * HOUR)
        later = Range(day.end, EPOCH + END_OF_TIME * _MICRO)
        if self.day_needs_ids:
            return self._by_id(replace(day, end=later.end) if and_later else day, stored_ids)
        return [*day.parts(24), later] if and_later and not self.scope.indexed else day.parts(24)

    def undated_ranges(self, stored_ids: tuple[int | None, ...] = ()) -> list[Range]:
        """Everything that ``day_ranges`` of no day covers."""
        return self._by_id(Range(undated=True) if self.scope.time is not None else Range(), stored_ids)

    def _by_id(self, base: Range, stored_ids: tuple[int | None, ...]) -> list[Range]:
        column = self.scope.plan.row_id_sql
        if column is None:
            return [base]
        with self.shared.connection() as connection:
            low, high = connection.query(f"select min({column}), max({column}) from {self.scope.plan.from_sql}")[0]
        bounds = [int(x) for x in (low, high, *stored_ids) if x is not None]
        if not bounds:
            return [base]
        low, high = min(bounds), max(bounds) + 1
        whole = Range(base.start, base.end, low, high, base.undated)
        return whole.parts(min(-(-(high - low) // ID_STEP), MOST_ID_RANGES))

    # -- comparing ----------------------------------------------------------------------------------------------------

    def reconcile(
        self, day: date | None, ranges: list[Range], stored: list[Counts], listen: Listener | None
    ) -> ReconcileResult:
        """Compare ``ranges``, of which the store has ``stored``, and repair what differs."""
        result = self.result(day)
        self.progress = Progress(f"reconcile {result.source_id}.{result.src_table} {day or 'undated'}", 0,
                                 self.shared.log, listen=listen)  # fmt: skip
        if set(stored) == {NOTHING} and ranges[0].low is None:
            # Nothing to compare hour by hour: one count says what has to be read.
            ranges, stored = [_span(ranges)], [NOTHING]
        self._settle(ranges, result, stored, first=True)
        result.verified_at = self.shared.clock.now()
        self.progress.finish()
        return result

    def verify(self, day: date | None, ranges: list[Range], listen: Listener | None) -> ReconcileResult:
        """Compare only."""
        result = self.result(day)
        self.progress = Progress(f"verify {result.source_id}.{result.src_table} {day or 'undated'}", None,
                                 self.shared.log, listen=listen)  # fmt: skip
        sides = self._compare(ranges, digests=True)
        again = {s.wanted: s for s in self._compare([s.wanted for s in sides if not s.equal], digests=True)}
        for side in (again.get(s.wanted, s) for s in sides):
            result.ranges += 1
            result.source_rows += side.source_rows or 0
            result.store_rows += side.store_rows
            self.progress.add(side.source_rows or 0)
            if not side.equal:
                result.equal = False
                result.detail = (
                    result.detail or f"{side.wanted}: {side.source_rows} rows at the source, {side.store_rows} stored"
                )
        self.progress.finish()
        return result

    def result(self, day: date | None) -> ReconcileResult:
        """An empty result of this table and day."""
        return ReconcileResult(
            self.shared.source.id, self.mapping.table, self.mapping.entity, day, self.shared.clock.now()
        )

    def _settle(
        self, ranges: list[Range], result: ReconcileResult, stored: list[Counts] | None = None, *, first: bool = False
    ) -> None:
        sides = self._compare(ranges, stored)
        if first:
            self.progress.total = sum(side.source_rows or 0 for side in sides)
            result.ranges += len(sides)
        for side in _joined(sides, self._most):
            if side.equal:
                result.source_rows += side.source_rows or 0
                self.progress.add(side.source_rows or 0)
            else:
                self._repair(side, result)

    def _most(self, side: _Sides) -> int:
        """Most rows of a differing range that are read at once."""
        batch = self.shared.settings.extract.batch_rows
        return min(DRILL_ROWS, batch) if side.store_rows else batch

    def _repair(self, side: _Sides, result: ReconcileResult) -> None:
        most = self._most(side)
        rows = max(side.source_rows if side.source_rows is not None else most + 1, side.store_rows)
        # Without an index every part is a scan of the table; one scan that reads the differing rows is cheaper.
        cheap = side.wanted.low is not None or self.scope.indexed
        parts = side.wanted.parts(max(FAN_OUT, min(-(-rows // most), 64))) if cheap and rows > most else [side.wanted]
        if len(parts) > 1:
            self._settle(parts, result, None if side.store_rows else [NOTHING] * len(parts))
            return
        repair = RangeRepair(
            self.shared.settings, self.shared.source, self.shared.warehouse, self.shared.clock, self.scope,
            self.shared.connection, self.shared.guard, self.unique_key,
        )  # fmt: skip
        outcome = repair.run(side.wanted, side.source_rows, empty=not side.store_rows)
        result.add(outcome, side.wanted)
        self.progress.add(outcome.source_rows)

    def _compare(
        self, ranges: list[Range], stored: list[Counts] | None = None, *, digests: bool = False
    ) -> list[_Sides]:
        """Count and digest sum of each range on both sides; the source is looked at after the store."""
        if not ranges:
            return []
        if stored is None:
            stored = _stored([(self.scope, ranges)], self.shared)[0]
        sides = []
        with self.shared.connection() as connection:
            for wanted, (rows, total, digested) in zip(ranges, stored, strict=True):
                self.shared.guard.wait(connection)
                count, digest = self._at_source(connection, wanted, with_digest=digests or rows > 0)
                sides.append(_Sides(wanted, count, digest, rows, total, digested))
        return sides

    def _at_source(
        self, connection: SourceConnection, wanted: Range, *, with_digest: bool
    ) -> tuple[int | None, int | None]:
        plan = self.scope.plan
        digest = plan.field(DIGEST_ALIAS)
        assert digest is not None
        tests = self.scope.source_conditions(wanted) + ([f"({plan.where_sql})"] if plan.where_sql else [])
        what = f"count(*), coalesce(sum({digest.sql}), 0)" if with_digest else "count(*)"
        sql = f"select {what} from {plan.from_sql}" + (f" where {' and '.join(tests)}" if tests else "")
        try:
            row = connection.query(sql)[0]
        except QueryTooSlow:
            # Too much for one statement: unknown, hence different; its parts are looked at one by one.
            if len(wanted.parts(FAN_OUT)) == 1:
                raise
            return None, None
        return int(row[0]), int(row[1]) if with_digest else None
