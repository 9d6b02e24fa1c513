"""Checks of one window of tasks and their outputs (C-101 to C-104, C-107, C-110 to C-117).

What belongs here: rates and counts of a window. What does not: several days (``history``) and counting itself (``figures``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.quality import figures
from monitoring_pipelines.severity import health_of, rate_text, severity_of

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
    details = {
        "time_range_hours": ctx.hours, "total_success_tasks": n, "missing_count": missing.count, "missing_rate": rate,
        "pending_settle": counted.pending_settle,
    }  # fmt: skip
    message = ctx.say(
        f"过去 {ctx.hours} 小时的 {n} 个成功任务中有 {missing.count} 个没有输出（{rate}）",
        f"{missing.count} of {n} succeeded tasks of the last {ctx.hours} h have no output ({rate})",
    )
    found = ctx.finding(severity, message, details, missing.keys)
    return ctx.outcome(findings=[found], metrics=metrics, health=health)
