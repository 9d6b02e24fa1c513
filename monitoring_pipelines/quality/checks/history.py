"""Checks over several days and over the whole source (C-105, C-106, C-109, C-118).

What belongs here: trend, ratio, change point, growth of tables. What does not: one window (``completeness``).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality import explain
from monitoring_pipelines.quality.change import change_point
from monitoring_pipelines.quality.days import complete_days
from monitoring_pipelines.severity import rate_number, rounded

if TYPE_CHECKING:
    from monitoring_pipelines.quality.change import Point
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.days import LocalDay
    from monitoring_pipelines.quality.model import CheckOutcome

#: Days whose mean is compared with the mean of all (C-105).
RECENT_DAYS = 3
#: An extraction query slower than this, and days of new rows above this multiple of the usual, are worth a look (C-118).
SLOW_QUERY_S = 10.0
GROWTH_FACTOR = 3
GROWTH_DAYS = 7


def trend_days(ctx: CheckContext) -> int:
    """Complete local days a run looks back (§2)."""
    return ctx.settings.checks.deep.trend_days if ctx.run_type == "deep" else ctx.settings.checks.full.trend_days


def trend(ctx: CheckContext) -> CheckOutcome:
    """The mean of the three newest days against the mean of all (C-105): strict, unweighted, exact."""
    settings = ctx.settings.checks
    points = _complete_points(ctx)
    metrics: dict[str, Any] = {"days_analyzed": len(points), "daily_stats": _daily(points)}
    if len(points) < settings.trend_min_days:
        return ctx.outcome("insufficient_data", metrics=metrics, message=f"{len(points)} days with tasks")
    rates = [point.rate for point in points]
    recent = sum(rates[-RECENT_DAYS:], Fraction(0)) / len(rates[-RECENT_DAYS:])
    overall = sum(rates, Fraction(0)) / len(rates)
    metrics |= {"recent_avg_rate": rounded(recent, 2), "overall_avg_rate": rounded(overall, 2)}
    if recent >= overall - Fraction(str(settings.trend_drop_points)):
        return ctx.outcome(metrics=metrics)
    message = ctx.say(
        f"最近 {RECENT_DAYS} 天的平均完整率 {metrics['recent_avg_rate']:.2f}% 低于 {len(points)} 天均值 "
        f"{metrics['overall_avg_rate']:.2f}% 超过 {settings.trend_drop_points:g} 个百分点",
        f"mean completion of the last {RECENT_DAYS} days is {metrics['recent_avg_rate']:.2f}%, more than "
        f"{settings.trend_drop_points:g} points below {metrics['overall_avg_rate']:.2f}% of {len(points)} days",
    )
    details = {name: metrics[name] for name in ("days_analyzed", "recent_avg_rate", "overall_avg_rate", "daily_stats")}
    return ctx.outcome(findings=[ctx.finding("medium", message, details)], metrics=metrics)


def change(ctx: CheckContext) -> CheckOutcome:
    """The change point of the daily rates as a report; it raises nothing (C-109)."""
    points = _complete_points(ctx)
    metrics: dict[str, Any] = {"days_analyzed": len(points), "change_point": None}
    if len(points) < ctx.settings.checks.trend_min_days:
        return ctx.outcome("insufficient_data", metrics=metrics, message=f"{len(points)} days with tasks")
    found = change_point(points, ctx.settings.checks.change_point_min_points)
    if found is not None:
        metrics["change_point"] = found.as_dict() | {"first": found.first.day.isoformat()}
    return ctx.outcome(metrics=metrics)


def ratio(ctx: CheckContext) -> CheckOutcome:
    """More than ``ratio_max`` live outputs per live task of the source (C-106); exact and strict."""
    row = ctx.row("ratio")
    tasks, outputs = row["tasks"], row["outputs"]
    value = Fraction(outputs, tasks) if tasks else None
    metrics = {
        "total_outputs": outputs, "total_tasks": tasks,
        "ratio": None if value is None else f"{rounded(value, 1):.1f}",
        "ratio_value": None if value is None else rounded(value, 2),
    }  # fmt: skip
    if not tasks and not outputs:
        return ctx.outcome("insufficient_data", metrics=metrics)
    if value is not None and value <= Fraction(str(ctx.settings.checks.ratio_max)):
        return ctx.outcome(metrics=metrics)
    message = ctx.say("{n} 个任务有 {rows} 条输出记录", "{rows} output rows for {n} tasks", n=tasks, rows=outputs) + (
        "" if value is None else f" ({metrics['ratio']})"
    )
    return ctx.outcome(findings=[ctx.finding("medium", message, metrics)], metrics=metrics)


def source_performance(ctx: CheckContext) -> CheckOutcome:
    """Slow extraction queries, and tables that grew by more than three times the usual yesterday (C-118)."""
    days = complete_days(ctx.window_to, GROWTH_DAYS + 1, ctx.zone)
    by_table: dict[str, dict[Any, int]] = {}
    for day in days:
        for row in ctx.rows("new_rows", window_start=day.start, window_end=day.end):
            by_table.setdefault(row["src_table"], {})[day.start] = row["n"]
    findings, metrics = [], dict[str, Any]()
    for table, counts in sorted(by_table.items()):
        usual = sorted(counts.get(day.start, 0) for day in days[:-1])[GROWTH_DAYS // 2]
        newest = counts.get(days[-1].start, 0)
        metrics[table] = {"yesterday": newest, "median_7d": usual}
        if usual and newest > GROWTH_FACTOR * usual:
            message = ctx.say(
                f"表 {table} 昨天新增 {newest} 行，前 7 天中位数为 {usual}",
                f"table {table} got {newest} rows yesterday, the median of the 7 days before is {usual}",
            )
            details = {"table": table, "value": newest, "median_7d": usual}
            findings.append(ctx.finding("medium", message, details, labels={"table": table}))
    for table, seconds in sorted(ctx.query_seconds.items()):
        if seconds > SLOW_QUERY_S:
            message = ctx.say(
                f"表 {table} 的抽取查询用时 {seconds:.1f} 秒", f"an extraction query of {table} took {seconds:.1f} s"
            )
            details = {"query": table, "value": round(seconds, 3)}
            findings.append(ctx.finding("medium", message, details, labels={"query": table}))
    return ctx.outcome(findings=findings, metrics={"new_rows": metrics, "query_seconds": dict(ctx.query_seconds)})


def _complete_points(ctx: CheckContext) -> list[Point[LocalDay]]:
    """The last complete days with tasks."""
    days = complete_days(ctx.window_to, trend_days(ctx), ctx.zone)
    ctx.say_progress(f"{ctx.source_id}: {len(days)} days")
    return [point for point in explain.day_points(ctx, days) if point.total]


def _daily(points: list[Point[LocalDay]]) -> dict[str, dict[str, Any]]:
    return {
        point.label.day.isoformat(): {
            "total": point.total, "with": point.complete, "rate": rate_number(point.complete, point.total),
        }
        for point in points
    }  # fmt: skip
