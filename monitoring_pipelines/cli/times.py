"""Times and days on the command line.

What belongs here: reading option values. What does not: the clock.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from monitoring_pipelines.errors import UsageError

DAY = timedelta(days=1)


def instant(text: str, option: str) -> datetime:
    """Naive UTC instant of ``2026-02-01`` (00:00 UTC) or an RFC 3339 text.

    Raises:
        UsageError: Neither of them.
    """
    from monitoring_pipelines.clock import parse_instant

    if len(text) == 10:
        return datetime.combine(day(text, option), datetime.min.time())
    try:
        return parse_instant(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", "a day like 2026-02-01, or 2026-02-01T10:00:00Z") from None


def day(text: str, option: str) -> date:
    """The UTC day ``text``; UsageError if it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: not a day: {text!r}", "write it like 2026-02-01") from None


def span(start: str, end: str, step: timedelta) -> tuple[datetime, datetime]:
    """[from, to) widened to whole buckets of ``step``.

    Raises:
        UsageError: Empty or reversed.
    """
    first, last = instant(start, "--from"), instant(end, "--to")
    if first >= last:
        raise UsageError(f"--from {start} is not before --to {end}", "--to is exclusive")
    first -= (first - datetime.min) % step
    rest = (last - datetime.min) % step
    return first, last + (step - rest if rest else timedelta(0))
