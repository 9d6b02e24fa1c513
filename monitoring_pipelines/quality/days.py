"""Local days as UTC intervals (E-307).

What belongs here: where a local day begins and ends, also when clocks change. What does not: statistics, which use UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class LocalDay:
    """One day of a zone: ``[start, end)``, naive UTC."""

    day: date
    start: datetime
    end: datetime


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """00:00 local time of a day, as naive UTC; in a zone that skips midnight the first instant of the day."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return local.astimezone(UTC).replace(tzinfo=None)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The local day that contains a naive UTC instant."""
    return instant.replace(tzinfo=UTC).astimezone(zone).date()


def local_day(day: date, zone: ZoneInfo) -> LocalDay:
    """A day of the zone."""
    return LocalDay(day, midnight(day, zone), midnight(day + timedelta(days=1), zone))


def complete_days(now: datetime, count: int, zone: ZoneInfo) -> list[LocalDay]:
    """The last ``count`` days that have ended by ``now``, oldest first (C-105)."""
    today = local_date(now, zone)
    return [local_day(today - timedelta(days=back), zone) for back in range(count, 0, -1)]


def days_between(first: date, last: date, zone: ZoneInfo) -> list[LocalDay]:
    """Both days and all between them."""
    return [local_day(first + timedelta(days=n), zone) for n in range((last - first).days + 1)]
