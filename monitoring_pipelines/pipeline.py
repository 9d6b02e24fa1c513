"""One tick, domain level: extract, core, close, windows, publish, for all sources; and the same over a range.

What belongs here: the order of the stages, how long each holds the warehouse, and what one failing source may stop.
What does not: the stages themselves (``source``, ``warehouse``), schedules and retries (``orchestration``).

Every stage finds its work in the warehouse, not in the time at which it was started, and leaves a state from which the
next one goes on: a killed tick, a week of downtime and a second tick at the same time need no special path.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from monitoring_pipelines.errors import ProductError, WarehouseBusy
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.warehouse.connect import Warehouse, WarehouseMissing
from monitoring_pipelines.warehouse.families import DAY_TABLES, FAMILIES, HOUR_TABLES, active_families, families_of
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout
from monitoring_pipelines.warehouse.sql_models import load_model

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema import SourceSettings
    from monitoring_pipelines.source.reconcile import ReconcileResult
    from monitoring_pipelines.source.tail import CycleResult
    from monitoring_pipelines.warehouse.audits import AuditResult
    from monitoring_pipelines.warehouse.core_refresh import CoreResult
    from monitoring_pipelines.warehouse.lake import Manifest
    from monitoring_pipelines.warehouse.windows import DueDay, DueHour, DueWork

Item = TypeVar("Item")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: A stage gives the warehouse to others after this long and continues when its turn comes again, seconds.
SLICE_S = 0.4
#: Hours or days computed in one transaction at most.
MOST_AT_ONCE = 6
#: A tick takes along this many due hours and days. More is a backlog, which partition runs work off in parallel to
#: ticks; then a tick only keeps the newest hours current.
TICK_HOURS = 24
TICK_DAYS = 2
NEWEST_HOURS = 2
#: Longest wait for another extraction of the same source, seconds.
CYCLE_WAIT_S = 120.0


@dataclass(frozen=True)
class Pipeline:
    """What every stage needs: configuration, store, time, and where to tell what happens."""

    settings: Settings
    warehouse: Warehouse
    clock: Clock
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    @classmethod
    def of(cls, settings: Settings, clock: Clock, log: logging.Logger | None = None) -> Pipeline:
        """The pipeline of a configuration."""
        warehouse = Warehouse(settings.warehouse_path, clock=clock)
        return cls(settings, warehouse, clock, log or logging.getLogger(__name__))

    @property
    def sources(self) -> list[SourceSettings]:
        """The enabled sources."""
        return [source for source in self.settings.sources if source.enabled]


@dataclass
class Extraction:
    """Results of one extraction stage; ``failed`` holds an error text per source that could not be read."""

    cycles: dict[str, CycleResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def entity_metadata(self, entity: str) -> dict[str, Any]:
        """Figures of one entity over all sources."""
        figures: dict[str, Any] = {"seconds": round(self.seconds, 3), "sources_failed": len(self.failed)}
        for cycle in self.cycles.values():
            for name, value in cycle.entity_figures(entity).items():
                figures[name] = figures.get(name, 0) + value
        return figures


@dataclass
class CoreRefresh:
    """Results of the core stage, by source."""

    results: dict[str, CoreResult] = field(default_factory=dict)
    seconds: float = 0.0

    def table_metadata(self, table: str) -> dict[str, Any]:
        """Figures of ``core.<name>`` over all sources."""
        figures: dict[str, Any] = {"seconds": round(self.seconds, 3)}
        for result in self.results.values():
            figures["dirty_hours"] = figures.get("dirty_hours", 0) + result.dirty_hours
            for name, value in result.table_metadata(table.split(".")[1]).items():
                figures[name] = figures.get(name, 0) + value
        return figures


@dataclass(frozen=True)
class WindowDone:
    """One computed partition: a table and an hour or day, how many rows it has now, and how many were restated."""

    table: str
    start: datetime
    end: datetime
    rows: int
    restated: int


@dataclass
class Windows:
    """Results of the window stage: what was computed, and how much is left for partition runs."""

    windows: list[WindowDone] = field(default_factory=list)
    hours_left: int = 0
    days_left: int = 0
    lag_s: float | None = None
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers over the whole stage. ``lag_s``: age of the newest closed minute of the slowest source."""
        return {
            "windows": len(self.windows),
            "rows": sum(window.rows for window in self.windows),
            "restated": sum(window.restated for window in self.windows),
            "dirty_hours": self.hours_left,
            "dirty_days": self.days_left,
            "lag_s": self.lag_s,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Published:
    """The manifest in force after publishing."""

    manifest: Manifest
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers of the published set."""
        files = [entry for table in self.manifest.tables.values() for entry in table.partitions.values()]
        return {
            "version": self.manifest.version,
            "files": len(files),
            "bytes": sum(entry.size_bytes for entry in files),
            "changes_waiting": self.manifest.waiting,
            "as_of": self.manifest.as_of.isoformat() + "Z" if self.manifest.as_of else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Reconciled:
    """Results of comparing one day, all sources and tables."""

    results: list[ReconcileResult] = field(default_factory=list)
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers over all tables; ``unequal`` counts tables that still differ."""
        return {
            "tables": len(self.results),
            "unequal": sum(not result.equal for result in self.results),
            "source_rows": sum(result.source_rows for result in self.results),
            "rows_reread": sum(result.rows_reread for result in self.results),
            "rows_deleted": sum(result.rows_deleted for result in self.results),
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Tick:
    """Everything one tick did."""

    extraction: Extraction
    core: CoreRefresh
    windows: Windows
    published: Published


@dataclass(frozen=True)
class Backlog:
    """Due hours and days that a tick leaves to partition runs, oldest first."""

    hours: tuple[datetime, ...] = ()
    days: tuple[datetime, ...] = ()


def tick(pipe: Pipeline, only: Iterable[str] | None = None) -> Tick:
    """Everything that is due now. Safe to repeat, to kill, and to run twice at once.

    Args:
        pipe: What to work on.
        only: Ids of the sources to extract; None: all enabled ones.

    Raises:
        SourceUnavailable, SchemaDrift, ...: Every source failed; what was stored before is still brought up to date.
    """
    extraction = extract(pipe, only)
    return Tick(extraction, refresh_core(pipe), compute_due(pipe), publish_pending(pipe))


@without_pandas()
def extract(pipe: Pipeline, only: Iterable[str] | None = None, *, strict: bool = True) -> Extraction:
    """One extraction cycle per source, at the same time, so that a slow source does not hold up another (E-506).

    Raises:
        ProductError: Every source failed; the first error. With some failures the others' results are returned, and
            without ``strict`` the failures always are.
    """
    wanted = set(only) if only is not None else None
    sources = [source for source in pipe.sources if wanted is None or source.id in wanted]
    began = time.monotonic()
    result = Extraction()
    _move_own_rows(pipe)
    errors: list[ProductError] = []
    with ThreadPoolExecutor(max_workers=max(1, min(len(sources), 4)), thread_name_prefix="extract") as pool:
        pending = [(source.id, pool.submit(_extract_source, pipe, source)) for source in sources]
        for source_id, future in pending:
            try:
                result.cycles[source_id] = future.result()
            except ProductError as error:
                pipe.log.error(f"{source_id}: {error.message}")
                result.failed[source_id] = error.message
                errors.append(error)
    result.seconds = time.monotonic() - began
    if strict and errors and not result.cycles:
        raise errors[0]
    return result


def _move_own_rows(pipe: Pipeline) -> None:
    """What the product knows of itself becomes rows like those of a source; sources do not wait for it (E-506)."""
    from monitoring_pipelines.source.own import move_own_rows

    try:
        moved = move_own_rows(pipe.settings, pipe.warehouse, pipe.clock)
    except ProductError as error:
        pipe.log.error(f"own rows: {error.message}")
        return
    if any(moved.rows.values()):
        pipe.log.info(
            "own rows: " + ", ".join(f"{count} {entity}" for entity, count in sorted(moved.rows.items()) if count)
        )


@without_pandas()
def loaded_sources(pipe: Pipeline) -> set[str]:
    """Ids of the sources whose history was loaded: only they can be read in a minute's time."""
    try:
        with pipe.warehouse.reader("loaded sources") as con:
            rows = con.execute("SELECT DISTINCT source_id FROM meta.extract_mark WHERE last_success_at IS NOT NULL")
            return {row[0] for row in rows.fetchall()} & {source.id for source in pipe.sources}
    except WarehouseMissing:
        return set()


def is_extracting(pipe: Pipeline, source_id: str) -> bool:
    """Whether some process is in an extraction cycle, or the first load, of the source at this instant."""
    return _cycle_lock(pipe, source_id).holder() is not None


def _cycle_lock(pipe: Pipeline, source_id: str) -> FairLock:
    return FairLock(pipe.warehouse.path.with_name(f"extract-{source_id}.lock.d"))


def _extract_source(pipe: Pipeline, source: SourceSettings) -> CycleResult:
    """One cycle of one source; never two at once, because the older snapshot might be written last."""
    from monitoring_pipelines.source.tail import extract_cycle

    try:
        with _cycle_lock(pipe, source.id).held(f"extract {source.id}", CYCLE_WAIT_S):
            return extract_cycle(pipe.settings, source, pipe.warehouse, pipe.clock, pipe.log)
    except LockTimeout as error:
        raise WarehouseBusy(f"another extraction of {source.id} is still running ({error.holder})") from error


@without_pandas()
def refresh_core(pipe: Pipeline) -> CoreRefresh:
    """Recompute the core rows of all keys that changed, source by source."""
    from monitoring_pipelines.warehouse import core_refresh

    began = time.monotonic()
    done = CoreRefresh()
    for source in pipe.sources:
        with pipe.warehouse.writer(f"core of {source.id}") as con:
            done.results[source.id] = core_refresh.refresh_core(con, source.id)
    done.seconds = time.monotonic() - began
    return done


def compute_due(pipe: Pipeline) -> Windows:
    """Close minutes (M-801), then compute due hours and days, oldest first (M-802, M-803), in slices."""
    from monitoring_pipelines.warehouse import windows

    began = time.monotonic()
    now = pipe.clock.now()
    done = Windows()
    hours: deque[list[DueHour]] = deque()
    days: deque[DueDay] = deque()

    def begin(con: Connection) -> None:
        windows.prepare(con)
        windows.close_minutes(con, now, pipe.settings.stats.backfill_days)
        mine, left = _share(windows.due_work(con, now))
        hours.extend(mine)
        done.hours_left = len(left)

    def finish(con: Connection) -> None:
        due = _settled_days(windows.due_work(con, now))
        days.extend(due if len({day.day for day in due}) <= TICK_DAYS else [])
        done.days_left = len(due) - len(days)
        done.lag_s = _lag_s(con, now)

    def compute_hours(con: Connection, batch: Sequence[list[DueHour]]) -> list[WindowDone]:
        items = [item for hour in batch for item in hour]
        windows.refresh_due(con, items, now)
        return [
            done
            for family in FAMILIES.values()
            if (found := sorted({item.hour for item in items if item.family == family.name}))
            for done in _figures(con, family.hour_tables, found, HOUR, now)
        ]

    def compute_days(con: Connection, batch: Sequence[DueDay]) -> list[WindowDone]:
        part = []
        for item in batch:
            windows.refresh_day(con, item.day, now, item.source_id, item.family)
            part += _figures(con, FAMILIES[item.family].day_tables, [item.day], DAY, now)
        return part

    for part in _work_off(pipe, "statistics", hours, compute_hours, begin, finish):
        done.windows += part
    for part in _work_off(pipe, "statistics of days", days, compute_days):
        done.windows += part
    done.seconds = time.monotonic() - began
    return done


def compute_range(pipe: Pipeline, tables: Sequence[str], start: datetime, end: datetime) -> Iterator[list[WindowDone]]:
    """Compute exactly the buckets in ``[start, end)`` of the given tables, in slices, oldest first.

    Args:
        pipe: What to work on.
        tables: ``mart`` tables of one partition length, of hours or of days, of any families.
        start: Start of the first hour or day, naive UTC.
        end: End of the last one; buckets after now do not exist and are left out.

    Yields:
        What each slice computed; between two of them the warehouse is free for others.
    """
    from monitoring_pipelines.warehouse import windows

    now = pipe.clock.now()
    step = DAY if set(DAY_TABLES) & set(tables) else HOUR

    def compute(con: Connection, batch: Sequence[datetime]) -> list[WindowDone]:
        windows.prepare(con)
        active = active_families(con)
        for family in families_of(tables):
            if family not in active:
                continue
            wanted = [name for name in tables if name in family.hour_tables]
            if step == DAY:
                for day in batch:
                    windows.refresh_day(con, day, now, family=family.name)
            elif len(wanted) == len(family.hour_tables):
                windows.refresh_hours(con, batch, now, family=family.name)
            else:
                windows.refresh_window(con, wanted[0], batch[0], batch[-1] + HOUR, now)
        return _figures(con, tables, batch, step, now)

    buckets = deque(_buckets(start, min(end, now), step))
    yield from _work_off(pipe, "partitions", buckets, compute)


@without_pandas()
def stored_windows(pipe: Pipeline) -> list[WindowDone]:
    """Every hour and day that was computed up to now, oldest first; ``restated`` is 0.

    Tables of families without inputs are as complete as the others: they have no rows.
    """
    done = []
    with pipe.warehouse.reader("stored windows") as con:
        bounds = con.execute(
            "SELECT min(state.origin), max(progress.computed_through) FROM meta.source_state AS state "
            "INNER JOIN meta.window_progress AS progress USING (source_id)"
        ).fetchone()
        if bounds is None or None in bounds:
            return []
        due = set(con.execute('SELECT DISTINCT family, "day" FROM meta.dirty_day').fetchall())
        for tables, step in ((DAY_TABLES, DAY), (HOUR_TABLES, HOUR)):
            for table in tables:
                column, unit = load_model(table).bucket, "day" if step == DAY else "hour"
                sql = f"SELECT date_trunc('{unit}', \"{column}\")::TIMESTAMP, count(*) FROM {table} GROUP BY 1"
                rows = dict(con.execute(sql).fetchall())
                family = families_of([table])[0].name
                for start in _buckets(_start_of(bounds[0], step), bounds[1], step):
                    # A day is computed after its last hour.
                    if step == HOUR or ((start in rows or start + DAY <= bounds[1]) and (family, start) not in due):
                        done.append(WindowDone(table, start, start + step, rows.get(start, 0), 0))
    return sorted(done, key=lambda window: window.start)


def _start_of(instant: datetime, step: timedelta) -> datetime:
    return instant - (instant - datetime.min) % step


def _buckets(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += step


@without_pandas()
def backlog(pipe: Pipeline) -> Backlog:
    """Hours and days that are due and too many for a tick; empty while ticks keep up."""
    from monitoring_pipelines.warehouse import windows

    if not pipe.warehouse.path.exists():
        return Backlog()
    now = pipe.clock.now()
    with pipe.warehouse.writer("backlog") as con:
        due = windows.due_work(con, now)
    _, left = _share(due)
    days = sorted({day.day for day in _settled_days(due)})
    return Backlog(tuple(left), tuple(days) if len(days) > TICK_DAYS else ())


@without_pandas()
def publish_pending(pipe: Pipeline, *, everything: bool = False) -> Published:
    """Publish changed partitions, newest days first; the warehouse is open only while rows are copied out of it.

    Args:
        pipe: What to work on.
        everything: Go on until nothing waits; a tick leaves what does not fit into its time to the next one.
    """
    began = time.monotonic()
    manifest = _publish_once(pipe)
    while everything and manifest.waiting:
        manifest = _publish_once(pipe)
    return Published(manifest, time.monotonic() - began)


def _publish_once(pipe: Pipeline) -> Manifest:
    from monitoring_pipelines.warehouse.publish import Publication

    with Publication(pipe.settings.lake_path, pipe.clock) as publication:
        with pipe.warehouse.writer("publish") as con:
            publication.stage(con)
        return publication.commit()


@without_pandas()
def unverified_days(pipe: Pipeline) -> list[datetime]:
    """UTC days that were never compared with their source or not within ``reconcile_hours`` (E-609), oldest first.

    Days whose raw rows retention has removed are none of them: comparing would load them again.
    """
    now = pipe.clock.now()
    today = now - (now - datetime.min) % DAY
    limit = now - timedelta(hours=pipe.settings.extract.reconcile_hours)
    verified: dict[tuple[str, date], datetime] = {}
    raw_from: dict[str, datetime] = {}
    if pipe.warehouse.path.exists():
        with pipe.warehouse.reader("reconciliation state") as con:
            rows = con.execute(_VERIFIED).fetchall()
            kept = "SELECT source_id, raw_from FROM meta.source_state WHERE raw_from IS NOT NULL"
            raw_from = dict(con.execute(kept).fetchall())
        verified = {(source_id, day): at for source_id, day, at in rows if day is not None}
    days = set()
    for source in pipe.sources:
        reach = min(pipe.settings.stats.backfill_days, source.retention_days or pipe.settings.stats.backfill_days)
        for day in (today - DAY * n for n in range(reach + 1)):
            if day < raw_from.get(source.id, datetime.min):
                break
            if verified.get((source.id, day.date()), datetime.min) < limit:
                days.add(day)
    if not days and _rescans_due(pipe):
        days.add(today)
    return sorted(days)


#: Per source and day: the oldest of its tables' newest proofs.
_VERIFIED = """
SELECT source_id, "day", min(newest) FROM (
    SELECT source_id, src_table, entity, "day", max(verified_at) AS newest FROM meta.reconciliation GROUP BY ALL
) GROUP BY ALL
"""


@without_pandas()
def reconcile(pipe: Pipeline, day: date) -> Reconciled:
    """Compare one UTC day of every source with the store, repair it, and refresh the core rows of what changed.

    Rows that belong to no day are compared along with a day when their own proof is older than ``reconcile_hours``, and
    large tables without id and ``updated_at`` when it is older than an hour (E-608).

    Raises:
        ProductError: A source could not be compared; the others were, and what was repaired stays.
    """
    from monitoring_pipelines.source.reconcile import reconcile_day, reconcile_undated, reconcile_whole

    began = time.monotonic()
    done = Reconciled()
    errors: list[ProductError] = []
    undated_due, rescans_due = _undated_due(pipe), _rescans_due(pipe)
    for source in pipe.sources:
        arguments = (pipe.settings, source, pipe.warehouse, pipe.clock)
        try:
            results = reconcile_day(*arguments, day, log=pipe.log)
            if source.id in undated_due:
                results += reconcile_undated(*arguments, log=pipe.log)
            if source.id in rescans_due:
                results += reconcile_whole(*arguments, *rescans_due[source.id], log=pipe.log)
        except ProductError as error:
            pipe.log.error(f"{source.id}: {error.message}")
            errors.append(error)
            continue
        for result in results:
            pipe.log.info(str(result))
        done.results += results
        if sum(result.source_rows for result in results if result.day):
            _extend_origin(pipe, source.id, day)
    refresh_core(pipe)
    done.seconds = time.monotonic() - began
    if errors:
        raise errors[0]
    return done


def _undated_due(pipe: Pipeline) -> set[str]:
    """Sources whose undated rows were not compared within ``reconcile_hours``."""
    limit = pipe.clock.now() - timedelta(hours=pipe.settings.extract.reconcile_hours)
    everyone = {source.id for source in pipe.sources}
    try:
        with pipe.warehouse.reader("reconciliation state") as con:
            rows = con.execute(_VERIFIED).fetchall()
    except WarehouseMissing:
        return everyone
    return everyone - {source_id for source_id, day, at in rows if day is None and at >= limit}


def _rescans_due(pipe: Pipeline) -> dict[str, tuple[set[str], datetime]]:
    """Large tables with neither row id nor ``updated_at`` that were not compared whole for an hour (E-608).

    Half of ``RESCAN_ROWS`` counts as large, because the tail decides by the server's estimate.

    Returns:
        Per source the tables, and the instant from which the store has its rows.
    """
    from monitoring_pipelines.source.tail import RESCAN_ROWS

    now = pipe.clock.now()
    since = now - (now - datetime.min) % DAY - DAY * pipe.settings.stats.backfill_days
    due: dict[str, tuple[set[str], datetime]] = {}
    try:
        with pipe.warehouse.reader("rescans due") as con:
            for source_id, table, entity, raw_from in con.execute(_RESCANS, {"limit": now - HOUR}).fetchall():
                count = f'SELECT count(*) FROM raw."{entity}" WHERE source_id = ? AND src_table = ?'
                rows = con.execute(count, [source_id, table]).fetchone() or (0,)
                if rows[0] > RESCAN_ROWS // 2:
                    due.setdefault(source_id, (set(), max(since, raw_from or since)))[0].add(table)
    except WarehouseMissing:
        return {}
    return due


#: Tables read whole or by creation time only, whose comparison as a whole is older than the limit.
_RESCANS = """
SELECT mark.source_id, mark.src_table, mark.entity, any_value(state.raw_from)
FROM meta.extract_mark AS mark
LEFT JOIN meta.source_state AS state USING (source_id)
LEFT JOIN meta.reconciliation AS proof
    ON mark.source_id = proof.source_id AND mark.src_table = proof.src_table AND mark.entity = proof.entity
    AND proof."day" IS NULL
WHERE mark.strategy = 'rescan'
GROUP BY ALL
HAVING coalesce(max(proof.verified_at), TIMESTAMP '1970-01-01') < $limit
"""


def _extend_origin(pipe: Pipeline, source_id: str, day: date) -> None:
    """History that was loaded on request counts, also when it is older than ``backfill_days`` (M-802)."""
    from monitoring_pipelines.warehouse.windows import extend_origin

    with pipe.warehouse.writer("origin") as con:
        extend_origin(con, source_id, datetime(day.year, day.month, day.day), pipe.clock.now())


def _work_off(
    pipe: Pipeline,
    purpose: str,
    queue: deque[Item],
    compute: Callable[[Connection, Sequence[Item]], list[WindowDone]],
    begin: Callable[[Connection], None] | None = None,
    finish: Callable[[Connection], None] | None = None,
) -> Iterator[list[WindowDone]]:
    """Compute the queue in batches, giving the warehouse to others every ``SLICE_S`` seconds.

    Small buckets are computed several at a time, because planning the queries costs as much as a thousand rows; the
    size of a batch follows the time the last one took. ``begin`` may fill the queue and ``finish`` look at the result;
    they run in the first and in the last slice, which are one slice when little is due.
    """
    size = 1
    while queue or begin or finish:
        done: list[WindowDone] = []
        with without_pandas(), pipe.warehouse.writer(purpose) as con:
            until = time.monotonic() + SLICE_S
            if begin:
                begin(con)
                begin = None
            while queue and (not done or time.monotonic() < until):
                started = time.monotonic()
                done += compute(con, [queue.popleft() for _ in range(min(size, len(queue)))])
                size = _next_size(size, time.monotonic() - started)
            if not queue and finish:
                finish(con)
                finish = None
        yield done


def _next_size(size: int, seconds: float) -> int:
    if seconds > SLICE_S:
        return max(1, size // 2)
    return min(MOST_AT_ONCE, size * 2) if seconds < SLICE_S / 2 else size


def _figures(
    con: Connection, tables: Sequence[str], buckets: Iterable[datetime], step: timedelta, now: datetime
) -> list[WindowDone]:
    """What the tables hold for the partitions just computed, and which rows of them were restated now."""
    done = []
    for table in tables:
        column = load_model(table).bucket
        for start in buckets:
            row = con.execute(
                f"SELECT count(*), count(*) FILTER (WHERE restated_at = $now) FROM {table} "
                f'WHERE "{column}" >= $start AND "{column}" < $end',
                {"start": start, "end": start + step, "now": now},
            ).fetchone() or (0, 0)
            done.append(WindowDone(table, start, start + step, row[0], row[1]))
    return done


def _share(due: DueWork) -> tuple[list[list[DueHour]], list[datetime]]:
    """(due hours a tick takes, those of all sources together; starts of the hours it leaves), oldest first."""
    by_hour: dict[datetime, list[DueHour]] = {}
    for item in sorted(due.hours, key=lambda hour: hour.hour):
        by_hour.setdefault(item.hour, []).append(item)
    if len(by_hour) <= TICK_HOURS:
        return list(by_hour.values()), []
    hours = list(by_hour)
    return [by_hour[hour] for hour in hours[-NEWEST_HOURS:]], hours[:-NEWEST_HOURS]


def _settled_days(due: DueWork) -> list[DueDay]:
    """Due days without due complete hours: a day is computed once, after its hours."""
    unsettled = {(hour.family, hour.source_id, _start_of(hour.hour, DAY)) for hour in due.hours if hour.dirty}
    return [day for day in due.days if (day.family, day.source_id, day.day) not in unsettled]


def _lag_s(con: Connection, now: datetime) -> float | None:
    """Seconds since the last closed minute of the source that is furthest behind."""
    row = con.execute("SELECT min(closed_through) FROM meta.source_state").fetchone()
    return (now - row[0]).total_seconds() if row and row[0] else None


@without_pandas()
def audit(
    pipe: Pipeline,
    start: datetime,
    end: datetime,
    rules: frozenset[str] | None = None,
    names: frozenset[str] | None = None,
) -> list[AuditResult]:
    """Run the audits (M-9xx) over the buckets in ``[start, end)``, a day at a time, and add up what they find.

    Args:
        pipe: What to look at.
        start: Start of a bucket, naive UTC.
        end: End of a bucket.
        rules: Only these, for example ``{"M-903"}``; None: all.
        names: Only audits with these names; None: all.
    """
    from monitoring_pipelines.warehouse import audits, windows

    found: dict[str, AuditResult] = {}
    while start < end:
        stop = min(end, start - (start - datetime.min) % DAY + DAY)
        with pipe.warehouse.writer("audits") as con:
            windows.prepare(con)
            for result in audits.run_audits(con, start, stop, rules, names):
                old = found.get(result.name)
                found[result.name] = result if old is None else _added(old, result)
        start = stop
    return list(found.values())


def _added(one: AuditResult, other: AuditResult) -> AuditResult:

    from monitoring_pipelines.warehouse.audits import SAMPLE_ROWS

    sample = (one.sample + other.sample)[:SAMPLE_ROWS]
    return replace(one, bad_rows=one.bad_rows + other.bad_rows, sample=sample)
