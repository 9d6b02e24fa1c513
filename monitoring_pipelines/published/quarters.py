"""Completeness figures of one file's tasks by quarter of an hour, small enough to be remembered for years of files.

What belongs here: adding up quarters of a span. What does not: which files matter and what is counted from tasks at the
ends of a window (``completeness``).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta

from monitoring_pipelines.quality.figures import Figures
from monitoring_pipelines.warehouse.task_summaries import FIGURES

_MICROSECOND = timedelta(microseconds=1)


def _number(at: datetime) -> int:
    return (at - datetime.min) // _MICROSECOND


def _figures(values: Sequence[int]) -> Figures:
    return Figures(**dict(zip(FIGURES, values, strict=True)))


class Quarters:
    """Rows of a summary in ascending order of time, 72 bytes each."""

    def __init__(self) -> None:
        self._at = array("q")
        self._columns = tuple(array("q") for _ in FIGURES)

    def add(self, at: datetime, values: Sequence[int]) -> None:
        """Add the next quarter; ``values`` in the order of ``FIGURES``."""
        self._at.append(_number(at))
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def _span(self, start: datetime, end: datetime) -> tuple[int, int]:
        return bisect_left(self._at, _number(start)), bisect_left(self._at, _number(end))

    def total(self, start: datetime, end: datetime) -> Figures:
        """Figures of the quarters that begin in [start, end)."""
        first, last = self._span(start, end)
        if first >= last:
            return Figures()
        return _figures([sum(column[first:last]) for column in self._columns])
