"""Checks of one window of tasks and their outputs (C-101, C-104, C-107, C-110).

What belongs here: what is missing, late or double. What does not: several days (``history``), rows that do not fit
(``hygiene``), counting itself (``figures``).
"""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality import figures
from monitoring_pipelines.quality.checks.history import trend_days
from monitoring_pipelines.quality.explain import explain
from monitoring_pipelines.quality.flow import HOUR, flow
from monitoring_pipelines.severity import health_of, rate_text, rounded, severity_of

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome


def missing_outputs(ctx: CheckContext) -> CheckOutcome:
    """Settled succeeded tasks without valid output, by the bands (C-101, C-002); health of the source (C-103)."""
    counted, missing = figures.confirmed(ctx, ctx.window_from, ctx.window_to)
    n, w = counted.success_tasks, counted.tasks_with_outputs
    metrics = counted.as_metrics() | {"time_range_hours": ctx.hours}
    health = health_of(w, n, ctx.bands)
    severity = severity_of(w, n, ctx.bands)
    if n == 0:
        return ctx.outcome("insufficient_data", metrics=metrics, health=health)
    if severity is None:
        return ctx.outcome(metrics=metrics, health=health)
    rate = rate_text(missing.count, n)
    details: dict[str, Any] = {
        "time_range_hours": ctx.hours, "total_success_tasks": n, "missing_count": missing.count, "missing_rate": rate,
        "pending_settle": counted.pending_settle,
    }  # fmt: skip
    message = ctx.say(
        f"过去 {ctx.hours} 小时的 {n} 个成功任务中有 {missing.count} 个没有输出（{rate}）",
        f"{missing.count} of {n} succeeded tasks of the last {ctx.hours} h have no output ({rate})",
    )
    # A quick run looks back two days at most: it must stay quick while a loss goes on.
    details |= explain(ctx, 1 if ctx.run_type == "quick" else trend_days(ctx))
    found = ctx.finding(severity, message, details, missing.keys)
    return ctx.outcome(findings=[found], metrics=metrics, health=health)


def creation_delay(ctx: CheckContext) -> CheckOutcome:
    """Tasks of the last day with an output that came too long after their end (C-104)."""
    settings = ctx.settings.checks
    start = ctx.window_to - timedelta(hours=settings.delay_window_h)
    counted = figures.figures(ctx, start, ctx.window_to)
    n, late = counted.delay_population, counted.delayed_tasks
    longest = None if counted.max_delay_us is None else rounded(Fraction(counted.max_delay_us, 10**6), 3)
    minutes = rounded(Fraction(str(settings.delay_s)) / 60, 2)
    metrics = {
        "delay_threshold_minutes": int(minutes) if minutes == int(minutes) else minutes, "total_recent_tasks": n,
        "delayed_count": late, "max_delay_s": longest,
    }  # fmt: skip
    if n == 0:
        return ctx.outcome("insufficient_data", metrics=metrics, window_from=start)
    severity = severity_of(n - late, n, ctx.bands)
    if severity is None:
        return ctx.outcome(metrics=metrics, window_from=start)
    message = ctx.say(
        f"{n} 个任务中有 {late} 个的输出晚于 {metrics['delay_threshold_minutes']} 分钟才写入",
        f"outputs of {late} of {n} tasks came more than {metrics['delay_threshold_minutes']} min after their end",
    )
    examples: list[str] = []
    for first, last in figures.chunks(start, ctx.window_to):
        window = {"window_start": first, "window_end": last, "delay_us": figures.delay_us(ctx)}
        rows = ctx.rows("delayed_examples", **window, **figures.limits(ctx, first, last))
        examples += [row["task_key"] for row in rows]
    found = ctx.finding(severity, message, metrics, examples)
    return ctx.outcome(findings=[found], metrics=metrics, window_from=start)


def output_flow(ctx: CheckContext) -> CheckOutcome:
    """Tasks ended in the last hour and no output row was created in it (C-107)."""
    start = ctx.window_to - HOUR
    found = flow(ctx.session.con, ctx.source_id, ctx.window_to, ctx.now, ctx.settle)
    ctx.session.breathe()
    metrics: dict[str, Any] = {"tasks": found.tasks, "outputs": found.outputs}
    stopped = found.stopped(ctx.settings.checks.flow_min_tasks)
    if not stopped:
        return ctx.outcome("insufficient_data" if stopped is None else None, metrics=metrics, window_from=start)
    metrics["last_output_at"] = found.last_output_at
    finding = ctx.finding("critical", found.text(ctx.settings.language == "zh-CN"), found.details())
    return ctx.outcome(findings=[finding], metrics=metrics, window_from=start)


def duplicates(ctx: CheckContext) -> CheckOutcome:
    """Valid rows beyond one per natural key (C-110)."""
    counted = figures.figures(ctx, ctx.window_from, ctx.window_to)
    metrics: dict[str, Any] = {"surplus": counted.duplicate_rows, "distinct": counted.distinct_outputs}
    if not counted.success_tasks:
        return ctx.outcome("insufficient_data", metrics=metrics)
    if not counted.duplicate_rows:
        return ctx.outcome(metrics=metrics)
    examples: list[dict[str, Any]] = []
    for first, last in figures.chunks(ctx.window_from, ctx.window_to):
        window = {"window_start": first, "window_end": last}
        examples += ctx.rows("duplicate_examples", **window, **figures.limits(ctx, first, last))
    oldest = [row["task_key"] for row in sorted(examples, key=lambda row: (row["effective_end"], row["task_key"]))]
    examples.sort(key=lambda row: (-row["surplus"], row["task_key"]))
    shown = [{name: row[name] for name in ("task_key", "valid_rows", "surplus")} for row in examples[:10]]
    message = ctx.say("重复的输出记录 {n} 条", "{n} surplus output rows", n=counted.duplicate_rows)
    details = metrics | {"examples": shown}
    found = ctx.finding("medium", message, details, oldest)
    return ctx.outcome(findings=[found], metrics=metrics)
