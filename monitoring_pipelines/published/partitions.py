"""What every source has of every hour: computed, unfinished, restated, and what completeness says of it.

What belongs here: reading the hourly statistics by partition. What does not: colours and words (``api.pages.partitions``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines.published.endpoints import closed_through
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.families import HOUR_TABLES
from monitoring_pipelines.warehouse.sql_models import load_model

HOUR = timedelta(hours=1)


def hourly(
    look: Look, sources: Sequence[str], start: datetime, end: datetime
) -> dict[tuple[str, str], dict[datetime, Any]]:
    """(table, source) → hour → ``{state, rows, revision, done, total}`` for [start, end), naive UTC.

    ``state`` is ``closed``, ``partial`` (minutes are missing), ``unknown`` (no snapshot of the source for some bucket),
    ``empty`` (closed without a row: a known zero) or ``none`` (not closed yet). ``done`` of ``total`` succeeded tasks have
    outputs; both are None in other statistics. Sources without any row in the range are left out.
    """
    found: dict[tuple[str, str], dict[datetime, Any]] = {}
    for table in HOUR_TABLES:
        if look.has(table):
            for row in _rows(look, table, sources, start, end):
                found.setdefault((table, row.pop("source_id")), {})[row.pop("stat_hour")] = row
    ends = {source: closed_through(look, source) for source in sources}
    nothing = {"rows": 0, "revision": None, "done": None, "total": None}
    for (_, source), hours in found.items():
        at, closed = start, ends[source]
        while at < end:
            is_closed = closed is not None and at + HOUR <= closed
            hours.setdefault(at, {"state": "empty" if is_closed else "none", **nothing})
            at += HOUR
    return found


def _rows(look: Look, table: str, sources: Sequence[str], start: datetime, end: datetime) -> list[dict[str, Any]]:
    names, bucket = set(look.columns(table)), load_model(table).bucket
    partial = "bool_or(state = 'partial')" if "state" in names else "false"
    unknown = "bool_or(quality = 'unknown')" if "quality" in names else "false"
    revision = "max(revision)" if "revision" in names else "NULL"
    done, total = (
        (f"sum({name})::BIGINT" if "tasks_with_outputs" in names else "NULL")
        for name in ("tasks_with_outputs", "success_tasks")
    )
    return look.rows(
        f"SELECT source_id, date_trunc('hour', \"{bucket}\") AS stat_hour, count(*) AS rows, "
        f" {revision} AS revision, {done} AS done, {total} AS total, "
        f"CASE WHEN {partial} THEN 'partial' WHEN {unknown} THEN 'unknown' ELSE 'closed' END AS state "
        f"FROM {look.table(table, start, end)} "
        f'WHERE source_id IN $sources AND "{bucket}" >= $start AND "{bucket}" < $end GROUP BY ALL',
        {"sources": tuple(sources), "start": start, "end": end},
    )
