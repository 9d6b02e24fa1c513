"""The one place where the product asks what time it is (E-005).

What belongs here: clocks and the reading of ``--now`` / ``MP_NOW``.
What does not: measuring how long something took (``time.perf_counter``) and conversion of source times (``source``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from monitoring_pipelines.errors import UsageError

#: Environment variable that fixes the time, as RFC 3339 text (E-005).
NOW_VARIABLE = "MP_NOW"


class Clock(Protocol):
    """Anything that knows the time."""

    def now(self) -> datetime:
        """The present instant as a naive ``datetime`` in UTC, microsecond resolution."""
        ...


class SystemClock:
    """The machine's clock, read as UTC whatever the process or host time zone is."""

    def now(self) -> datetime:
        """The present instant as a naive ``datetime`` in UTC."""
        return datetime.now(UTC).replace(tzinfo=None)


@dataclass
class FixedClock:
    """A clock that stands still until it is moved; for tests and replays (E-005)."""

    instant: datetime

    def __post_init__(self) -> None:
        if self.instant.tzinfo is not None:
            self.instant = self.instant.astimezone(UTC).replace(tzinfo=None)

    def now(self) -> datetime:
        """The fixed instant as a naive ``datetime`` in UTC."""
        return self.instant

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds`` (negative: back)."""
        self.instant += timedelta(seconds=seconds)


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant and return it as naive UTC.

    Args:
        text: For example ``2026-02-01T10:00:00Z`` or ``2026-02-01T18:00:00+08:00``. The offset is required, because
            a time without one would depend on the reader's zone.

    Raises:
        UsageError: ``text`` is no instant, or has no offset.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(f"not an RFC 3339 time: {text!r}", "write it like 2026-02-01T10:00:00Z") from error
    if instant.tzinfo is None:
        raise UsageError(f"time without offset: {text!r}", "add Z for UTC, for example 2026-02-01T10:00:00Z")
    return instant.astimezone(UTC).replace(tzinfo=None)


def current_clock(now: str | None = None) -> Clock:
    """The clock every component uses: fixed by ``now`` or ``MP_NOW``, else the system's (E-005).

    Args:
        now: RFC 3339 text of the ``--now`` option; wins over the environment variable.

    Raises:
        UsageError: The given time cannot be read.
    """
    text = now or os.environ.get(NOW_VARIABLE)
    return FixedClock(parse_instant(text)) if text else SystemClock()
