"""Collector resources and business ingest: eight panels per process, connections, trends, rates (S-817, S-818)."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, chart, render, spans_of
from monitoring_pipelines.api.params import SourceParam, chosen_sources
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.published import processes, timeline
from monitoring_pipelines.published.process_health import RULES, ProcessHealth, level_of
from monitoring_pipelines.published.workers import Span
from monitoring_pipelines.severity import rank
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines.warehouse.lake import LakeMissing

if TYPE_CHECKING:
    from monitoring_pipelines.published.reader import Look

STRINGS = {
    "resources.title": ("采集器资源", "Collector resources"),
    "resources.none": ("没有采样", "No samples"),
    "resources.unmeasured": ("不可测量", "Not measurable"),
    "resources.status": ("状态", "Status"),
    "resources.memory": ("内存", "Memory"),
    "resources.virtual": ("虚拟内存", "Virtual"),
    "resources.fds": ("打开的 FD", "Open FDs"),
    "resources.uptime": ("运行时间", "Uptime"),
    "resources.memory_trend": ("内存趋势", "Memory over time"),
    "resources.cpu": ("CPU %", "CPU %"),
    "resources.fds_max": ("FD 使用/上限", "FDs vs max"),
    "resources.limit": ("上限", "Limit"),
    "resources.used": ("使用", "Used"),
    "resources.rate": ("采集速率", "Ingest ops/s"),
    "resources.conns": ("连接", "Connections"),
    "resources.conns_threads": ("连接与线程", "Connections and threads"),
    "resources.by_state": ("按 TCP 状态", "By TCP state"),
    "resources.threads": ("线程", "Threads"),
    "resources.objects": ("对象", "Objects"),
    "resources.trend": ("趋势", "Trend"),
    "resources.sampled": ("采样于 {at}", "sampled {at}"),
    "resources.no_sample": ("没有当前采样", "no current sample"),
    "resources.of": ("上限 {n}", "of {n}"),
    "resources.rate_note": ("条/秒 · 5 分钟速率，全部序列", "5-minute rate, all series"),
    "resources.per_sample": ("/ 次采样", "a sample"),
    "resources.samples": ("采样", "Samples"),
    "resources.only_newest": ("最新的 {n} 条，全部见 CSV", "the newest {n}; the CSV has all of them"),
    "sample.rss_bytes": ("RSS（字节）", "RSS (bytes)"),
    "sample.vms_bytes": ("虚拟内存（字节）", "Virtual (bytes)"),
    "sample.cpu_pct": ("CPU %", "CPU %"),
    "sample.fds": ("文件描述符", "File descriptors"),
    "sample.conns": ("连接", "Connections"),
    "sample.threads": ("线程", "Threads"),
    "sample.objects": ("对象", "Objects"),
    "sample.uptime_s": ("运行时间（秒）", "Uptime (s)"),
    "resources.targets": ("目标", "Targets"),
    "resources.target": ("目标", "Target"),
    "resources.since": ("自", "Since"),
    "resources.probed": ("最近探测", "Newest probe"),
    "resources.up": ("可达", "Up"),
    "resources.down": ("不可达", "Down"),
    "resources.retired": ("已退役", "Retired"),
    "metric.rss": ("内存", "Memory"),
    "metric.fds": ("文件描述符", "File descriptors"),
    "metric.conns": ("连接", "Connections"),
    "metric.threads": ("线程", "Threads"),
    "metric.objects": ("对象", "Objects"),
    "ingest.title": ("业务采集", "Ingest"),
    "ingest.rate": ("采集速率", "Ingest rate"),
    "ingest.success": ("成功率", "Success rate"),
    "ingest.per_s": ("{n} /秒", "{n} /s"),
    "ingest.last": ("最后样本 {at}", "last sample {at}"),
    "ingest.no_errors": ("没有错误计数器", "no error counter"),
    "ingest.none": ("没有数据", "No data"),
    "ingest.counters": ("计数器", "Counters"),
    "ingest.series": ("序列", "Series"),
    "ingest.value": ("最新值", "Newest value"),
    "ingest.errors": ("错误速率", "Error rate"),
    "ingest.at": ("最后样本", "Last sample"),
    "ingest.alert": ("告警", "Alert"),
    "trend.rapidly_increasing": ("快速上升", "Rapidly increasing"),
    "trend.slowly_increasing": ("缓慢上升", "Slowly increasing"),
    "trend.stable": ("平稳", "Stable"),
    "trend.slowly_decreasing": ("缓慢下降", "Slowly decreasing"),
    "trend.rapidly_decreasing": ("快速下降", "Rapidly decreasing"),
    "trend.insufficient_data": ("样本不足", "Too few samples"),
    "resources.blind": ("红色斜线：监控自身没有运行", "Red stripes: this monitor did not run"),
}
router = APIRouter(include_in_schema=False)
RANGES = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(hours=24), "7d": timedelta(days=7),
          "30d": timedelta(days=30)}  # fmt: skip
#: Points of a chart.
POINTS = 400
TREND_TONES = {"rapidly_increasing": "bad", "slowly_increasing": "warning"}
STATUS_TONES = {"unhealthy": "bad", "degraded": "warning", "unknown": "unknown"}
#: Part of a process's state → what the page calls it.
_PARTS = {"sample": "resources.no_sample", "rss_bytes": "resources.memory", "conns": "resources.conns",
          "fd_usage_pct": "resources.fds", "target": "resources.target"}  # fmt: skip
#: Figures of a sample that the page lists, and how many of its samples.
SAMPLED = ("rss_bytes", "vms_bytes", "cpu_pct", "fds", "conns", "threads", "objects", "uptime_s")
SAMPLES_SHOWN = 20


@router.get("/resources")
def resources(
    request: Request, source: SourceParam = None, process: Annotated[str | None, Query(max_length=255)] = None,
    range_: Annotated[str, Query(alias="range", pattern="^(1h|6h|24h|7d|30d)$")] = "24h",
) -> Response:  # fmt: skip
    """The processes, and one of them in detail: the named one, else the first."""
    view = View(request)
    services = services_of(request)
    known: list[dict[str, Any]] = []
    charts: list[tuple[str, dict[str, Any], str]] = []
    unseen: list[Span] = []
    chosen, as_of, limits, how = None, None, processes.thresholds(services.settings), ProcessHealth("unknown")
    rates: list[dict[str, Any]] = []
    newest: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    total, api = 0, ""
    names = chosen_sources(services, source or None)
    asked = names if source else [*names, "_self"]  # as the API has it
    try:
        with services.published.look() as look:
            as_of = look.as_of
            targets = view.stored(
                partial(processes.targets, look, services.state, services.settings, view.now, asked), []
            )
            known = processes.newest(look, services.settings, [*names, "_self"])
            known.sort(key=lambda row: row["source_id"] == "_self")
            chosen = next((row for row in known if process in (None, row["process_id"])), None)
            if chosen is not None:
                end = chosen["at"] + timedelta(microseconds=1)
                named = chosen["source_id"], chosen["process_id"]
                how = processes.healths(look, services.settings, targets, view.now)[named]
                start = end - RANGES[range_]
                api = view.url(
                    f"/api/v1/processes/{quote(chosen['process_id'], safe='')}/samples", source=chosen["source_id"],
                    from_=view.utc(start), to=view.utc(end),
                )  # fmt: skip
                found, (newest, total) = services.recall(
                    look.lake.version, ("samples", *named, range_), partial(_samples, look, *named, start, end)
                )
                unseen = timeline.blind(look, start, end)
                charts = services.recall(
                    look.lake.version, ("charts", *named, range_, view.language), partial(_charts, view, found, unseen)
                )
                rates = [
                    row for row in processes.ingest(look, [chosen["source_id"]])
                    if row["process_id"] == chosen["process_id"]
                ]  # fmt: skip
    except LakeMissing:
        known = []
    return render(
        request, "resources.html", title=view.t("resources.title"), as_of=as_of, view=view, refresh="charts", known=known,
        chosen=chosen, charts=charts, ranges=tuple(RANGES), range=range_, source=source, trend_tones=TREND_TONES,
        has_blind=bool(unseen), targets=targets, samples=newest, sample_total=total, sampled=SAMPLED, api=api,
        how=how, how_tone=STATUS_TONES.get(how.state, ""),
        because=", ".join(view.t(_PARTS[name]) for name in how.because),
        tone=lambda name: _tone(level_of(limits.get(RULES[name], []), chosen[name] if chosen else None)),
        rate=sum(row["rate_per_s"] for row in rates if row["rate_per_s"] is not None) if rates else None,
    )  # fmt: skip


def _samples(look: Look, source_id: str, process_id: str, start: datetime, end: datetime) -> tuple[Any, Any]:
    """The curve of a process, and its newest samples with their number."""
    return (
        processes.curve(look, source_id, process_id, start, end, POINTS),
        processes.samples(look, source_id, process_id, start, end, 0, SAMPLES_SHOWN),
    )


def _tone(severity: str | None) -> str:
    """Class of a tile whose value reached a level of this severity."""
    if severity is None:
        return ""
    return "bad" if rank(severity) >= rank("high") else "warning"


def _charts(view: View, rows: list[dict[str, Any]], unseen: list[Span]) -> list[tuple[str, dict[str, Any], str]]:
    common = chart([row["at"] for row in rows], [], view.zone, blind=spans_of(unseen))

    def values(name: str, scale: float = 1.0) -> list[float | None]:
        return [None if row[name] is None else float(row[name]) / scale for row in rows]

    def line(
        title: str, parts: list[tuple[str, list[float | None], str]], **more: Any
    ) -> tuple[str, dict[str, Any], str]:
        text = ", ".join(
            f"{label} {view.number(next((v for v in reversed(found) if v is not None), None))}"
            for label, found, _ in parts
        )
        return view.t(title), common | chart([], parts, view.zone, **more) | {"x": common["x"]}, text

    return [
        line("resources.memory_trend", [("RSS", values("rss_bytes", 1024**3), "--s1"),
                                        (view.t("resources.virtual"), values("vms_bytes", 1024**3), "--s2")], unit="GiB"),
        line("resources.cpu", [("CPU", values("cpu_pct"), "--s1")], unit="%", max=whole_cores(values("cpu_pct"))),
        line("resources.fds_max", [(view.t("resources.used"), values("fds"), "--s1"),
                                   (view.t("resources.limit"), values("fds_max"), "--s3")]),
        line("resources.conns_threads", [(view.t("resources.conns"), values("conns"), "--s1"),
                                 (view.t("resources.threads"), values("threads"), "--s2")]),
        line("resources.objects", [(view.t("resources.objects"), values("objects"), "--s1")]),
    ]  # fmt: skip


def whole_cores(values: list[float | None]) -> int:
    """End of an axis of CPU per cent: 100, or as many hundreds as cores the process kept busy at its highest (S-803)."""
    return 100 * max(1, ceil(max((value for value in values if value is not None), default=0.0) / 100))


@router.get("/ingest")
def ingest(request: Request, source: SourceParam = None) -> Response:
    """Rate and success rate of every series, in equal tiles."""
    view = View(request)
    services = services_of(request)
    rows: list[dict[str, Any]] = []
    as_of = None
    chosen = chosen_sources(services, source or None)
    try:
        with services.published.look() as look:
            rows, as_of = processes.ingest(look, chosen), look.as_of
    except LakeMissing:
        rows = []
    firing, _ = view.stored(
        lambda: stored.list_alerts(
            services.state, open_only=True, family="ingest.", source_ids=chosen, sort="-severity", page_size=200
        ),
        ([], 0),
    )
    return render(
        request, "ingest.html", title=view.t("ingest.title"), as_of=as_of, view=view, rows=rows, source=source,
        alerts=firing,
    )  # fmt: skip
