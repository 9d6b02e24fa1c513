"""When a cron line is due: five fields in a time zone, with the same instants as Dagster's own scheduler.

What belongs here: reading a line and listing its instants. What does not: what is started then (``orchestration``) and
what happened to a due time (``quality.calendar``). Domain code may not import Dagster, which carries the only other
implementation in the installation; a test compares the two over random lines, zones and clock changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from monitoring_pipelines.config.base import CRON_NAMES, CRON_RANGES, check_cron, parse_duration

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
_HOURS = 24
#: A line that is not due within this many days never is (29 February comes every eight years at worst).
_HORIZON_DAYS = 366 * 8 + 2


@dataclass(frozen=True)
class Cron:
    """One cron line. Use ``Cron.parse``."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, line: str) -> Cron:
        """Read five fields: minute, hour, day, month, weekday (0 and 7 are Sunday).

        Raises:
            ValueError: The line has other fields or a value outside its range.
        """
        return _parse(check_cron(line))

    def matches_day(self, day: date) -> bool:
        """Whether the line is due on this day; with both day and weekday given, either is enough."""
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        _, _, days, _, weekdays = self.text.split()
        both = days != "*" and weekdays != "*"
        return (in_month or in_week) if both else (in_month and in_week)

    def after(self, instant: datetime, zone: str) -> Iterator[datetime]:
        """Due instants strictly after ``instant``, in order; naive UTC in and out. Ends if the line is never due.

        A local time that the clocks skip is due when they jump. One that comes twice is due the second time, except
        that a line with every hour is due in both (as cron itself does it).
        """
        where = ZoneInfo(zone)
        day = instant.replace(tzinfo=UTC).astimezone(where).date() - DAY
        last, idle = instant, 0
        while idle < _HORIZON_DAYS and day.year < date.max.year:
            idle += 1
            for due in self._on(day, where):
                if due > last:
                    last, idle = due, 0
                    yield due
            day += DAY

    def between(self, start: datetime, end: datetime, zone: str) -> list[datetime]:
        """Due instants in ``(start, end]``, naive UTC."""
        found = []
        for due in self.after(start, zone):
            if due > end:
                break
            found.append(due)
        return found

    def next(self, instant: datetime, zone: str) -> datetime | None:
        """The first due instant after ``instant``; None if there is none."""
        return next(self.after(instant, zone), None)

    def period(self, instant: datetime, zone: str) -> timedelta | None:
        """Longest pause between the due instants around ``instant``: the one that contains it and the following one.

        None if the line is due less than twice more. For ``*/15 9-17 * * 1-5`` on a Friday evening this is the
        weekend: whoever waits for a run must not call it late before.
        """
        ahead = self.after(instant, zone)
        first, second = next(ahead, None), next(ahead, None)
        if first is None or second is None:
            return None
        previous = self.previous(first, zone)
        return max(second - first, first - previous if previous else second - first)

    def previous(self, instant: datetime, zone: str) -> datetime | None:
        """The last due instant strictly before ``instant``; None if there is none."""
        where = ZoneInfo(zone)
        day = instant.replace(tzinfo=UTC).astimezone(where).date() + DAY
        for _ in range(_HORIZON_DAYS):
            earlier = [due for due in self._on(day, where) if due < instant]
            if earlier:
                return earlier[-1]
            day -= DAY
        return None

    def _on(self, day: date, zone: ZoneInfo) -> tuple[datetime, ...]:
        """Due instants of one local day."""
        return _due_on(self, day, zone) if self.matches_day(day) else ()


def schedule_period(schedule: str | None, now: datetime, zone: str) -> timedelta | None:
    """Time between two runs of a cron line or of an interval such as ``300``, ``5m`` or ``every 5m``; None if unknown.

    A line may carry seconds and years after its five fields; they do not change when a run is late.
    """
    text = re.sub(r"^(every|interval[:=]?)\s*", "", (schedule or "").strip(), flags=re.IGNORECASE)
    if not text:
        return None
    try:
        if text.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(text)) or None
        fields = text.split()
        if len(fields) < 5:
            return timedelta(seconds=parse_duration(text)) or None
        return Cron.parse(" ".join(fields[:5])).period(now, zone)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _due_on(line: Cron, day: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Due instants of a local day on which the line is due; kept, for every evaluation of rules asks about the same days."""
    midnight = datetime(day.year, day.month, day.day)
    if len(line.hours) == _HOURS:
        start = _utc(midnight, zone, 0)
        length = int((_utc(midnight + DAY, zone, 0) - start) / MINUTE)
        wanted = set(line.minutes)
        instants = (start + n * MINUTE for n in range(length))
        return tuple(at for at in instants if at.replace(tzinfo=UTC).astimezone(zone).minute in wanted)
    times = (timedelta(hours=h, minutes=m) for h in line.hours for m in line.minutes)
    return tuple(sorted({_utc(midnight + time, zone, 1) for time in times}))


@lru_cache(maxsize=256)
def _parse(line: str) -> Cron:
    minute, hour, day, month, weekday = (
        _numbers(text, low, high) for text, (low, high) in zip(line.split(), CRON_RANGES, strict=True)
    )
    week = frozenset(number % 7 for number in weekday)
    return Cron(line, tuple(sorted(minute)), tuple(sorted(hour)), frozenset(day), frozenset(month), week)


def _numbers(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        ends = [low, high] if span == "*" else [_number(word) for word in span.split("-")]
        if len(ends) == 1:
            ends = [ends[0], high if step else ends[0]]
        found.update(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


def _number(word: str) -> int:
    return CRON_NAMES[word.lower()] if word.lower() in CRON_NAMES else int(word)


def _utc(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """UTC instant of a local time; one that does not exist is moved to the end of the gap."""
    aware = local.replace(tzinfo=zone, fold=fold)
    instant = aware.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local:
        instant = _gap_end(local, zone)
    return instant.replace(tzinfo=None)


def _gap_end(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clocks jump over ``local``."""
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)  # in a gap, fold 1 reads the offset after the jump
    after = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    while after - before > MINUTE:
        middle = before + ((after - before) // 2 // MINUTE) * MINUTE
        before, after = (middle, after) if middle.astimezone(zone).utcoffset() == offset else (before, middle)
    return after
