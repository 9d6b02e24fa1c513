"""From the words of a user to the window of a plan (R-304).

What belongs here: days, hours and instants as ``[from, to)``. What does not: reading tasks.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from monitoring_pipelines.errors import UsageError

#: Window of a plan when nothing else is said: that of the full check.
DEFAULT_HOURS = 24


def local_midnight(day: date, zone: str) -> datetime:
    """00:00 of a local day as naive UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)


def of_days(start: date | None, end: date | None, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """``start`` 00:00 inclusive to ``end`` 24:00 exclusive, local days (R-304); an open end is now.

    Raises:
        UsageError: No start, or end before start.
    """
    if start is None:
        raise UsageError("--end-date needs --start-date", "give the first day too")
    if end is not None and end < start:
        raise UsageError(f"--end-date {end} is before --start-date {start}")
    to = now if end is None else local_midnight(end + timedelta(days=1), zone)
    begin = local_midnight(start, zone)
    if begin >= to:
        raise UsageError(f"--start-date {start} lies in the future")
    return begin, to


def of_hours(hours: float, now: datetime) -> tuple[datetime, datetime]:
    """The last ``hours`` hours; UsageError unless positive."""
    if not hours > 0:
        raise UsageError(f"--hours must be greater than 0, not {hours:g}")
    return now - timedelta(hours=hours), now


def ids(text: str | None) -> tuple[str, ...] | None:
    """Task ids of a comma list; None when the option was not given. An empty list stays one (R-303)."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
