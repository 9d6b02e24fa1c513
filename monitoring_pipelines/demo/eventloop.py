"""The simulation clock: a deterministic queue of future happenings, and the rows that result.

What belongs here: time order, row buffers, delayed commits, text of instants. What does not: what happens
(``gpu_platform``, ``tktool``, ``collector``, ``scheduler``) and where rows go (``writers``).
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Row = tuple[Any, ...]
_EPOCH = datetime(1970, 1, 1)
_LOCAL_OFFSET_MS = 8 * 3_600_000  # Asia/Shanghai; no daylight saving since 1991
_MASK = (1 << 64) - 1


@dataclass
class Changes:
    """What one step of a simulation wrote: rows by table, in commit order.

    ``updates`` hold whole rows; the first column is the primary key.
    """

    inserts: dict[str, list[Row]] = field(default_factory=dict)
    updates: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows inserted and updated."""
        return sum(map(len, self.inserts.values())) + sum(map(len, self.updates.values()))


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch of a naive UTC (or zoned) instant."""
    if instant.tzinfo is not None:
        instant = instant.astimezone(UTC).replace(tzinfo=None)
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Naive UTC instant of milliseconds since the epoch."""
    return _EPOCH + timedelta(milliseconds=ms)


def scramble(number: int) -> int:
    """A 64-bit id that looks random and is unique per ``number`` (odd multipliers are bijections)."""
    return (number * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _MASK


def day_curve(ms: int) -> float:
    """Traffic relative to the daily mean: low at 03:00 and high at 15:00 in Asia/Shanghai."""
    hour = (ms + _LOCAL_OFFSET_MS) % 86_400_000 / 3_600_000
    return 1.0 + 0.75 * math.sin((hour - 9.0) / 24.0 * 2.0 * math.pi)


class EventLoop:
    """Base of the simulations: happenings in time order, equal instants in the order they were scheduled."""

    #: Name of the database (file or schema) the tables live in.
    database = ""

    def __init__(self, seed: int, start_ms: int) -> None:
        self.rng = random.Random(f"{seed}/{self.database}")  # noqa: S311 - a simulation, not a secret
        self.now = start_ms
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._delayed: list[tuple[int, int, str, Row]] = []
        self._sequence = 0
        self._inserts: dict[str, list[Row]] = {}
        self._seconds: dict[int, str] = {}

    def at(self, instant: int, action: Callable[..., None], *arguments: Any) -> None:
        """Schedule ``action(*arguments)``; ``self.now`` is ``instant`` when it runs."""
        self._sequence += 1
        heapq.heappush(self._queue, (instant, self._sequence, action, arguments))

    def advance(self, until: int) -> None:
        """Let everything happen up to and including ``until``."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until:
            self.now, _, action, arguments = pop(queue)
            action(*arguments)
        self.now = until

    def insert(self, table: str, row: Row, commit: int | None = None) -> None:
        """Write a row now, or with its transaction committing later at ``commit``."""
        if commit is None or commit <= self.now:
            self._inserts.setdefault(table, []).append(row)
        else:
            self._sequence += 1
            heapq.heappush(self._delayed, (commit, self._sequence, table, row))

    def take(self) -> Changes:
        """Rows committed up to now and not taken yet. Subclasses add their changed rows."""
        while self._delayed and self._delayed[0][0] <= self.now:
            _, _, table, row = heapq.heappop(self._delayed)
            self._inserts.setdefault(table, []).append(row)
        inserts, self._inserts = self._inserts, {}
        return Changes(inserts=inserts)

    def text(self, ms: int) -> str:
        """``YYYY-MM-DD hh:mm:ss.mmm`` in UTC."""
        second, fraction = divmod(ms, 1000)
        prefix = self._seconds.get(second)
        if prefix is None:
            if len(self._seconds) > 200_000:
                self._seconds.clear()
            prefix = self._seconds[second] = (_EPOCH + timedelta(seconds=second)).isoformat(" ")
        return f"{prefix}.{fraction:03d}"

    def optional_text(self, ms: int | None) -> str | None:
        """As ``text``; NULL stays NULL."""
        return None if ms is None else self.text(ms)
