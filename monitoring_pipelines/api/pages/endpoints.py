"""Endpoints: the list, and one endpoint with its cards, charts, workers (S-811)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, chart, render
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.endpoints import EndpointName, owner
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.published import endpoints, workers
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "endpoints.title": ("端点", "Endpoints"),
    "endpoints.active": ("活跃工作器", "Active workers"),
    "endpoints.idle": ("空闲工作器", "Idle workers"),
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
    "endpoints.distribution": ("耗时分布", "Duration distribution"),
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
        "百分位由直方图估算，误差不超过 1%",
        "Percentiles are estimated from histograms, 1 % at most off",
    ),
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


@router.get("/endpoints")
def listed(
    request: Request, page: PageParam, source: SourceParam = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:  # fmt: skip
    """The list."""
    view = View(request)
    services = services_of(request)
    rows: list[dict[str, Any]] = []
    as_of = None
    chosen = chosen_sources(services, source or None)
    try:
        with services.published.look() as look:
            text = q or None
            rows = services.recall(
                look.lake.version, ("endpoints", *chosen, text), lambda: endpoints.listed(look, chosen, text)
            )
            as_of = look.as_of
    except LakeMissing:
        rows = []
    return render(
        request, "endpoints.html", title=view.t("endpoints.title"), as_of=as_of, view=view, page=page.cut(rows),
        q=q or "", source=source, query={"q": q, "source": source},
    )  # fmt: skip


@router.get("/endpoints/{endpoint}")
def one(
    request: Request, endpoint: EndpointName, source: SourceParam = None,
    range_: Annotated[str, Query(alias="range", pattern="^(1h|6h|24h|7d|30d)$")] = "24h",
) -> Response:  # fmt: skip
    """One endpoint; the range ends at its last closed minute (S-803)."""
    view = View(request)
    services = services_of(request)
    with services.published.look() as look:
        name = owner(services, look, endpoint, source or None)
        end = endpoints.closed_through(look, name) or view.now
        start = end - RANGES[range_]
        grain = endpoints.choose_grain("auto", start, end)
        rows = endpoints.statistics(look, name, endpoint, grain, start, end, fill=True)
        last_start = max(start, end - workers.LONGEST)
        present = workers.workers(look, name, endpoint, last_start, end)
        latest = endpoints.statistics(look, name, endpoint, "minute", end - timedelta(minutes=1), end, fill=True)
        as_of = look.manifest.sources.get(name, {}).get("as_of")
    merged = endpoints.summary(rows)
    return render(
        request, "endpoint.html", title=endpoint, as_of=as_of, view=view, refresh="charts", source=name,
        endpoint=endpoint, rows=rows, column=endpoints.COLUMN[grain], grain=grain, summary=merged,
        latest=latest[-1] if latest else {}, workers=present, ranges=tuple(RANGES), chosen=range_,
        minutes=RANGES[range_].total_seconds() / 60, charts=charts(view, rows, grain), start=start, end=end,
    )  # fmt: skip


def charts(view: View, rows: list[dict[str, Any]], grain: endpoints.Grain) -> list[tuple[str, dict[str, Any], str]]:
    """(title, specification, text alternative) of every chart."""
    column, step = endpoints.COLUMN[grain], int(endpoints.LENGTH[grain].total_seconds())
    x = [row[column] for row in rows]

    def line(title: str, *parts: tuple[str, str, str], **more: Any) -> tuple[str, dict[str, Any], str]:
        series = [(view.t(f"endpoints.{label}") if f"endpoints.{label}" in STRINGS else label, _values(rows, name), colour)
                  for label, name, colour in parts]  # fmt: skip
        spec = chart(x, series, view.zone, **more)
        spec["marks"] = [
            [at, at + step] for at, row in zip(spec["x"], rows, strict=True)
            if row.get("state") == "partial" or row.get("quality") in ("estimated", "unknown")
        ]  # fmt: skip
        return view.t(f"endpoints.{title}"), spec, _last_values(view, spec)

    return [
        line("requests", ("submitted", "tasks_submitted", "--s1"), ("completed", "tasks_completed", "--s2"),
             ("failed", "tasks_failed", "--s3"), ("timeout", "tasks_timeout", "--s4"), ("retried", "tasks_retried", "--s5")),
        line("execution", ("P50", "p50_execution_ms", "--s2"), ("P95", "p95_execution_ms", "--s1"),
             ("P99", "p99_execution_ms", "--s3"), unit="ms"),
        _distribution(view, rows),
        line("queue_wait", ("avg", "avg_queue_wait_ms", "--s1"), ("max", "max_queue_wait_ms", "--s3"), unit="ms"),
        line("worker_count", ("active", "active_workers", "--s1"), ("idle", "idle_workers", "--s2")),
        line("utilization", ("worker", "avg_worker_utilization", "--s1"), ("slot", "slot_utilization", "--s2"),
             unit="%", max=100),
        line("idle_time", ("avg", "avg_idle_duration_sec", "--s1"), ("max", "max_idle_duration_sec", "--s3"),
             ("total", "total_idle_time_sec", "--s2"), unit="s"),
        line("idle_count", ("total", "idle_count", "--s1")),
        line("cold_starts", ("total", "cold_starts", "--s1"), ("avg", "avg_cold_start_ms", "--s3"), unit="ms"),
        line("gpu", ("avg", "avg_gpu_utilization", "--s1"), ("max", "max_gpu_utilization", "--s3"), unit="%", max=100),
        line("lifecycle", ("created", "workers_created", "--s2"), ("terminated", "workers_terminated", "--s1"),
             ("lost", "workers_lost", "--s3")),
        line("coverage", ("avg", "snapshot_coverage_pct", "--s1"), unit="%", max=100),
    ]  # fmt: skip


def _values(rows: list[dict[str, Any]], name: str) -> list[float | None]:
    return [None if row.get(name) is None else float(row[name]) for row in rows]


def _distribution(view: View, rows: list[dict[str, Any]]) -> tuple[str, dict[str, Any], str]:
    bins: dict[str, int] = {}
    for row in rows:
        for key, count in (row.get("execution_time_distribution") or {}).items():
            bins[key] = bins.get(key, 0) + count
    names = list(bins)
    series = [(view.t("endpoints.executions"), [bins[name] for name in names], "--s1")]
    spec = chart(list(range(len(names))), series, view.zone, bars=True, ticks=[f"{name} ms" for name in names])
    return view.t("endpoints.distribution"), spec, ", ".join(f"{name} ms: {count}" for name, count in bins.items())


def _last_values(view: View, spec: dict[str, Any]) -> str:
    parts = []
    for series in spec["series"]:
        known = [value for value in series["values"] if value is not None]
        parts.append(f"{series['label']} {view.number(known[-1]) if known else '–'}")
    return ", ".join(parts)
