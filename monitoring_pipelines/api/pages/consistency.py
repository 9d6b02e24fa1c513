"""Consistency: completeness with its bands, trend by local days, split, missing list, check runs (S-813)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.alerts.messages import REPAIRED
from monitoring_pipelines.api import summaries
from monitoring_pipelines.api.pages.base import View, chart, render, spans_of
from monitoring_pipelines.api.pages.checks import RUN_TONES
from monitoring_pipelines.api.pages.repair import why_no_plan
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.checks import brief
from monitoring_pipelines.api.routes.completeness import MissingSort, split_row, task_rows
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.published import timeline
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.workers import Span
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state.alerts import list_alerts
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "consistency.title": ("数据一致性", "Consistency"),
    "consistency.completion": ("完整率（24 小时）", "Completion (24 h)"),
    "consistency.bands": (
        "≥{healthy}% 健康，≥{degraded}% 降级，其余不健康",
        "≥{healthy}% healthy, ≥{degraded}% degraded, else unhealthy",
    ),
    "consistency.with": ("有输出任务", "With outputs"),
    "consistency.missing": ("缺失", "Missing"),
    "consistency.settling": ("待稳定", "Settling"),
    "consistency.average": ("平均输出数", "Avg outputs"),
    "consistency.duplicates": ("重复", "Duplicates"),
    "consistency.orphans": ("孤立", "Orphans"),
    "consistency.wrong": ("状态不符", "Wrong status"),
    "consistency.newest_full": ("最近一次完整检查", "Newest full check"),
    "consistency.not_checked": ("尚未检查", "not checked yet"),
    "consistency.healthy_line": ("健康线", "Healthy from"),
    "consistency.degraded_line": ("降级线", "Degraded from"),
    "consistency.trend": ("每日完整率（本地日）", "Completion per local day"),
    "consistency.rate": ("完整率", "Completion"),
    "consistency.split": ("前后对比", "Before / after"),
    "consistency.split_date": ("分界日期", "Split date"),
    "consistency.before": ("之前", "Before"),
    "consistency.after": ("之后", "After"),
    "consistency.difference": ("差值（百分点）", "Difference (points)"),
    "consistency.change": (
        "变化点：{date} 起，{before}% → {after}%",
        "Change point: from {date} on, {before}% → {after}%",
    ),
    "consistency.no_change": ("没有明显的变化点", "No clear change point"),
    "consistency.list": ("任务列表", "Tasks"),
    "figure.missing": ("缺失列表", "Missing list"),
    "figure.with_output": ("有输出的任务", "Tasks with outputs"),
    "figure.settling": ("待稳定的任务", "Settling tasks"),
    "figure.duplicates": ("有重复输出的任务", "Tasks with duplicates"),
    "consistency.rows": ("输出行数", "Output rows"),
    "consistency.different": ("不同的输出", "Different ones"),
    "consistency.none_listed": ("没有这样的任务", "No such task"),
    "consistency.settling_note": (
        "结束不足 {span}，输出可能还没写完，暂不计入",
        "ended less than {span} ago; their outputs may still come, so they do not count yet",
    ),
    "consistency.average_note": ("每个有输出的任务", "per task with outputs"),
    "consistency.task": ("任务", "Task"),
    "consistency.ended": ("结束时间", "Ended"),
    "consistency.remote": ("远程 ID", "Remote id"),
    "consistency.none_missing": ("没有缺失输出的任务", "No task lacks its output"),
    "consistency.runs": ("检查记录", "Check runs"),
    "consistency.window": ("窗口（小时）", "Window (h)"),
    "consistency.findings": ("问题数", "Findings"),
    "consistency.check_now": ("立即检查", "Run check"),
    "consistency.confirm": ("现在运行{type}检查？", "Run a check now: {type}?"),
    "consistency.done": ("检查完成", "Check finished"),
    "consistency.empty": ("窗口内没有成功任务", "No succeeded tasks in the window"),
    "consistency.no_runs": ("还没有检查记录", "No check has run yet"),
    "consistency.not_mapped": (
        "此数据源没有映射任务与输出，完整性不适用。映射 task 与 task_output 后即可使用。",
        "This source maps no tasks with outputs. Map task and task_output to use completeness.",
    ),
    "run.healthy": ("正常", "Healthy"),
    "run.issues_detected": ("发现问题", "Issues detected"),
    "run.error": ("错误", "Error"),
    "run.skipped": ("已跳过", "Skipped"),
    "run.missed": ("错过", "Missed"),
    "run.running": ("运行中", "Running"),
}
router = APIRouter(include_in_schema=False)
DAY_S = 86_400
FIGURES: tuple[str, ...] = ("missing", "with_output", "settling", "duplicates")
#: Figures whose tasks the page lists.
Figure = Literal["missing", "with_output", "settling", "duplicates"]


@router.get("/consistency")
def page(
    request: Request, page: PageParam, source: SourceParam = None,
    on: Annotated[str | None, Query(alias="date", max_length=10)] = None,
    hours: Annotated[int, Query(ge=1, le=720)] = 24, show: Figure = "missing",
    sort: MissingSort = None,
) -> Response:  # fmt: skip
    """The page; without ``source`` every source that has tasks and outputs."""
    view = View(request)
    services = services_of(request)
    chosen = [name for name in chosen_sources(services, source or None) if name != "_self"]
    able = [name for name in chosen if summaries.has_outputs(services, name)]
    parts: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    total, as_of = 0, None
    try:
        with services.published.look() as look:
            as_of = look.as_of
            parts = [_source_part(view, services, look, name, _date(on)) for name in able]
            rows, total = task_rows(services, look, show, able, hours, page.offset, page.size, sort)
    except LakeMissing:
        parts = []
    now = services.moment()
    runs = view.stored(lambda: services.of_state(("newest runs",), partial(_newest_runs, services)), [])
    return render(
        request, "consistency.html", title=view.t("consistency.title"), as_of=as_of, view=view, refresh="default",
        parts=parts, listed=page.wrap(rows, total), show=show, shown=FIGURES,
        runs=runs, since=view.utc(now - timedelta(hours=hours)), until=view.utc(now),
        source=source, on=on, hours=hours, able=able, sort=sort,
        query={"source": source, "date": on, "hours": hours, "show": show, "sort": sort},
        bands=summaries.bands_of(services), run_tones=RUN_TONES, plans=plans_to_make(view, parts),
    )  # fmt: skip


def _newest_runs(services: Services) -> list[dict[str, Any]]:
    runs, _ = stored.page(services.state, size=20)
    counts = stored.counts_of(services.state, [run.run_id for run in runs])
    return [brief(run, counts.get(run.run_id, {})) for run in runs]


def plans_to_make(view: View, parts: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    """Sources that lost outputs: (source, its open alert about that, why nothing can be repaired)."""
    lost = [part["name"] for part in parts if part["figures"]["missing_count"]]
    asked = partial(list_alerts, view.services.state, types=[REPAIRED], source_ids=lost, open_only=True)
    rows, _ = view.stored(lambda: view.services.of_state(("alerts to repair", *lost), asked), ([], 0))
    alerts = {row["source_id"]: row["alert_id"] for row in rows}
    return [(name, alerts.get(name), why_no_plan(view, name)) for name in lost]


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _last_days(services: Services, look: Look, name: str, on: date | None) -> dict[str, Any]:
    """30 days of a source, split at ``on``; without a date everybody gets the same, which is most of what they cost."""
    now = services.moment()
    start = now - timedelta(days=30)
    if on is not None:
        return split_row(services, look, name, on, start, now)
    return services.newest(
        ("last days", name), (look.lake.version, now), lambda: split_row(services, look, name, None, start, now)
    )


def _unseen(services: Services, look: Look) -> list[Span]:
    """When this monitor itself did not run, over the same 30 days."""
    now = services.moment()
    return services.newest(
        ("unseen days",), (look.lake.version, now), lambda: timeline.blind(look, now - timedelta(days=30), now)
    )


def _on_local_days(view: View, spans: list[Span]) -> list[Span]:
    """Instants where the trend has them: it draws local days as if they were of UTC."""
    zone = ZoneInfo(view.zone)

    def moved(at: datetime) -> datetime:
        return at.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)

    return [(moved(first), moved(last)) for first, last in spans]


#: Checks whose newest answers stand beside the figures.
_CHECKS = ("duplicates", "orphans", "wrong_status")


def _believed(services: Services, name: str) -> dict[str, stored.Believed | None]:
    return {check: stored.believed(services.state, check, name, answers_only=True) for check in _CHECKS}


def _source_part(view: View, services: Services, look: Look, name: str, on: date | None) -> dict[str, Any]:
    found, days = summaries.day_figures(services, look, name), _last_days(services, look, name, on)
    bands, n = summaries.bands_of(services), len(days["days"])
    dashed = {"dash": [6, 5]}
    series: list[Any] = [
        (view.t("consistency.rate"), [day["completion_rate_value"] for day in days["days"]], "--s1"),
        (view.t("consistency.healthy_line"), [float(bands.healthy)] * n, "--ok", dashed),
        (view.t("consistency.degraded_line"), [float(bands.degraded)] * n, "--warn", dashed),
    ]
    believed = view.stored(
        lambda: services.of_state(("believed", name), partial(_believed, services, name)), dict.fromkeys(_CHECKS)
    )
    return {
        "name": name, "figures": found.as_metrics(),
        "health": summaries.source_health(services, look, name, services.clock.now()),
        "trend": chart([day["date"] for day in days["days"]], series, "UTC", unit="%", max=100, day=True, step=DAY_S,
                       blind=spans_of(_on_local_days(view, _unseen(services, look)))),
        "days": days["days"], "split": days["split"], "change": days["change_point"],
        "extra": believed,
    }  # fmt: skip
