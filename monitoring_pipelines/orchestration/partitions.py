"""The time partitions: UTC hours and UTC days, the current one open (M-101).

What belongs here: partition definitions, their first day, and the translation between keys and instants.
What does not: which partitions must be computed (``pipeline``, ``sensors``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, DailyPartitionsDefinition, HourlyPartitionsDefinition

from monitoring_pipelines.partition_keys import DAY_FORMAT, HOUR_FORMAT

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Partitions:
    """The two partition definitions all time-partitioned assets share."""

    hourly: HourlyPartitionsDefinition
    daily: DailyPartitionsDefinition


def build_partitions(first_day: date) -> Partitions:
    """Hours and days from ``first_day`` (UTC) on; ``end_offset=1`` keeps the running hour and day selectable."""
    start = datetime(first_day.year, first_day.month, first_day.day)
    return Partitions(
        hourly=HourlyPartitionsDefinition(start_date=start, end_offset=1, timezone="UTC", fmt=HOUR_FORMAT),
        daily=DailyPartitionsDefinition(start_date=start, end_offset=1, timezone="UTC", fmt=DAY_FORMAT),
    )


def first_partition_day(settings: Settings, clock: Clock) -> date:
    """First day offered for backfills.

    ``stats.start`` when configured. Otherwise the first of the month in which ``backfill_days`` ago lies, or of the
    month of the oldest published partition when that is earlier, so that no computed history leaves the UI. Only the
    small published manifest is read; the warehouse stays closed.
    """
    if settings.stats.start is not None:
        return settings.stats.start
    wanted = clock.now().date() - timedelta(days=settings.stats.backfill_days)
    oldest = _oldest_published(Path(settings.lake_path) / "manifest.json")
    return min(wanted, oldest or wanted).replace(day=1)


def _oldest_published(manifest: Path) -> date | None:
    """Day of the oldest partition named in the manifest; None without manifest or partitions."""
    try:
        tables = json.loads(manifest.read_text(encoding="utf-8")).get("tables", {})
    except FileNotFoundError:
        return None
    keys = [
        key[: len("YYYY-MM-DD")] if len(key) >= len("YYYY-MM-DD") else f"{key}-01"
        for table, content in tables.items()
        if table.startswith("mart.")
        for key in content.get("partitions", {})
        if key[:4].isdigit()
    ]
    return date.fromisoformat(min(keys)) if keys else None


def window_of(context: AssetExecutionContext) -> tuple[datetime, datetime]:
    """The window ``[start, end)`` of the run's partition or range of partitions, as naive UTC.

    ``partition_key`` raises on a range; the window works for both.
    """
    window = context.partition_time_window
    return _naive(window.start), _naive(window.end)


def slices(start: datetime, end: datetime, step: timedelta) -> list[tuple[datetime, datetime]]:
    """Consecutive windows of length ``step`` that cover ``[start, end)``, oldest first (M-802)."""
    count = -((start - end) // step)
    return [(start + i * step, min(start + (i + 1) * step, end)) for i in range(count)]


def contiguous(instants: Iterable[datetime], step: timedelta, longest: int) -> list[tuple[datetime, datetime]]:
    """Group starts of buckets into ranges ``(first, last)`` without gaps, each of at most ``longest`` buckets."""
    ranges: list[tuple[datetime, datetime]] = []
    for instant in sorted(set(instants)):
        if ranges and instant - ranges[-1][1] == step and (instant - ranges[-1][0]) // step < longest:
            ranges[-1] = (ranges[-1][0], instant)
        else:
            ranges.append((instant, instant))
    return ranges


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)
