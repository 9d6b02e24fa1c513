"""Completeness as published: figures of any window, local days, tasks without output.

What belongs here: counting over ``core.task`` by the definitions of the checks (C-101, C-102, M §7.1).
What does not: looking candidates up at the source, which only a check does (E-612); bands (``severity``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TaskIndex
from monitoring_pipelines.quality import change
from monitoring_pipelines.quality.change import Point
from monitoring_pipelines.quality.figures import Figures
from monitoring_pipelines.severity import rounded
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import FIGURES, JUDGED, MISSING, QUARTER
from monitoring_pipelines.warehouse.task_summaries import figures as judged

#: Local days begin at a multiple of this in every zone.
_PIECE = timedelta(minutes=15)
_IN_WINDOW = f"source_id = $source AND effective_end >= $start AND effective_end < $end AND {JUDGED}"


def pieces(
    look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime, settled: datetime
) -> dict[datetime, Figures]:
    """Figures of tasks that ended in [start, end) by quarter of an hour (UTC).

    Whole quarters in which everything is settled come from the summaries; the rest is counted from tasks.

    Args:
        look: The version.
        index: What is remembered of files.
        source_id: The source.
        start: Naive UTC.
        end: Naive UTC.
        settled: Tasks that ended at or before this instant are settled.
    """
    first = start + (datetime.min - start) % _PIECE
    ready = min(end, settled)
    last = ready - (ready - datetime.min) % _PIECE
    if first >= last:
        return _counted(look, index, source_id, start, end, settled)
    found = _counted(look, index, source_id, start, first, settled)
    keys = index.partitions_ending_in(look, first, last)
    columns = ", ".join(f"sum({name})::BIGINT AS {name}" for name in FIGURES)
    rows = look.rows(
        f'SELECT "at", {columns} FROM {look.summary(QUARTER, keys)} '
        'WHERE source_id = $source AND "at" >= $first AND "at" < $last GROUP BY 1',
        {"source": source_id, "first": first, "last": last},
    )
    found |= {row.pop("at"): Figures(**row) for row in rows}
    return found | _counted(look, index, source_id, last, end, settled)


def _counted(
    look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime, settled: datetime
) -> dict[datetime, Figures]:
    keys = index.partitions_ending_in(look, start, end) if start < end else []
    if not keys:
        return {}
    rows = look.rows(
        f'SELECT time_bucket(INTERVAL 15 MINUTE, effective_end) AS "at", {judged("effective_end <= $settled")} '
        f"FROM {look.partition(TASK, keys)} WHERE {_IN_WINDOW} GROUP BY 1",
        {"source": source_id, "start": start, "end": end, "settled": settled},
    )
    return {row.pop("at"): Figures(**row) for row in rows}


def figures(look: Look, index: TaskIndex, source_id: str, start: datetime, end: datetime, settled: datetime) -> Figures:
    """Figures of [start, end)."""
    return sum(pieces(look, index, source_id, start, end, settled).values(), Figures())


def local_days(found: Mapping[datetime, Figures], zone: str) -> dict[date, Figures]:
    """Figures by local day (E-307), ascending; days without task are absent."""
    days: dict[date, Figures] = {}
    for at, figure in sorted(found.items()):
        day = at.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
        days[day] = days.get(day, Figures()) + figure
    return days


def local_midnight(day: date, zone: str) -> datetime:
    """Naive UTC instant at which a local day begins."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC).replace(tzinfo=None)


def missing_page(
    look: Look, index: TaskIndex, sources: Sequence[str], start: datetime, end: datetime, settled: datetime,
    offset: int, limit: int,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Tasks without valid output, those that ended last first, and how many there are (S-231)."""
    keys = index.partitions_ending_in(look, start, end)
    if not keys:
        return [], 0
    values = {"sources": list(sources), "start": start, "end": end, "settled": settled}
    found = (
        f"FROM {look.summary(MISSING, keys)} WHERE source_id IN (SELECT unnest($sources)) "
        "AND effective_end >= $start AND effective_end < $end AND effective_end <= $settled"
    )
    total = int(look.value(f"SELECT count(*) {found}", values) or 0)
    rows = look.rows(
        f"SELECT source_id, task_key, endpoint, effective_end, remote_id, status {found} "
        f"ORDER BY effective_end DESC, source_id, task_key LIMIT {int(limit)} OFFSET {int(offset)}",
        values,
    )
    return rows, total


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
