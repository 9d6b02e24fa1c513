"""Since when: the split of a series of rates that explains it best (C-109), and before/after of a date (C-108).

What belongs here: exact arithmetic over counted points. What does not: reading counts (``figures``), who carries a loss
(``explain``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Literal, TypeVar

from monitoring_pipelines.severity import rounded

Label = TypeVar("Label")
#: A series needs this many points with tasks (C-109).
MIN_POINTS = 3


@dataclass(frozen=True)
class Point(Generic[Label]):
    """One bucket with tasks: what it is called, how many tasks, how many of them with output."""

    label: Label
    total: int
    complete: int

    @property
    def rate(self) -> Fraction:
        """Percent, exact."""
        return Fraction(100 * self.complete, self.total)


@dataclass(frozen=True)
class ChangePoint(Generic[Label]):
    """The first bucket of the second segment, and the unweighted mean rates of both segments, exact."""

    first: Label
    before: Fraction
    after: Fraction

    @property
    def direction(self) -> Literal["decline", "rise"]:
        """Which way the rate went."""
        return "decline" if self.after < self.before else "rise"

    @property
    def points(self) -> Fraction:
        """How far, in percentage points, signed."""
        return self.after - self.before

    def as_dict(self) -> dict[str, object]:
        """Rounded to two decimals (C-003)."""
        return {
            "first": self.first, "before_rate": rounded(self.before, 2), "after_rate": rounded(self.after, 2),
            "difference": rounded(self.points, 2), "direction": self.direction,
        }  # fmt: skip


def change_point(points: Sequence[Point[Label]], min_points: float = 20) -> ChangePoint[Label] | None:
    """The split k that maximises (k·(n−k)/n)·(mean₁−mean₂)², the earliest on ties (C-109).

    Args:
        points: Buckets in order of time; those without tasks count as absent.
        min_points: Least difference of the means that is reported, percentage points.

    Returns:
        None with fewer than three buckets, or when the means differ by less.
    """
    rates = [point.rate for point in points if point.total]
    labels = [point.label for point in points if point.total]
    n = len(rates)
    if n < MIN_POINTS:
        return None
    whole = sum(rates, Fraction(0))
    best: tuple[Fraction, int, Fraction, Fraction] | None = None
    left = Fraction(0)
    for k in range(1, n):
        left += rates[k - 1]
        before, after = left / k, (whole - left) / (n - k)
        score = Fraction(k * (n - k), n) * (before - after) ** 2
        if best is None or score > best[0]:
            best = score, k, before, after
    assert best is not None
    _, k, before, after = best
    if abs(before - after) < Fraction(str(min_points)):
        return None
    return ChangePoint(labels[k], before, after)


def difference(before: tuple[int, int], after: tuple[int, int]) -> Fraction | None:
    """After minus before in percentage points; each side is (with output, tasks); None if a side has no tasks (C-108)."""
    if not before[1] or not after[1]:
        return None
    return Fraction(100 * after[0], after[1]) - Fraction(100 * before[0], before[1])
