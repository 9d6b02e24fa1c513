"""Endpoints: the list, and one endpoint with its cards, charts, workers (S-811)."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, chart, render, spans_of
from monitoring_pipelines.api.pages.overview import Strips, endpoint_strips
from monitoring_pipelines.api.pages.tasks import TONES
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources, ordered
from monitoring_pipelines.api.routes.endpoints import COLUMNS, EndpointName, SortParam, endpoint_rows, owner
from monitoring_pipelines.api.series import rows_of
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.summaries import index_of
from monitoring_pipelines.published import endpoints, tasks, timeline, workers
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "endpoints.title": ("端点", "Endpoints"),
    "endpoints.active": ("活跃工作器", "Active workers"),
    "endpoints.idle": ("空闲工作器", "Idle workers"),
    "endpoints.active_idle": ("活跃 / 空闲工作器", "Active / idle workers"),
    "endpoints.per_minute": ("每分钟任务", "Tasks/min"),
    "endpoints.avg_execution": ("平均执行", "Avg execution"),
    "endpoints.queue_wait": ("排队等待", "Queue wait"),
    "endpoints.success": ("成功率", "Success rate"),
    "endpoints.requests": ("请求", "Requests"),
    "endpoints.submitted": ("提交", "Submitted"),
    "endpoints.completed": ("完成", "Completed"),
    "endpoints.failed": ("失败", "Failed"),
    "endpoints.timeout": ("超时", "Timeout"),
    "endpoints.retried": ("重试", "Retried"),
    "endpoints.execution": ("执行时间", "Execution"),
    "endpoints.distribution": ("耗时分布（秒）", "Duration distribution (s)"),
    "endpoints.worker_count": ("工作器数量", "Worker count"),
    "endpoints.utilization": ("利用率", "Utilization"),
    "endpoints.worker": ("工作器", "Worker"),
    "endpoints.slot": ("槽位", "Slot"),
    "endpoints.idle_time": ("空闲时间", "Idle time"),
    "endpoints.idle_count": ("空闲次数", "Idle count"),
    "endpoints.cold_starts": ("冷启动", "Cold starts"),
    "endpoints.gpu": ("GPU", "GPU"),
    "endpoints.lifecycle": ("工作器生命周期", "Worker lifecycle"),
    "endpoints.coverage": ("快照覆盖率", "Snapshot coverage"),
    "endpoints.avg": ("平均", "Average"),
    "endpoints.max": ("最大", "Maximum"),
    "endpoints.total": ("合计", "Total"),
    "endpoints.created": ("创建", "Created"),
    "endpoints.terminated": ("终止", "Terminated"),
    "endpoints.lost": ("丢失", "Lost"),
    "endpoints.queue": ("等待", "Waiting"),
    "endpoints.running": ("运行中", "Running"),
    "endpoints.workers": ("工作器", "Workers"),
    "endpoints.idle_age": ("空闲时长", "Idle for"),
    "endpoints.online": ("在线", "Online"),
    "endpoints.busy": ("忙碌", "Busy"),
    "endpoints.evidence": ("依据", "Evidence"),
    "endpoints.quality": ("质量", "Quality"),
    "endpoints.rows": ("数据行", "Rows"),
    "endpoints.bucket": ("时间段", "Bucket"),
    "endpoints.revision": ("修订", "Revision"),
    "endpoints.executions": ("执行次数", "Executions"),
    "endpoints.tasks": ("任务", "Tasks"),
    "endpoints.none": ("没有端点", "No endpoints"),
    "endpoints.no_workers": ("该时间段没有在线的工作器", "No worker was online in this range"),
    "endpoints.estimated": (
        "≈ 百分位由直方图估算，误差不超过 {percent}%",
        "≈ Percentiles of this range are estimated from histograms, at most {percent} % off",
    ),
    "endpoints.last_minute": ("最近一个已关闭的分钟", "last closed minute"),
    "endpoints.outcomes": (
        "完成 {completed} · 失败 {failed} · 超时 {timeout}",
        "{completed} completed · {failed} failed · {timeout} timeout",
    ),
    "quality.exact": ("精确", "exact"),
    "quality.bridged": ("已桥接", "bridged"),
    "quality.estimated": ("估算", "estimated"),
    "quality.unknown": ("未知", "unknown"),
    "evidence.lifecycle": ("生命周期", "lifecycle"),
    "evidence.snapshots": ("快照", "snapshots"),
    "evidence.current_state": ("当前状态", "current state"),
    "evidence.attempts": ("执行记录", "attempts"),
    "evidence.none": ("无", "none"),
    "endpoints.tab_charts": ("图表", "Charts"),
    "endpoints.tab_workers": ("工作器", "Workers"),
    "endpoints.tab_tasks": ("任务", "Tasks"),
    "endpoints.tab_timeline": ("时间线", "Timeline"),
    "endpoints.tab_rows": ("数据行", "Rows"),
    "endpoints.legend": (
        "斜线：未完成、估算或未知 · 红色反斜线：本监控未运行 · ▼ 已重述",
        "Hatched: unfinished, estimated or unknown · red, the other way: this monitor did not run · ▼ restated",
    ),
    "endpoints.all_tasks": ("在任务监控中查看全部", "All of them in the task monitor"),
    "endpoints.no_tasks": ("该时间段没有任务", "No task in this range"),
    "endpoints.no_lanes": ("该时间段没有工作器", "No worker in this range"),
    "endpoints.lanes": ("{start} – {end}", "{start} – {end}"),
    "endpoints.lanes_shown": ("显示 {n} / {total} 个工作器", "{n} of {total} workers are shown"),
    "endpoints.lane_legend": (
        "灰色：在线 · 绿色：完成 · 红色：失败或超时 · 蓝色：进行中",
        "Grey: online · green: completed · red, taller: failed or timed out · blue: going on",
    ),
    "endpoints.unwatched": ("监控自身没有运行 {start} – {end}", "This monitor did not run {start} – {end}"),
    "endpoints.only_newest": ("显示最新的 {n} 行，全部见 CSV", "The newest {n} rows are shown; the files hold all"),
    "endpoints.cold_count": ("次数", "Count"),
    "endpoints.cold_time": ("平均耗时", "Avg time"),
    "worker.busy": ("忙碌", "Busy"),
    "worker.idle": ("空闲", "Idle"),
    "worker.offline": ("离线", "Offline"),
    "bucket.closed": ("已关闭", "Closed"),
    "bucket.partial": ("进行中", "Partial"),
}
router = APIRouter(include_in_schema=False)
RANGES = {
    "1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(hours=24), "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}  # fmt: skip
Tab = Literal["charts", "workers", "tasks", "timeline", "rows"]
TABS = ("charts", "workers", "tasks", "timeline", "rows")
MOST_ROWS = 200
#: What the card of the last closed minute shows.
_LATEST = ("active_workers", "idle_workers")
#: Order of workers: those at work, then the longest idle.
_BY_STATE = ("busy", "idle", "offline")


@router.get("/endpoints")
def listed(
    request: Request, page: PageParam, source: SourceParam = None,
    q: Annotated[str | None, Query(max_length=200)] = None, sort: SortParam = None,
) -> Response:  # fmt: skip
    """The list."""
    view = View(request)
    services = services_of(request)
    rows: list[dict[str, Any]] = []
    as_of = None
    strips: Strips = {}
    chosen = chosen_sources(services, source or None)
    try:
        with services.published.look() as look:
            rows = endpoints.having(endpoint_rows(services, look, chosen), q or None)
            strips = endpoint_strips(look, view)
            as_of = look.as_of
    except LakeMissing:
        rows = []
    return render(
        request, "endpoints.html", title=view.t("endpoints.title"), as_of=as_of, view=view, page=page.cut(ordered(rows, sort, COLUMNS)),
        q=q or "", source=source, sort=sort, strips=strips, query={"q": q, "source": source, "sort": sort},
    )  # fmt: skip


@router.get("/endpoints/{endpoint:path}")
def one(
    request: Request, endpoint: EndpointName, page: PageParam, source: SourceParam = None,
    range_: Annotated[str, Query(alias="range", pattern="^(1h|6h|24h|7d|30d)$")] = "24h", tab: Tab = "charts",
) -> Response:  # fmt: skip
    """One endpoint; the range ends at its last closed minute (S-803). Each tab reads only what it shows."""
    view = View(request)
    services = services_of(request)
    more: dict[str, Any] = {}
    with services.published.look() as look:
        name = owner(services, look, endpoint, source or None)
        end = endpoints.closed_through(look, name) or view.now
        start = end - RANGES[range_]
        grain = endpoints.choose_grain("auto", start, end)
        wanted = {*_SHOWN, *(_CHARTED if tab == "charts" else ())}
        # A column that is new to the program is unknown until the next publication.
        columns = [column for column in look.columns(endpoints.table_of("endpoint", grain)) if column in wanted]
        rows = rows_of(services, look, name, endpoint, grain, start, end, columns)
        merged = endpoints.summary(rows, endpoints.decimals(look, grain))
        minute = end - timedelta(minutes=1)
        latest = rows_of(services, look, name, endpoint, "minute", minute, end, _LATEST)
        as_of = look.manifest.sources.get(name, {}).get("as_of")
        if tab == "charts":
            more["charts"] = charts(view, rows, grain, timeline.blind(look, start, end))
        elif tab == "workers":
            present_from = max(start, end - workers.LONGEST)
            present = workers.workers(look, name, endpoint, present_from, end)
            more["present_from"] = present_from
            more["workers"] = sorted(
                present, key=lambda row: (_BY_STATE.index(row["state"]), -(row["idle_age_s"] or 0), row["worker_key"])
            )
        elif tab == "tasks":
            some = tasks.TaskFilter((name,), endpoint=endpoint, start=start, end=end)
            more["tasks"] = page.wrap(*index_of(services).list_page(look, some, page.offset, page.size))
        elif tab == "timeline":
            more |= _lanes(look, name, endpoint, max(start, end - timeline.LONGEST), end)
    return render(
        request, "endpoint.html", title=endpoint, as_of=as_of, view=view, refresh="charts", source=name,
        endpoint=endpoint, rows=rows, column=endpoints.COLUMN[grain], grain=grain, summary=merged, tab=tab, tabs=TABS,
        latest=latest[-1] if latest else {}, ranges=tuple(RANGES), chosen=range_, most_rows=MOST_ROWS,
        minutes=RANGES[range_].total_seconds() / 60, start=start, end=end, task_tones=TONES,
        query={"source": name, "range": range_, "tab": tab}, submitted=partial(_submitted, view, name, endpoint, grain, end),
        **more,
    )  # fmt: skip


def _submitted(
    view: View, source: str, endpoint: str, grain: endpoints.Grain, end: datetime, row: dict[str, Any]
) -> str:
    """The tasks that were submitted in a bucket, of which what is after ``end`` is not closed yet; its day is one of UTC."""
    at = row[endpoints.COLUMN[grain]]
    begin = at if isinstance(at, datetime) else datetime.combine(at, time.min)
    until = view.utc(min(begin + endpoints.LENGTH[grain], end))
    return view.url("/tasks", source=source, show="all", endpoint=endpoint, from_=view.utc(begin), to=until)


#: Width of the drawing of lanes, in its own units.
_LANE_WIDTH = 1000


def _lanes(look: Look, source: str, endpoint: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Lanes with positions instead of instants, for the drawing."""
    found, total = timeline.lanes(look, source, endpoint, start, end)
    scale = _LANE_WIDTH / ((end - start) / timedelta(seconds=1))

    def place(at: datetime) -> float:
        return round((at - start).total_seconds() * scale, 2)

    drawn = [
        {
            "worker_key": lane["worker_key"],
            "online": [(place(a), max(0.5, place(b) - place(a))) for a, b in lane["online"]],
            "work": [(place(a), max(0.8, place(b) - place(a)), outcome, a, b) for a, b, outcome in lane["work"]],
        }
        for lane in found
    ]
    blind = [(place(a), max(0.5, place(b) - place(a)), a, b) for a, b in timeline.blind(look, start, end)]
    return {
        "lanes": drawn,
        "blind": blind,
        "lane_total": total,
        "lane_from": start,
        "lane_to": end,
        "lane_width": _LANE_WIDTH,
    }


#: Label, column of the statistics, colour, and what else ``chart`` should know of the line.
Part = tuple[str, str, str] | tuple[str, str, str, dict[str, Any]]
#: Charts with lines: title, lines, options.
_LINES: tuple[tuple[str, tuple[Part, ...], dict[str, Any]], ...] = (
    ("requests", (("submitted", "tasks_submitted", "--s1"), ("completed", "tasks_completed", "--s2"),
                  ("failed", "tasks_failed", "--s3"), ("timeout", "tasks_timeout", "--s4"), ("retried", "tasks_retried", "--s5")), {}),
    ("execution", (("P50", "p50_execution_ms", "--s2"), ("P95", "p95_execution_ms", "--s1"), ("P99", "p99_execution_ms", "--s3")),
     {"unit": "ms"}),
    ("queue_wait", (("avg", "avg_queue_wait_ms", "--s1"), ("max", "max_queue_wait_ms", "--s3")), {"unit": "ms"}),
    ("worker_count", (("active", "active_workers", "--s1"), ("idle", "idle_workers", "--s2")), {}),
    ("utilization", (("worker", "avg_worker_utilization", "--s1"), ("slot", "slot_utilization", "--s2")), {"unit": "%", "max": 100}),
    ("idle_time", (("avg", "avg_idle_duration_sec", "--s1"), ("max", "max_idle_duration_sec", "--s3"),
                   ("total", "total_idle_time_sec", "--s2")), {"unit": "s"}),
    ("idle_count", (("total", "idle_count", "--s1"),), {}),
    ("cold_starts", (("cold_count", "cold_starts", "--s1"),
                     ("cold_time", "avg_cold_start_ms", "--s3", {"scale": "time", "unit": "ms"})), {}),
    ("gpu", (("avg", "avg_gpu_utilization", "--s1"), ("max", "max_gpu_utilization", "--s3")), {"unit": "%", "max": 100}),
    ("lifecycle", (("created", "workers_created", "--s2"), ("terminated", "workers_terminated", "--s1"),
                   ("lost", "workers_lost", "--s3")), {}),
    ("coverage", (("avg", "snapshot_coverage_pct", "--s1"),), {"unit": "%", "max": 100}),
)  # fmt: skip
_DISTRIBUTION_AT = 2
#: What cards, summary and the tab of rows look at, and what the charts do besides: reading all ninety columns took half of the page.
_SHOWN = (
    "tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout", "execution_n", "execution_sum_ms", "min_execution_ms",
    "max_execution_ms", "p95_execution_ms", "exec_hist", "queue_wait_n", "queue_wait_sum_ms", "max_queue_wait_ms", "worker_source",
    "quality", "state", "revision",
)  # fmt: skip
_CHARTED = ("restated_at", "execution_time_distribution", *(part[1] for _, parts, _ in _LINES for part in parts))


def charts(
    view: View, rows: list[dict[str, Any]], grain: endpoints.Grain, blind: list[tuple[datetime, datetime]]
) -> list[tuple[str, dict[str, Any], str]]:
    """(title, specification, text alternative) of every chart."""
    column, step = endpoints.COLUMN[grain], int(endpoints.LENGTH[grain].total_seconds())
    x = [row[column] for row in rows]
    common: dict[str, Any] = chart(x, [], "UTC" if grain == "day" else view.zone, day=grain == "day", step=step)
    common["marks"] = spans([
        (at, at + step) for at, row in zip(common["x"], rows, strict=True)
        if row.get("state") == "partial" or row.get("quality") in ("estimated", "unknown")
    ])  # fmt: skip
    common["restated"] = [
        at
        for at, row in zip(common["x"], rows, strict=True)
        if (row.get("revision") or 1) > 1 and row.get("restated_at")
    ]
    common["blind"] = spans_of(blind)

    def line(title: str, parts: tuple[Part, ...], more: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
        series: list[Any] = [
            (view.t(f"endpoints.{part[0]}") if f"endpoints.{part[0]}" in STRINGS else part[0], _values(rows, part[1]), *part[2:])
            for part in parts
        ]  # fmt: skip
        spec = common | chart([], series, common["zone"], **more) | {"x": common["x"]}
        return view.t(f"endpoints.{title}"), spec, _last_values(view, spec)

    found = [line(*one) for one in _LINES]
    found.insert(_DISTRIBUTION_AT, _distribution(view, rows))
    return found


def spans(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Neighbouring spans joined, so that a page does not carry one per bucket."""
    found: list[list[int]] = []
    for first, last in pairs:
        if found and first <= found[-1][1]:
            found[-1][1] = last
        else:
            found.append([first, last])
    return found


def _values(rows: list[dict[str, Any]], name: str) -> list[float | None]:
    return [None if row.get(name) is None else float(row[name]) for row in rows]


def _distribution(view: View, rows: list[dict[str, Any]]) -> tuple[str, dict[str, Any], str]:
    bins: dict[str, int] = {}
    for row in rows:
        for key, count in (row.get("execution_time_distribution") or {}).items():
            bins[key] = bins.get(key, 0) + count
    names = list(bins)
    series: list[Any] = [(view.t("endpoints.executions"), [bins[name] for name in names], "--s1")]
    spec = chart(list(range(len(names))), series, view.zone, bars=True, ticks=[seconds_of(name) for name in names])
    return view.t("endpoints.distribution"), spec, ", ".join(f"{name} ms: {count}" for name, count in bins.items())


def seconds_of(name: str) -> str:
    """``500-1000`` and ``5000+``, ranges in ms, in seconds: ``0.5–1`` and ``5+``."""
    return "–".join(f"{int(part.rstrip('+')) / 1000:g}{'+' if part.endswith('+') else ''}" for part in name.split("-"))


def _last_values(view: View, spec: dict[str, Any]) -> str:
    parts = []
    for series in spec["series"]:
        known = [value for value in series["values"] if value is not None]
        parts.append(f"{series['label']} {view.number(known[-1]) if known else '–'}")
    return ", ".join(parts)
