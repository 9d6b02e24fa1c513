"""Slopes, classes of trends, and rates of counters (C-441, C-450).

What belongs here: exact arithmetic on a few samples. What does not: where samples come from, and alerts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Literal

#: Samples a trend is taken from.
SAMPLES = 10
RATE_WINDOW = timedelta(seconds=300)

TrendClass = Literal[
    "rapidly_increasing", "slowly_increasing", "stable", "slowly_decreasing", "rapidly_decreasing", "insufficient_data"
]


@dataclass(frozen=True)
class Trend:
    """Slope per sample and what it is called; slope None: too few samples."""

    name: TrendClass
    slope: Fraction | None


def slope(values: Sequence[Fraction | int]) -> Fraction:
    """Least-squares slope per sample of at least two values, exact."""
    n = len(values)
    # Twice the distance from the middle is whole, so that whole values stay whole up to the division.
    total = sum((2 * i - n + 1) * value for i, value in enumerate(values))
    return Fraction(total) / Fraction(n * (n * n - 1), 6)


def trend(values: Sequence[Fraction | int], slow: Fraction, rapid: Fraction, scale: Fraction | int = 1) -> Trend:
    """Class of the last ten measured values (C-450).

    Args:
        values: Measured values, oldest first.
        slow: From this slope on (inclusive) it is slow growth.
        rapid: Above this slope (strict) it is rapid growth.
        scale: What a value is multiplied with to be in the metric's unit.
    """
    if len(values) < SAMPLES:
        return Trend("insufficient_data", None)
    found = slope(values[-SAMPLES:]) * scale
    if abs(found) < slow:
        return Trend("stable", found)
    if found > 0:
        return Trend("rapidly_increasing" if found > rapid else "slowly_increasing", found)
    return Trend("rapidly_decreasing" if found < -rapid else "slowly_decreasing", found)


def rate(points: Sequence[tuple[datetime, Fraction | int]], at: datetime) -> Fraction | None:
    """Growth per second of a counter over the 300 s up to ``at`` (C-441).

    A smaller value than the one before means that the counter began again at 0; an increment that reaches out of the
    window counts in proportion to time (M-701). With less history the span since the first sample is taken.

    Args:
        points: (instant, value), oldest first, those before the window included.
        at: End of the window, naive UTC.

    Returns:
        Per second; None with fewer than two samples.
    """
    known = [point for point in points if point[0] <= at]
    if len(known) < 2:
        return None
    start = max(at - RATE_WINDOW, known[0][0])
    whole: Fraction | int = 0
    part = Fraction()
    for (before_at, before), (after_at, after) in itertools.pairwise(known):
        if after_at <= start:
            continue
        increase = after - before if after >= before else after
        if before_at >= start:
            whole += increase
        else:
            part += increase * Fraction((after_at - start) // _TICK, (after_at - before_at) // _TICK)
    span = at - start
    return (whole + part) / Fraction(span // _TICK, 1_000_000) if span > timedelta(0) else None


_TICK = timedelta(microseconds=1)
