"""Completeness as published: figures of any window, local days, tasks without output.

What belongs here: counting over ``core.task`` by the definitions of the checks (C-101, C-102, M §7.1).
What does not: looking candidates up at the source, which only a check does (E-612); bands (``severity``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.published.quarters import Quarters
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TaskIndex
from monitoring_pipelines.quality import change
from monitoring_pipelines.quality.change import Point
from monitoring_pipelines.quality.figures import Figures
from monitoring_pipelines.severity import rounded
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import COUNTED, JUDGED, MISSING
from monitoring_pipelines.warehouse.task_summaries import figures as judged

#: Local days begin at a multiple of this in every zone.
_PIECE = timedelta(minutes=15)
Span = tuple[datetime, datetime]


def figures(look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime, settled: datetime) -> Figures:
    """Figures of tasks that ended in [start, end).

    Whole quarters of an hour in which everything is settled come from the summaries; the rest is counted from tasks.

    Args:
        look: The version.
        index: What is remembered of files.
        source_id: The source.
        start: Naive UTC.
        end: Naive UTC.
        settled: Tasks that ended at or before this instant are settled.
    """
    whole, rest = _cut(start, end, settled)
    found = sum((quarters.total(*whole) for quarters in _quarters(look, index, source_id, *whole)), Figures())
    return sum(_counted_rest(look, index, source_id, rest, end, settled).values(), found)


def daily(
    look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime, settled: datetime, zone: str
) -> dict[date, Figures]:
    """The same by local day (E-307), ascending; days without task are absent."""
    whole, rest = _cut(start, end, settled)
    days = local_days(_counted_rest(look, index, source_id, rest, end, settled), zone)
    remembered = _quarters(look, index, source_id, *whole)
    at = whole[0]
    while at < whole[1]:
        day = _local_day(at, zone)
        until = min(local_midnight(day + timedelta(days=1), zone), whole[1])
        found = sum((quarters.total(at, until) for quarters in remembered), days.get(day, Figures()))
        if found != Figures():
            days[day] = found
        at = until
    return dict(sorted(days.items()))


def _cut(start: datetime, end: datetime, settled: datetime) -> tuple[Span, list[Span]]:
    """The whole settled quarters of a window, and what is left of it before and after them."""
    first = start + (datetime.min - start) % _PIECE
    ready = min(end, settled)
    last = ready - (ready - datetime.min) % _PIECE
    if first >= last:
        return (start, start), [(start, end)]
    return (first, last), [span for span in ((start, first), (last, end)) if span[0] < span[1]]


def _quarters(look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime) -> list[Quarters]:
    """What is remembered of the files that may have tasks of the source that ended in [start, end)."""
    facts = index.facts(look)
    keys = index.partitions_ending_in(look, start, end) if start < end else []
    return [facts[key].quarters[source_id] for key in keys if source_id in facts[key].quarters]


def _counted_rest(
    look: Look, index: TaskIndex, source_id: str, rest: Sequence[Span], end: datetime, settled: datetime
) -> dict[datetime, Figures]:
    """Figures of what is left of a window that ends at ``end``; most windows end now, and those share what is left there."""
    found: dict[datetime, Figures] = {}
    for span in rest:
        count = partial(_counted, look, index, source_id, span, settled)
        found |= look.once(("rest", source_id), (TASK,), count, *span, settled) if span[1] == end else count()
    return found


def _counted(look: Look, index: TaskIndex, source_id: str, span: Span, settled: datetime) -> dict[datetime, Figures]:
    """Figures of tasks that ended within a span, by quarter of an hour, counted from tasks."""
    keys = index.partitions_ending_in(look, *span)
    if not keys:
        return {}
    rows = look.rows(
        f'SELECT time_bucket(INTERVAL 15 MINUTE, effective_end) AS "at", {judged("effective_end <= $settled")} '
        f"FROM {look.partition(TASK, keys, columns=COUNTED)} WHERE source_id = $source AND {JUDGED} "
        "AND effective_end >= $start AND effective_end < $end GROUP BY 1",
        {"source": source_id, "settled": settled, "start": span[0], "end": span[1]},
    )
    return {row.pop("at"): Figures(**row) for row in rows}


def local_days(found: Mapping[datetime, Figures], zone: str) -> dict[date, Figures]:
    """Figures by local day (E-307), ascending; days without task are absent."""
    days: dict[date, Figures] = {}
    for at, figure in sorted(found.items()):
        day = _local_day(at, zone)
        days[day] = days.get(day, Figures()) + figure
    return days


def _local_day(at: datetime, zone: str) -> date:
    return at.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


def local_midnight(day: date, zone: str) -> datetime:
    """Naive UTC instant at which a local day begins."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC).replace(tzinfo=None)


#: What the list of tasks without output can be ordered by (S-804).
MISSING_ORDERS = ("task_key", "source_id", "endpoint", "effective_end", "remote_id")


def missing_page(
    look: Look, index: TaskIndex, sources: Sequence[str], start: datetime, end: datetime, settled: datetime,
    offset: int, limit: int, sort: str | None = None,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Tasks without valid output, and how many there are (S-231).

    Those that ended last come first, which needs few files; by another column (``sort`` of ``MISSING_ORDERS``, with ``-``
    before it descending) all are read that have such tasks.
    """
    total = sum(figures(look, index, source, start, end, settled).missing_count for source in sources)
    order = "effective_end DESC, source_id, task_key"
    if sort in (None, "-effective_end"):
        keys = _ending_last(look, index, sources, _cut(start, end, settled)[0], (start, end), offset + limit)
    else:
        keys = _having(look, index, sources, (start, end), "missing_count")
        order = f"{sort.removeprefix('-')} {'DESC' if sort.startswith('-') else 'ASC'} NULLS LAST, {order}"
    if offset >= total or not keys:
        return [], total
    rows = look.rows(
        f"SELECT source_id, task_key, endpoint, effective_end, remote_id, status FROM {look.summary(MISSING, keys)} "
        "WHERE source_id IN $sources AND effective_end >= $start AND effective_end < $end AND effective_end <= $settled "
        f"ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)}",
        {"sources": tuple(sources), "start": start, "end": end, "settled": settled},
    )
    return rows, total


#: Lists behind the figures of a window, beside that of missing ones: condition of their tasks.
LISTS = {
    "with_output": "effective_end <= $settled AND outputs > 0",
    "settling": "effective_end > $settled",
    "duplicates": "effective_end <= $settled AND outputs > distinct_outputs",
}


def task_page(
    look: Look, index: TaskIndex, sources: Sequence[str], kind: str, start: datetime, end: datetime, settled: datetime,
    offset: int, limit: int,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Succeeded tasks of a window that are behind a figure of ``LISTS``, those that ended last first, and how many."""
    condition = f"source_id IN $sources AND {JUDGED} AND status = 'succeeded' AND {LISTS[kind]}"
    condition += " AND effective_end >= $start AND effective_end < $end"
    values = {"sources": tuple(sources), "start": start, "end": end, "settled": settled}
    if kind == "with_output":
        total = sum(figures(look, index, source, start, end, settled).tasks_with_outputs for source in sources)
        whole = _cut(start, end, settled)[0]
        keys = _ending_last(look, index, sources, whole, (start, end), offset + limit, "tasks_with_outputs")
    elif kind == "settling":
        keys = index.partitions_ending_in(look, max(start, settled), end)
        total = _count_of(look, keys, condition, values)
    else:
        keys = _having(look, index, sources, (start, end), "duplicate_rows")
        total = _count_of(look, keys, condition, values)
    if offset >= total or not keys:
        return [], total
    rows = look.rows(
        "SELECT source_id, task_key, endpoint, effective_end, remote_id, status, outputs, distinct_outputs "
        f"FROM {look.partition(TASK, keys, columns=(*COUNTED, 'task_key', 'endpoint', 'remote_id'))} WHERE {condition} "
        f"ORDER BY effective_end DESC, source_id, task_key LIMIT {int(limit)} OFFSET {int(offset)}",
        values,
    )
    return rows, total


def _count_of(look: Look, keys: Sequence[str], condition: str, values: Mapping[str, Any]) -> int:
    if not keys:
        return 0
    return int(
        look.value(f"SELECT count(*) FROM {look.partition(TASK, keys, columns=COUNTED)} WHERE {condition}", values)
    )


def _having(look: Look, index: TaskIndex, sources: Sequence[str], window: Span, counted: str) -> list[str]:
    """Partitions that may have tasks of the window that ``counted`` counts; where those are few, most need not be read."""
    facts, first = index.facts(look), window[0] - _PIECE  # a quarter the window only touches counts whole
    return [
        key for key in index.partitions_ending_in(look, *window)
        if any(getattr(facts[key].quarters[name].total(first, window[1]), counted)
               for name in sources if name in facts[key].quarters)
    ]  # fmt: skip


def _ending_last(
    look: Look, index: TaskIndex, sources: Sequence[str], whole: Span, window: Span, need: int,
    counted: str = "missing_count",
) -> list[str]:  # fmt: skip
    """Partitions that have, of the tasks in the window that ``counted`` counts, the ``need`` that ended last.

    The files that end last are taken until their whole quarters have enough; no task that ended before all of theirs
    can be among the wanted ones.
    """
    facts, found, bound = index.facts(look), [], None
    keys = index.partitions_ending_in(look, *window)
    for key in sorted(keys, key=lambda key: facts[key].last_end or datetime.min, reverse=True):
        fact = facts[key]
        if bound is not None and (fact.last_end or datetime.min) < bound:
            break
        found.append(key)
        quarters = (fact.quarters[source] for source in sources if source in fact.quarters)
        need -= sum(getattr(one.total(*whole), counted) for one in quarters)
        if need <= 0 and bound is None:
            bound = min(facts[key].first_end or datetime.min for key in found)
    return found


def split(days: Mapping[date, Figures], at: date) -> dict[str, Any]:
    """Before and after a local date (C-108); a side without tasks is None."""
    before = sum((figure for day, figure in days.items() if day < at), Figures())
    after = sum((figure for day, figure in days.items() if day >= at), Figures())
    sides = ((side.tasks_with_outputs, side.success_tasks) for side in (before, after))
    difference = change.difference(*sides)
    return {
        "before": before.as_metrics() if before.success_tasks else None,
        "after": after.as_metrics() if after.success_tasks else None,
        "difference": None if difference is None else rounded(difference, 2),
    }


def change_point(days: Mapping[date, Figures], least_points: float) -> dict[str, Any] | None:
    """Where the daily rate changed most (C-109); None when it changed by less than ``least_points``."""
    points = [
        Point(day, figure.success_tasks, figure.tasks_with_outputs)
        for day, figure in sorted(days.items())
        if figure.success_tasks
    ]
    found = change.change_point(points, least_points)
    if found is None:
        return None
    return {
        "date": found.first, "before": rounded(found.before, 2), "after": rounded(found.after, 2),
        "direction": "down" if found.direction == "decline" else "up",
    }  # fmt: skip
