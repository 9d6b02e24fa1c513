"""Ranges of one mapped table that the source and the store select alike.

What belongs here: a range of time and row ids, its condition in the source's SQL and in DuckDB's, splitting it.
What does not: comparing and repairing (``reconcile``).

A range is a filter, not the proof: where the two sides disagree on which range a row is in (a float time, a zone's
repeated hour), the row is found by its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from monitoring_pipelines.entities import entities
from monitoring_pipelines.source.convert import END_OF_TIME, EPOCH, text_literal, timestamp_literal, zone_shifts
from monitoring_pipelines.source.select import NUMBER_TIMES, SelectPlan, TimeField

if TYPE_CHECKING:
    from monitoring_pipelines.source.inspect import TableInfo

#: Entities whose time column is a fact the store keeps when the source changes it (E-111), or that are always small.
WHOLE = frozenset({"worker", "job", "endpoint"})
_MICRO = timedelta(microseconds=1)
_PLAIN_TEXT_TIMES = ("naive_utc", "naive_local", "timestamp")


@dataclass(frozen=True)
class Range:
    """Rows with time in ``[start, end)`` (naive UTC) and row id in ``[low, high)``; None = no bound.

    ``undated`` selects the rows without a usable time instead.
    """

    start: datetime | None = None
    end: datetime | None = None
    low: int | None = None
    high: int | None = None
    undated: bool = False

    def parts(self, n: int) -> list[Range]:
        """The range in at most ``n`` parts, by row id if it is bounded by ids, else by time; ``[self]`` if atomic."""
        if self.low is not None and self.high is not None:
            cuts = _cuts(self.low, self.high, n)
            return [replace(self, low=a, high=b) for a, b in cuts]
        if self.start is not None and self.end is not None:
            span = (self.end - self.start) // _MICRO
            return [
                replace(self, start=self.start + timedelta(microseconds=a), end=self.start + timedelta(microseconds=b))
                for a, b in _cuts(0, span, n)
            ]
        return [self]

    def join(self, after: Range) -> Range | None:
        """Both as one range, if ``after`` begins where this one ends."""
        if self.low is not None and replace(after, low=self.low, high=self.high) == self and after.low == self.high:
            return replace(self, high=after.high)
        if (
            self.start is not None
            and replace(after, start=self.start, end=self.end) == self
            and after.start == self.end
        ):
            return replace(self, end=after.end)
        return None

    def __str__(self) -> str:
        words = []
        if self.undated:
            words.append("without time")
        if self.start is not None:
            words.append(f"{self.start:%Y-%m-%d %H:%M:%S}…{self.end:%H:%M:%S}")
        if self.low is not None:
            words.append(f"ids {self.low}…{self.high}")
        return ", ".join(words) or "whole table"


def _cuts(low: int, high: int, n: int) -> list[tuple[int, int]]:
    edges = sorted({low + (high - low) * i // n for i in range(n + 1)})
    return list(pairwise(edges)) or [(low, high)]


@dataclass(frozen=True)
class Scope:
    """One mapped table of one source, as both sides see it."""

    plan: SelectPlan
    source_id: str
    #: Unified time column both sides can search, None if there is none.
    time: TimeField | None
    #: An index serves ranges of ``time``.
    indexed: bool

    @classmethod
    def of(cls, plan: SelectPlan, source_id: str, info: TableInfo, name: str | None = None) -> Scope:
        """The scope of a planned table by its time column, or by another one called ``name``."""
        name = name or entities()[plan.entity].time_column
        found = plan.times.get(name) if name and plan.entity not in WHOLE else None
        if found is not None and found.dialect == "sqlite" and found.kind not in (*_PLAIN_TEXT_TIMES, *NUMBER_TIMES):
            found = None
        return cls(plan, source_id, found, found is not None and info.indexed(found.column))

    # -- the source's side --------------------------------------------------------------------------------------------

    def source_conditions(self, wanted: Range) -> list[str]:
        """Conditions of ``wanted`` in the source's SQL, the mapping's ``where`` not included."""
        tests = []
        if wanted.undated:
            assert self.time is not None
            inside = self._source_time(EPOCH, EPOCH + END_OF_TIME * _MICRO)
            tests.append(f"({self.time.sql} is null or not ({inside}))")
        elif wanted.start is not None and wanted.end is not None:
            tests.append(self._source_time(wanted.start, wanted.end))
        if wanted.low is not None and wanted.high is not None:
            tests.append(f"{self.plan.row_id_sql} >= {wanted.low:d} and {self.plan.row_id_sql} < {wanted.high:d}")
        return tests

    def _source_time(self, start: datetime, end: datetime) -> str:
        time = self.time
        assert time is not None
        if time.kind in NUMBER_TIMES:
            per_second = NUMBER_TIMES[time.kind]
            low, high = (Decimal((x - EPOCH) // _MICRO) * per_second / 1_000_000 for x in (start, end))
            column = f"cast({time.sql} as real)" if time.dialect == "sqlite" else time.sql
            return f"({column} >= {low:f} and {column} < {high:f})"
        sides = [self._wall_range(a, b) for a, b in _walls(time, start, end)]
        text = "(" + (" or ".join(sides) or "1 = 0") + ")"
        if time.dialect == "sqlite":
            return text
        # A zero month or day sorts between two real days and is no time (E-304).
        return f"({text} and month({time.sql}) > 0 and dayofmonth({time.sql}) > 0)"

    def _wall_range(self, low: datetime, high: datetime) -> str:
        time = self.time
        assert time is not None
        column = f"replace({time.sql}, 'T', ' ')" if time.dialect == "sqlite" else time.sql
        # Without a fraction when it is zero: text compares '06:00:00' below '06:00:00.000'.
        return f"({column} >= '{low.isoformat(sep=' ')}' and {column} < '{high.isoformat(sep=' ')}')"

    # -- the store's side ---------------------------------------------------------------------------------------------

    @property
    def store_table(self) -> str:
        """``raw.<entity>``, for workers only the newest life of each."""
        if self.plan.entity == "worker":
            return (
                "(SELECT * FROM raw.worker QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY life_no DESC) = 1)"
            )
        return f'raw."{self.plan.entity}"'

    def store_condition(self, wanted: Range) -> str:
        """Condition of the rows the store believes to exist at the source in ``wanted``, in DuckDB SQL."""
        tests = [
            f"source_id = {text_literal(self.source_id)}",
            f"src_table = {text_literal(self.plan.table)}",
            # Soft-deleted rows still exist at the source (E-611).
            "coalesce(deleted_reason, 'soft') = 'soft'",
        ]
        if self.plan.entity == "worker_snapshot":
            tests.append("origin = 'source'")
        if self.plan.entity == "task_output":
            tests.append("origin <> 'inline'")
        name = self.time.name if self.time is not None else ""
        if wanted.undated:
            tests.append(f'"{name}" IS NULL')
        elif wanted.start is not None and wanted.end is not None:
            tests.append(
                f'"{name}" >= {timestamp_literal(wanted.start)} AND "{name}" < {timestamp_literal(wanted.end)}'
            )
        if wanted.low is not None and wanted.high is not None:
            tests.append(f"row_id >= {wanted.low:d} AND row_id < {wanted.high:d}")
        return " AND ".join(tests)


def _walls(time: TimeField, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Wall-clock ranges whose values become instants in ``[start, end)`` by the rule of conversion (E-303)."""
    if time.kind != "naive_local":
        yield start, end
        return
    low, high = (start - EPOCH) // _MICRO, (end - EPOCH) // _MICRO
    shifts = zone_shifts(time.zone)
    pieces: list[tuple[int, int, int]] = []
    for i, (wall_from, wall_to, before, after) in enumerate(shifts):
        until = shifts[i + 1][0] if i + 1 < len(shifts) else 2**62
        pieces += [(wall_from, wall_to, before), (wall_to, until, after)]
    for wall_from, wall_to, offset in pieces:
        a, b = max(low + offset, wall_from), min(high + offset, wall_to)
        if a < b:
            yield EPOCH + a * _MICRO, EPOCH + b * _MICRO
