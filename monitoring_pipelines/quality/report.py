"""The integrity report: a range of local days, before and after a date, change point, carriers, missing tasks.

What belongs here: putting the figures of a range together (C-108, C-109, S-232, S-604) and storing the report.
What does not: counting (``figures``), wording for terminals (``cli``) and pages (``api``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.quality import explain, figures, registry, runs, thresholds
from monitoring_pipelines.quality.change import Point, change_point, difference
from monitoring_pipelines.quality.context import CheckContext, Session
from monitoring_pipelines.quality.days import LocalDay, days_between, local_date, midnight
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
from monitoring_pipelines.quality.past import is_stored, read_period
from monitoring_pipelines.severity import health_of, rate_number, rounded, severity_of
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from monitoring_pipelines.config.schema import SourceSettings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore

Say = Callable[[str], None]
CHECK_ID = "integrity"
#: Days of a report without dates, today included.
DEFAULT_DAYS = 14
MOST_DAYS = 400
#: Missing tasks listed by a detailed report.
LISTED = 10_000


@dataclass(frozen=True)
class Range:
    """Local days ``first`` to ``last``, both included, and the day that splits them (C-108)."""

    first: date
    last: date
    split: date | None = None

    @classmethod
    def of(cls, now: datetime, zone: ZoneInfo, first: date | None, last: date | None, split: date | None) -> Range:
        """The range asked for, by default two weeks that contain the split or end today.

        Raises:
            UsageError: Reversed, too long, or a split outside.
        """
        today = local_date(now, zone)
        end = last or today
        start = first or min(end - timedelta(days=DEFAULT_DAYS - 1), split - timedelta(days=7) if split else end)
        if start > end:
            raise UsageError(f"the start date {start} is after the end date {end}")
        if (end - start).days >= MOST_DAYS:
            raise UsageError(f"{(end - start).days + 1} days are too many", f"at most {MOST_DAYS}")
        if split is not None and not start <= split <= end:
            raise UsageError(f"the split date {split} is not between {start} and {end}")
        return cls(start, end, split)


def integrity(
    pipe: Pipeline, state: StateStore, source: SourceSettings, wanted: Range, *, detailed: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The report of one source; stored as a run of type ``report``.

    Args:
        pipe: Configuration, warehouse, clock.
        state: Where the report is stored.
        source: The source.
        wanted: The days.
        detailed: List the missing tasks too.
        say: Called with lines of progress.

    Raises:
        SourceUnavailable: The period is not stored, or candidates could not be looked up.
        UsageError: Tasks and outputs of the source are not mapped.
    """
    from zoneinfo import ZoneInfo

    told = say or (lambda _line: None)
    zone = ZoneInfo(pipe.settings.timezone)
    now = pipe.clock.now()
    start = midnight(wanted.first, zone)
    end = min(midnight(wanted.last + timedelta(days=1), zone), now)
    known = is_stored(pipe, source.id, start)
    period = nullcontext(pipe.warehouse) if known else read_period(pipe, source, start, end, told)
    with period as warehouse:
        session = Session(warehouse)
        try:
            context = _context(pipe, state, source, session, start, max(end, start), told)
            answer = _report(context, wanted, detailed)
        finally:
            session.close()
    answer["read_from"] = "store" if known else "source"
    _store(state, now, pipe.clock.now(), source.id, context, answer)
    return answer


def _context(
    pipe: Pipeline,
    state: StateStore,
    source: SourceSettings,
    session: Session,
    start: datetime,
    end: datetime,
    say: Say,
) -> CheckContext:
    check = registry.checks()["missing_outputs"]
    mapped = runs.mapped_inputs(source, session)
    absent = check.missing_inputs(mapped)
    if absent:
        raise UsageError(f"{source.id}: not mapped: {', '.join(absent)}", "`mp validate` shows what a report needs")
    return CheckContext(
        check, pipe.settings, source, thresholds.effective(pipe.settings, state), pipe.clock.now(), start, end, session,
        run_type="report", lookup=runs.lookup_of(pipe, source), state=state, mapped=mapped, say_progress=say,
    )  # fmt: skip


def _report(ctx: CheckContext, wanted: Range, detailed: bool) -> dict[str, Any]:
    settings = ctx.settings.checks
    days = [day for day in days_between(wanted.first, wanted.last, ctx.zone) if day.start < ctx.window_to]
    total, left, by_day = figures.Figures(), list[str](), dict[date, figures.Figures]()
    for day in days:
        ctx.say_progress(f"{ctx.source_id}: {day.day}")
        counted, missing = figures.confirmed(ctx, day.start, min(day.end, ctx.window_to))
        by_day[day.day] = counted
        total += counted
        left += missing.keys[: LISTED - len(left)]
    points = [Point(day, by_day[day.day].success_tasks, by_day[day.day].tasks_with_outputs) for day in days]
    found = change_point(points, settings.change_point_min_points)
    n, w = total.success_tasks, total.tasks_with_outputs
    answer: dict[str, Any] = {
        "source_id": ctx.source_id, "timezone": ctx.settings.timezone,
        "start_date": wanted.first.isoformat(), "end_date": wanted.last.isoformat(),
        "window": {"from": ctx.window_from, "to": ctx.window_to},
        "metrics": total.as_metrics(), "health": health_of(w, n, ctx.bands), "severity": severity_of(w, n, ctx.bands),
        "split": _split(wanted.split, by_day) if wanted.split else None,
        "change_point": None if found is None else found.as_dict() | {"first": found.first.day.isoformat()},
        "daily": [_day(day, by_day[day.day]) for day in days],
    }  # fmt: skip
    answer["carried_by"] = _carried_by(ctx, found.first if found and found.direction == "decline" else None)
    if detailed:
        answer["missing"] = list(left)
        answer["missing_listed"] = len(left)
    return answer


def _split(split: date, by_day: dict[date, figures.Figures]) -> dict[str, Any]:
    """Before = earlier than the day's 00:00 local, after = from it on (C-108)."""
    sides = {
        "before": sum((counted for day, counted in by_day.items() if day < split), figures.Figures()),
        "after": sum((counted for day, counted in by_day.items() if day >= split), figures.Figures()),
    }
    counts = {name: (side.tasks_with_outputs, side.success_tasks) for name, side in sides.items()}
    apart = difference(counts["before"], counts["after"])
    shown: dict[str, Any] = {"date": split.isoformat(), "difference": None if apart is None else rounded(apart, 2)}
    for name, (complete, tasks) in counts.items():
        shown[name] = {"total": tasks, "with": complete, "rate": rate_number(complete, tasks)} if tasks else None
    return shown


def _day(day: LocalDay, counted: figures.Figures) -> dict[str, Any]:
    n, w = counted.success_tasks, counted.tasks_with_outputs
    return {
        "date": day.day.isoformat(), "total": n, "with": w, "missing": counted.missing_count, "rate": rate_number(w, n),
        "pending_settle": counted.pending_settle, "duplicate_rows": counted.duplicate_rows,
    }  # fmt: skip


def _carried_by(ctx: CheckContext, first: LocalDay | None) -> list[dict[str, Any]]:
    """What carries the loss since the change point, else over the whole range."""
    start = ctx.window_from if first is None else first.start
    changed_at = first.start if first is not None and first.start - figures.DAY >= ctx.window_from else None
    ranked = explain.carriers(ctx, start, ctx.window_to, changed_at)
    return [carrier.as_dict() for carrier in ranked if carrier.excess > 0][: explain.SHOWN]


def _store(
    state: StateStore, began: datetime, ended: datetime, source_id: str, ctx: CheckContext, answer: dict[str, Any]
) -> None:
    """Keep the report, so that it can be read again later; the list of missing tasks is not kept."""
    kept = {name: value for name, value in answer.items() if name != "missing"}
    hours = round((ctx.window_to - ctx.window_from) / timedelta(hours=1))
    run = CheckRun(
        new_id(began), "report", "manual", "running", began, began, None, ctx.window_from, ctx.window_to, hours
    )
    outcome = CheckOutcome(
        source_id, CHECK_ID, "findings" if answer["severity"] else "passed", ctx.window_from, ctx.window_to,
        answer["severity"], answer["health"], kept,
    )  # fmt: skip
    stored.start(state, run)
    stored.finish(state, replace(run, status="healthy", ended_at=ended, outcomes=(outcome,)))
