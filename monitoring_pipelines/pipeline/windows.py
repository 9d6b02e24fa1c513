"""Statistics: the hours and days that are due, exactly the ones of a range, and audits over them.

What belongs here: finding the work, slices in which the warehouse is held. What does not: computing a window
(``warehouse.windows``).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.pipeline.base import DAY, HOUR, Pipeline, start_of
from monitoring_pipelines.pipeline.results import Backlog, WindowDone, Windows
from monitoring_pipelines.warehouse.connect import share_out
from monitoring_pipelines.warehouse.families import DAY_TABLES, FAMILIES, HOUR_TABLES, active_families, families_of
from monitoring_pipelines.warehouse.sql_models import load_model

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

    from monitoring_pipelines.warehouse.audits import AuditResult
    from monitoring_pipelines.warehouse.windows import DueDay, DueHour, DueWork

Item = TypeVar("Item")
#: A stage gives the warehouse to others after this long and continues when its turn comes again, seconds.
SLICE_S = 0.4
#: Hours or days computed in one transaction at most.
MOST_AT_ONCE = 6
#: A tick takes along this many due hours and days. More is a backlog, which partition runs work off in parallel to
#: ticks; then a tick only keeps the newest hours current.
TICK_HOURS = 24
TICK_DAYS = 2
NEWEST_HOURS = 2


def compute_due(pipe: Pipeline) -> Windows:
    """Close minutes (M-801), then compute due hours and days, oldest first (M-802, M-803), in slices."""
    from monitoring_pipelines.warehouse import windows

    began = time.monotonic()
    now = pipe.clock.now()
    done = Windows()
    hours: deque[list[DueHour]] = deque()
    days: deque[DueDay] = deque()
    is_little = False

    def begin(con: Connection) -> None:
        nonlocal is_little
        windows.prepare(con)
        windows.close_minutes(con, now, pipe.settings.stats.backfill_days)
        mine, left = _share(windows.due_work(con, now))
        hours.extend(mine)
        done.hours_left = len(left)
        is_little = len(hours) <= NEWEST_HOURS

    def finish(con: Connection) -> None:
        due = _settled_days(windows.due_work(con, now))
        days.extend(due if len({day.day for day in due}) <= TICK_DAYS else [])
        done.days_left = len(due) - len(days)
        done.lag_s = _lag_s(con, now)

    def compute_hours(con: Connection, batch: Sequence[list[DueHour]]) -> list[WindowDone]:
        share_out(con, few=is_little)
        items = [item for hour in batch for item in hour]
        part: list[WindowDone] = []
        for family in FAMILIES.values():
            mine = [item for item in items if item.family == family.name]
            if not mine:
                continue
            if part and pipe.warehouse.offer():
                hours.appendleft(items)
                break
            windows.refresh_due(con, mine, now)
            part += _figures(con, family.hour_tables, sorted({item.hour for item in mine}), HOUR, now)
            items = [item for item in items if item.family != family.name]
        return part

    def compute_days(con: Connection, batch: Sequence[DueDay]) -> list[WindowDone]:
        part = []
        for item in batch:
            windows.refresh_day(con, item.day, now, item.source_id, item.family)
            part += _figures(con, FAMILIES[item.family].day_tables, [item.day], DAY, now)
        return part

    for part in _work_off(pipe, "statistics", hours, compute_hours, begin, finish, small=True):
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
                for start in _buckets(start_of(bounds[0], step), bounds[1], step):
                    # A day is computed after its last hour.
                    if step == HOUR or ((start in rows or start + DAY <= bounds[1]) and (family, start) not in due):
                        done.append(WindowDone(table, start, start + step, rows.get(start, 0), 0))
    return sorted(done, key=lambda window: window.start)


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


def _work_off(
    pipe: Pipeline,
    purpose: str,
    queue: deque[Item],
    compute: Callable[[Connection, Sequence[Item]], list[WindowDone]],
    begin: Callable[[Connection], None] | None = None,
    finish: Callable[[Connection], None] | None = None,
    *,
    small: bool = False,
) -> Iterator[list[WindowDone]]:
    """Compute the queue in batches, giving the warehouse to others every ``SLICE_S`` seconds, and at once to who waits.

    Small buckets are computed several at a time, because planning the queries costs as much as a thousand rows; the
    size of a batch follows the time the last one took. ``begin`` may fill the queue and ``finish`` look at the result;
    they run in the first and in the last slice, which are one slice when little is due. A ``small`` use begins on one thread.
    """
    size = 1
    while queue or begin or finish:
        done: list[WindowDone] = []
        with without_pandas(), pipe.warehouse.writer(purpose, small=small) as con:
            until = time.monotonic() + SLICE_S
            is_wanted = False
            if begin:
                begin(con)
                begin = None
                is_wanted = pipe.warehouse.offer()
            while queue and not is_wanted and time.monotonic() < until:
                started = time.monotonic()
                done += compute(con, [queue.popleft() for _ in range(min(size, len(queue)))])
                size = _next_size(size, time.monotonic() - started)
                is_wanted = pipe.warehouse.offer()
            if not queue and not is_wanted and finish:
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
    unsettled = {(hour.family, hour.source_id, start_of(hour.hour, DAY)) for hour in due.hours if hour.dirty}
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
    places = Counter(one.places) + Counter(other.places)
    return replace(one, bad_rows=one.bad_rows + other.bad_rows, sample=sample, places=places)
