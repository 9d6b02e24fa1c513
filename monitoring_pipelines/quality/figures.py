"""Completeness figures of any window: the one count behind missing outputs, trend, split, change point and reports.

What belongs here: counting tasks with and without output, by hour, confirmed at the source (E-612).
What does not: bands and alerts made of the figures (``quality.checks``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.severity import rate_number, rate_text, rounded

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.source.lookup import SourceTask

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: Windows are counted in pieces of this length, so that neither memory nor the time the warehouse is held grows with them.
CHUNK = DAY / 2
#: Outputs are looked for from this long before the oldest task of the window on: clocks and zones may be wrong by hours.
OUTPUT_SLACK = DAY
#: Candidates asked for at the source in one connection, and in all; beyond it the reconciled store is believed.
LOOKUP_BATCH = 5_000
LOOKUP_MOST = 50_000


@dataclass(frozen=True)
class Figures:
    """Exact counts of one window (M §7.1). ``success_tasks`` are the settled ones: the denominator."""

    total_tasks: int = 0
    success_tasks: int = 0
    pending_settle: int = 0
    tasks_with_outputs: int = 0
    total_outputs: int = 0
    distinct_outputs: int = 0
    invalid_outputs: int = 0
    no_end_time: int = 0
    delay_population: int = 0
    delayed_tasks: int = 0
    #: Tasks with a time that cannot be, or an output from before their start: ``hygiene`` looks closer.
    odd_times: int = 0
    #: Longest time from a task's end to one of its outputs, microseconds; None without outputs.
    max_delay_us: int | None = None

    def __add__(self, other: Figures) -> Figures:
        total = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        known = [us for us in (self.max_delay_us, other.max_delay_us) if us is not None]
        return Figures(**total, max_delay_us=max(known, default=None))

    @property
    def missing_count(self) -> int:
        """Settled tasks without valid output."""
        return self.success_tasks - self.tasks_with_outputs

    @property
    def duplicate_rows(self) -> int:
        """Valid rows beyond the first of each natural key (C-110)."""
        return self.total_outputs - self.distinct_outputs

    @property
    def rate(self) -> Fraction | None:
        """Share with output in percent, exact; None without tasks."""
        return Fraction(100 * self.tasks_with_outputs, self.success_tasks) if self.success_tasks else None

    def as_metrics(self) -> dict[str, Any]:
        """All figures under the names of S-412."""
        n, w = self.success_tasks, self.tasks_with_outputs
        mean = Fraction(self.total_outputs, w) if w else None
        return {name: getattr(self, name) for name in _SHOWN} | {
            "missing_count": self.missing_count,
            "completion_rate": rate_text(w, n),
            "completion_rate_value": rate_number(w, n),
            "missing_rate": rate_text(self.missing_count, n),
            "missing_rate_value": rate_number(self.missing_count, n),
            "duplicate_rows": self.duplicate_rows,
            "avg_outputs_per_task": None if mean is None else f"{rounded(mean, 1):.1f}",
            "avg_outputs_per_task_value": None if mean is None else rounded(mean, 4),
        }


_SUMMED = tuple(f.name for f in fields(Figures) if f.name != "max_delay_us")
_SHOWN = _SUMMED[: _SUMMED.index("delay_population")]


@dataclass(frozen=True)
class Missing:
    """Tasks without output, oldest first. ``keys`` may be fewer than ``count``."""

    count: int
    keys: tuple[str, ...]


def hourly(ctx: CheckContext, start: datetime, end: datetime) -> dict[datetime, Figures]:
    """Figures by hour, counted from ``start``; hours without task are absent. Each hour's key is its start, UTC."""
    found: dict[datetime, Figures] = {}
    for piece in chunks(start, end):
        key = ("hourly", *piece)
        if key not in ctx.memo:
            ctx.memo[key] = _counted(ctx, *piece)
        found |= ctx.memo[key]
    return dict(sorted(found.items()))


def _counted(ctx: CheckContext, start: datetime, end: datetime) -> dict[datetime, Figures]:
    """Figures of one piece by hour, and its tasks without output for ``missing_tasks``.

    Only tasks with more than two rows need their keys to be told apart.
    """
    parameters = {"window_start": start, "window_end": end, **limits(ctx, start, end)}
    found: dict[datetime, Figures] = {}
    many = 0
    with ctx.facts("task_fact", **parameters):
        for row in ctx.rows("completeness", delay_us=delay_us(ctx)):
            many += row.pop("many_rows")
            hour = start + HOUR * row.pop("hour_no")
            found[hour] = Figures(**row)
        for row in ctx.rows("distinct_outputs", **parameters) if many else ():
            hour = start + HOUR * row["hour_no"]
            found[hour] += Figures(distinct_outputs=row["more"])
        lost = sum(figure.missing_count for figure in found.values())
        rows = ctx.rows("missing_facts") if lost else []
    ctx.memo[("missing", start, end)] = [(row["end_us"], row["task_hash"]) for row in rows]
    return found


def history(ctx: CheckContext, start: datetime, end: datetime) -> list[tuple[datetime, int, int]]:
    """(hour, settled tasks, those with output) of a past stretch, hours with tasks only, oldest first.

    Taken from the hourly statistics where these hold whole hours and nothing waits to be restated, else counted.
    """
    key = ("history", start, end)
    if key not in ctx.memo:
        cut = min(_in_statistics_until(ctx, start), end)
        found: list[tuple[datetime, int, int]] = []
        if cut > start:
            rows = ctx.rows("history_hours", window_start=start, window_end=cut)
            found = [(row["at"], row["total"], row["complete"]) for row in rows]
        if max(cut, start) < end:
            hours = hourly(ctx, max(cut, start), end).items()
            found += [(at, f.success_tasks, f.tasks_with_outputs) for at, f in hours if f.success_tasks]
        ctx.memo[key] = found
    return ctx.memo[key]


def _in_statistics_until(ctx: CheckContext, start: datetime) -> datetime:
    """The hour up to which the statistics hold everything from ``start`` on as it is now; ``start`` if they do not."""
    exists = (
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'mart' "
        "AND table_name = 'output_hourly_stats'"
    )
    if "statistics" not in ctx.memo:
        ctx.memo["statistics"] = bool(ctx.session.query(exists)[0][0])
    if not ctx.memo["statistics"] or (start - datetime.min) % HOUR:
        return start
    rows = ctx.rows("settled_history", window_start=start)
    return rows[0]["until"] if rows and rows[0]["until"] else start


def figures(ctx: CheckContext, start: datetime, end: datetime) -> Figures:
    """Figures of ``[start, end)`` as the store has them."""
    return sum(hourly(ctx, start, end).values(), Figures())


def missing_tasks(ctx: CheckContext, start: datetime, end: datetime) -> list[int]:
    """Numbers of the tasks of at most one piece that have no output in the store; of a window the run has counted they
    are known already.
    """
    pieces = sorted(key[1:] for key in ctx.memo if isinstance(key, tuple) and key[0] == "missing")
    reached = start
    for first, last in pieces:
        if first <= reached:
            reached = max(reached, last)
    if reached < end:
        found = ctx.rows("missing_tasks", window_start=start, window_end=end, **limits(ctx, start, end))
        ctx.memo[("missing", start, end)] = [(row["end_us"], row["task_hash"]) for row in found]
        pieces = [(start, end)]
    low, high = ((at - datetime(1970, 1, 1)) // timedelta(microseconds=1) for at in (start, end))
    pairs = (pair for piece in pieces for pair in ctx.memo[("missing", *piece)])
    return sorted({task_hash for end_us, task_hash in pairs if low <= end_us < high})


def missing_keys(ctx: CheckContext, start: datetime, end: datetime, most: int) -> dict[str, str | None]:
    """Keys of tasks without output as the store has them, oldest first, with the status their row shows."""
    keys: dict[str, str | None] = {}
    for first, last in chunks(start, end):
        hashes = missing_tasks(ctx, first, last)
        window = {"window_start": first, "window_end": last, "hashes": hashes, "most": most - len(keys)}
        keys |= {row["task_key"]: row["row_status"] for row in (ctx.rows("named_tasks", **window) if hashes else ())}
        if len(keys) >= most:
            break
    return keys


def confirmed(ctx: CheckContext, start: datetime, end: datetime) -> tuple[Figures, Missing]:
    """Figures after the candidates for missing outputs were looked up once more at the source (E-612).

    A candidate that has an output by now counts as complete; one that no longer exists, was deleted or is not succeeded
    any more leaves the window.

    Raises:
        SourceUnavailable: Nothing can be said about the candidates.
    """
    key = ("confirmed", start, end)
    if key not in ctx.memo:
        counted = figures(ctx, start, end)
        statuses = missing_keys(ctx, start, end, LOOKUP_MOST) if counted.missing_count else {}
        keys = list(statuses)
        placeholders = _placeholders(ctx) if keys and ctx.lookup else frozenset()
        ctx.session.close()  # nobody waits for the warehouse while the source is asked
        gone: set[str] = set()
        for at in range(0, len(keys), LOOKUP_BATCH) if ctx.lookup else ():
            chunk = keys[at : at + LOOKUP_BATCH]
            found = ctx.lookup(chunk) if ctx.lookup else {}
            for task_key in chunk:
                change = _now_at_source(ctx, found.get(task_key), statuses[task_key], placeholders)
                if change is not None:
                    counted += change
                    gone.add(task_key)
            ctx.say_progress(f"{ctx.source.id}: {min(at + LOOKUP_BATCH, len(keys)):,} of {len(keys):,} looked up")
        left = tuple(task_key for task_key in keys if task_key not in gone)
        ctx.memo[key] = (counted, Missing(counted.missing_count, left))
    return ctx.memo[key]


def chunks(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """``[start, end)`` in pieces of at most a day, oldest first."""
    while start < end:
        stop = min(start + CHUNK, end)
        yield start, stop
        start = stop


def delay_us(ctx: CheckContext) -> int:
    """Time after a task's end from which on an output is late (C-104), microseconds."""
    return int(timedelta(seconds=ctx.settings.checks.delay_s) / timedelta(microseconds=1))


def latest(ctx: CheckContext) -> datetime:
    """Times after this one lie in the future (E-306)."""
    return ctx.now + timedelta(seconds=ctx.settings.extract.future_tolerance_s)


def limits(ctx: CheckContext, start: datetime, end: datetime) -> dict[str, Any]:
    """The parameters ``settle_us``, ``outputs_from`` and ``latest`` of a window."""
    key = ("oldest", start, end)
    if key not in ctx.memo:
        ctx.memo[key] = ctx.row("oldest_task", window_start=start, window_end=end)["created_at"]
    oldest = ctx.memo[key]
    return {
        "settle_us": int(ctx.settle / timedelta(microseconds=1)),
        "outputs_from": min(oldest or start, start) - OUTPUT_SLACK,
        "latest": latest(ctx),
    }


def _placeholders(ctx: CheckContext) -> frozenset[str]:
    """Outputs of the source that stand for no file (E-102): the source itself does not tell them from others."""
    query = "SELECT output_key FROM meta.repaired_output WHERE source_id = ? AND origin = 'placeholder'"
    return frozenset(key for (key,) in ctx.session.query(query, [ctx.source_id]))


def _now_at_source(
    ctx: CheckContext, found: SourceTask | None, row_status: str | None, placeholders: frozenset[str]
) -> Figures | None:
    """What the source's answer changes about a task that the store has as missing; None: it is missing there too.

    A status counts only where the store's row said succeeded: elsewhere events or outputs decide it.
    """
    if row_status is None and found is None:
        return None  # known by its events only, or removed by the source's retention
    if found is None or found.task["is_deleted"]:
        return Figures(total_tasks=-1, success_tasks=-1)
    if row_status == "succeeded" and found.task["status"] != "succeeded":
        return Figures(success_tasks=-1)
    rows = (row for row in found.outputs if row["output_key"] not in placeholders)
    horizon = latest(ctx)
    valid = [
        row for row in rows
        if row["valid"] and not row["is_deleted"] and (row.get("created_at") is None or row["created_at"] <= horizon)
    ]  # fmt: skip
    # The size of an inline output is not known: where one is asked for, it is not valid.
    inline = found.has_inline_output and ctx.source.min_output_bytes is None
    if not valid and not inline:
        return None
    distinct = len({row["natural_key"] for row in valid})
    return Figures(tasks_with_outputs=1, total_outputs=len(valid) or 1, distinct_outputs=distinct or 1)
