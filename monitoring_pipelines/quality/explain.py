"""Since when outputs are missing, and what carries the loss: the one answer of findings, pages, reports and commands.

What belongs here: dating a decline to the hour where hours allow it, and ranking endpoints, workers and the like by
their share of the loss against their share of the traffic. What does not: whether a finding is due (``checks``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality import figures
from monitoring_pipelines.quality.change import ChangePoint, Point, change_point
from monitoring_pipelines.quality.days import LocalDay, complete_days, local_date, local_day, midnight
from monitoring_pipelines.severity import rate_number, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring_pipelines.quality.context import CheckContext

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
#: Hours date a decline only if so many of them have tasks, and the usual hour has so many tasks.
LEAST_HOURS = 6
LEAST_TASKS_PER_HOUR = 5
#: Values shown per dimension, and over all dimensions.
SHOWN = 3
DIMENSIONS = ("endpoint", "worker", "path", "origin", "status", "hour_of_day")


@dataclass(frozen=True)
class Since:
    """When the decline began. ``precision``: ``hour`` or ``day``; rates are exact percentages."""

    at: datetime
    precision: str
    before: Fraction
    after: Fraction

    def as_dict(self, ctx: CheckContext) -> dict[str, Any]:
        """For the details of findings."""
        local = self.at.replace(tzinfo=UTC).astimezone(ctx.zone)
        return {
            "at": self.at, "at_local": f"{local:%Y-%m-%d %H:%M:%S}", "precision": self.precision,
            "before_rate": rounded(self.before, 2), "after_rate": rounded(self.after, 2),
        }  # fmt: skip


@dataclass(frozen=True)
class Carrier:
    """One value of one dimension: its tasks and missing tasks, and the whole's."""

    dimension: str
    value: str | None
    tasks: int
    missing: int
    all_tasks: int
    all_missing: int
    #: (tasks, missing) in the time before the decline; None when unknown.
    earlier: tuple[int, int] | None = None

    @property
    def excess(self) -> Fraction:
        """Share of the loss minus share of the traffic."""
        return Fraction(self.missing, self.all_missing) - Fraction(self.tasks, self.all_tasks)

    def as_dict(self) -> dict[str, Any]:
        """Shares and rates in percent, two decimals."""
        tasks, missing = self.earlier or (0, 0)
        return {
            "dimension": self.dimension, "value": self.value, "tasks": self.tasks, "missing": self.missing,
            "share_of_loss": rate_number(self.missing, self.all_missing),
            "share_of_traffic": rate_number(self.tasks, self.all_tasks),
            "missing_rate": rate_number(self.missing, self.tasks),
            "missing_rate_before": rate_number(missing, tasks),
        }  # fmt: skip


def explain(ctx: CheckContext, days: int) -> dict[str, Any]:
    """``since`` and ``carried_by`` for the details of a finding about missing outputs.

    Args:
        ctx: The check; its window ends where the answer ends.
        days: How many complete local days to look back.

    Returns:
        ``since`` (None if no decline can be dated), ``worst_endpoint``, ``carried_by``: the values that carry most of the loss beyond
        their share of the traffic; ``contributions``: per dimension the first values.
    """
    found = since(ctx, days)
    end = ctx.window_to
    start = ctx.window_from if found is None else max(found.at, end - DAY)
    ranked = carriers(ctx, start, end, found.at if found else None)
    by_dimension = {
        name: [carrier.as_dict() for carrier in ranked if carrier.dimension == name][:SHOWN] for name in DIMENSIONS
    }
    endpoints = [
        (value, counts) for (name, value), counts in _contributions(ctx, start, end).items() if name == "endpoint"
    ]
    worst = max(endpoints, key=lambda one: one[1][1], default=None)
    return {
        "since": found.as_dict(ctx) if found else None,
        "worst_endpoint": worst and {"endpoint": worst[0], "tasks": worst[1][0], "missing": worst[1][1]},
        "carried_by": [carrier.as_dict() for carrier in ranked if carrier.excess > 0][:SHOWN],
        "contributions": {name: values for name, values in by_dimension.items() if values},
    }


def since(ctx: CheckContext, days: int) -> Since | None:
    """When the present decline began (C-109 by local day, then by hour); None if there is none to be seen."""
    least = ctx.settings.checks.change_point_min_points
    today = local_day(local_date(ctx.window_to, ctx.zone), ctx.zone)
    looked_at = [*complete_days(ctx.window_to, days, ctx.zone), today]
    by_day = change_point([_day_point(ctx, day) for day in looked_at], least)
    if by_day is None or by_day.direction == "rise":
        by_hour = change_point(_hours(ctx, looked_at[-2].start, ctx.window_to), least)
        return _since(by_hour, "hour")
    first = by_day.first
    refined = change_point(_hours(ctx, first.start - DAY, min(first.end + DAY, ctx.window_to)), least)
    # An hour of the day before may be where it began: a day that lost its evening still looks good as a whole.
    if refined is not None and refined.direction == "decline" and refined.first < first.end:
        return Since(refined.first, "hour", by_day.before, by_day.after)
    return Since(first.start, "day", by_day.before, by_day.after)


def carriers(ctx: CheckContext, start: datetime, end: datetime, changed_at: datetime | None) -> list[Carrier]:
    """All values of dimensions with more than one, those with the greatest excess first.

    Args:
        ctx: The check.
        start: Begin of the tasks looked at.
        end: Their end.
        changed_at: When the decline began: the day before it is compared. None: nothing is compared.
    """
    now = _contributions(ctx, start, end)
    before = _contributions(ctx, changed_at - DAY, changed_at) if changed_at else {}
    found = []
    for dimension in DIMENSIONS:
        values = {value: counts for (name, value), counts in now.items() if name == dimension}
        tasks, missing = (sum(column) for column in zip(*values.values(), strict=True)) if values else (0, 0)
        if len(values) < 2 or not missing:
            continue
        for value, (own_tasks, own_missing) in values.items():
            earlier = before.get((dimension, value)) if changed_at else None
            found.append(Carrier(dimension, value, own_tasks, own_missing, tasks, missing, earlier))
    order = {name: number for number, name in enumerate(DIMENSIONS)}
    return sorted(found, key=lambda c: (-c.excess, -c.missing, order[c.dimension], c.value or ""))


def day_points(ctx: CheckContext, days: Sequence[LocalDay]) -> list[Point[LocalDay]]:
    """Counts of local days, those without tasks too."""
    return [_day_point(ctx, day) for day in days]


def _day_point(ctx: CheckContext, day: LocalDay) -> Point[LocalDay]:
    end = min(day.end, max(ctx.window_to, day.start))
    hours = figures.history(ctx, day.start, end)
    return Point(day, sum(total for _, total, _ in hours), sum(complete for _, _, complete in hours))


def _hours(ctx: CheckContext, start: datetime, end: datetime) -> list[Point[datetime]]:
    """Hours with tasks; nothing if too few of them or too few tasks to say anything.

    Counted per local day, so that days the run has counted already cost nothing.
    """
    points: list[Point[datetime]] = []
    day = local_date(start, ctx.zone)
    while midnight(day, ctx.zone) < end:
        span = local_day(day, ctx.zone)
        hours = figures.history(ctx, span.start, min(span.end, max(ctx.window_to, span.start)))
        points += [Point(at, total, complete) for at, total, complete in hours]
        day += DAY
    inside = [point for point in points if start <= point.label < end]
    usual = sorted(point.total for point in inside)[len(inside) // 2] if inside else 0
    return inside if len(inside) >= LEAST_HOURS and usual >= LEAST_TASKS_PER_HOUR else []


def _since(found: ChangePoint[datetime] | None, precision: str) -> Since | None:
    if found is None or found.direction == "rise":
        return None
    return Since(found.first, precision, found.before, found.after)


def _contributions(ctx: CheckContext, start: datetime, end: datetime) -> dict[tuple[str, str | None], tuple[int, int]]:
    memo = ("contributions", start, end)
    if memo in ctx.memo:
        return ctx.memo[memo]
    total: dict[tuple[str, str | None], tuple[int, int]] = {}
    first_midnight = midnight(local_date(start, ctx.zone), ctx.zone)
    for first, last in figures.chunks(start, end):
        window = {"window_start": first, "window_end": last, "midnight": first_midnight}
        lost = figures.missing_tasks(ctx, first, last)
        for row in ctx.rows("contribution", **window, missing=lost, **figures.limits(ctx, first, last)):
            key = row["dimension"], row["value"]
            tasks, missing = total.get(key, (0, 0))
            total[key] = tasks + row["tasks"], missing + row["missing"]
    ctx.memo[memo] = total
    return total
