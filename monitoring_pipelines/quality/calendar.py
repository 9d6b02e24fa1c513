"""What became of due times: which were missed during downtime and must be recorded (C-021 to C-023).

What belongs here: pure decisions over due times. What does not: cron lines (``cron``), storing what was decided
(``state``), and starting the catch-up run (``orchestration``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

#: A run may start this much later than it was due; after that the due time is missed and its run is not made any more.
LATE = timedelta(seconds=300)
#: Older due times are summed up in one row (C-023).
SINGLE_WITHIN = timedelta(hours=24)


@dataclass(frozen=True)
class Missed:
    """One row to record: a due time, or ``count`` of them of which ``scheduled_at`` is the newest."""

    scheduled_at: datetime
    count: int = 1


def is_too_late(due: datetime, now: datetime) -> bool:
    """Whether a run that was due at ``due`` must not be started any more: it is missed and caught up instead."""
    return now - due > LATE


def missed(due: Sequence[datetime], handled: Collection[datetime], now: datetime) -> list[Missed]:
    """Due times that became neither a run nor a skipped run (C-023), oldest first.

    Args:
        due: Due times since the last one that is known, naive UTC.
        handled: Due times that have a row already, whatever its status.
        now: The present; due times that may still start on time are left out.

    Returns:
        At most one summary of those older than 24 h, then one row for each later one.
    """
    lost = sorted({at for at in due if is_too_late(at, now)} - set(handled))
    old = [at for at in lost if now - at > SINGLE_WITHIN]
    summary = [Missed(old[-1], len(old))] if old else []
    return summary + [Missed(at) for at in lost[len(old) :]]
