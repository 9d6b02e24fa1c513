"""Overview: one sentence of health, what carries it, tiles per source, busiest endpoints (S-810)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from monitoring_pipelines.api import summaries
from monitoring_pipelines.api.pages import alert_text
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.published.endpoints import closed_through, table_of
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.severity import health_of, rank
from monitoring_pipelines.state import alerts as stored

STRINGS = {
    "overview.title": ("总览", "Overview"),
    "overview.no_source": ("尚未配置数据源", "No source configured"),
    "overview.how_to_begin": ("mp init 写出配置，mp up 开始运行", "mp init writes a configuration, mp up starts"),
    "overview.good": ("{n} 个数据源全部健康，没有活动告警。", "All {n} sources are healthy and nothing is firing."),
    "overview.alert": ("{severity} · {source}：{message}", "{severity} · {source}: {message}"),
    "overview.more": ("另有 {n} 个活动告警", "{n} more active alerts"),
    "overview.since": ("自 {at} 起（{ago}）", "since {at} ({ago})"),
    "overview.carried": ("主要来自{what}", "carried by {what}"),
    "overview.age": ("数据更新于 {ago}", "data read {ago}"),
    "overview.degraded": ("降级：{sources}", "Degraded: {sources}"),
    "overview.unhealthy": ("不健康：{sources}", "Unhealthy: {sources}"),
    "overview.unknown": ("状态未知：{sources} 没有当前数据", "State unknown: no current data of {sources}"),
    "overview.no_alerts_known": ("告警未知：状态库无法使用", "Alerts unknown: the state store cannot be used"),
    "overview.health": ("健康状态", "Health"),
    "overview.completion": ("完整率", "Completion"),
    "overview.alerts": ("活动告警", "Active alerts"),
    "overview.tasks": ("24h 任务", "Tasks (24h)"),
    "overview.workers": ("活跃工作器", "Active workers"),
    "overview.lag": ("数据延迟", "Data lag"),
    "overview.of": ("{a} / {b} 个任务有输出", "{a} / {b} with output"),
    "overview.endpoints": ("最繁忙的端点", "Busiest endpoints"),
    "overview.statuses": ("任务状态", "Task status"),
    "overview.strip": ("最近 24 小时（每格一小时）", "Last 24 h, one cell an hour"),
    "overview.success": ("成功率", "Success rate"),
    "overview.nothing": ("没有活动告警", "No active alerts"),
    "overview.share": ("占比", "Share"),
    "overview.of_workers": ("共 {n} 个在线", "of {n} online"),
    "overview.no_tasks": ("没有任务", "no tasks"),
    "overview.sources": ("数据源", "Sources"),
    "overview.not_read": ("尚未读取", "not read yet"),
    "overview.grave": ("有高级别告警", "Grave alerts"),
    "overview.gravest": ("最严重的告警", "Gravest alerts"),
    "overview.all_alerts": ("全部 {n} 个告警", "All {n} alerts"),
    "overview.count": ("数量", "Count"),
}
router = APIRouter(include_in_schema=False)
#: Status → colour of its slice.
SLICES = {"succeeded": "ok", "failed": "bad", "timed_out": "warn", "running": "s1", "queued": "s5", "created": "s5"}
GRAVEST = ("unhealthy", "unknown", "degraded", "healthy")
HOUR = timedelta(hours=1)
Strips = dict[tuple[str, str], Markup]


@router.get("/")
def page(request: Request) -> Response:
    """The first page."""
    view = View(request)
    services = services_of(request)
    data = view.stored(partial(summaries.overview, services, services.source_ids), None)
    if data is None:
        data = summaries.overview(services, services.source_ids, with_state=False)
    strips: Strips = {}
    if data["as_of"] is not None:
        with services.published.look() as look:
            strips = endpoint_strips(look, view)
    per_source: dict[str, int] = {}
    gravest: dict[str, str] = {}
    for row in view.stored(lambda: stored.counts_by_state(services.state), []):
        if row["state"] != "pending":
            name = row["source_id"]
            per_source[name] = per_source.get(name, 0) + row["n"]
            gravest[name] = max(gravest.get(name, "info"), row["severity"], key=rank)
    slices = [
        (view.word("status", status), n, SLICES.get(status, "none"))
        for status, n in sorted(data["status"].items(), key=lambda item: -item[1])
    ]
    # Health is completeness alone (C-103): beside a grave alert the word healthy would be read as all is well.
    alarmed = {
        tile["id"] for tile in data["sources"]
        if tile["health"] == "healthy" and rank(gravest.get(tile["id"], "info")) >= rank("high")
    }  # fmt: skip
    return render(
        request, "overview.html", title=view.t("overview.title"), as_of=data["as_of"], view=view, data=data,
        verdict=verdict(view, data), strips=strips, per_source=per_source,
        alert_tones={name: "bad" if rank(word) >= rank("high") else "warning" for name, word in gravest.items()},
        slices=slices, slice_tones=SLICES, alarmed=alarmed,
        tiles=sorted(data["sources"], key=lambda tile: 0 if tile["id"] in alarmed else GRAVEST.index(tile["health"])),
        total=sum(data["status"].values()),
    )  # fmt: skip


def verdict(view: View, data: dict[str, Any]) -> dict[str, Any]:
    """What stands on top: tone, one sentence, where to look, and since when, what carries it, what else there is.

    The gravest open alert comes first, then the worst source; unknown is never good. The age of the data is always said.
    """
    alerts = data["alerts"]
    facts: list[tuple[str, str | None]] = []
    href: str | None
    names = {state: [tile["id"] for tile in data["sources"] if tile["health"] == state] for state in GRAVEST}
    if alerts is None:
        tone, text, href = _by_health(view, data, names)
        if tone == "good":
            tone, text, href = "unknown", view.t("overview.no_alerts_known"), "/self"
        else:
            facts.append((view.t("overview.no_alerts_known"), "/self"))
    elif alerts["gravest"]:
        worst = alerts["gravest"][0]
        tone = "bad" if worst["severity"] in ("critical", "high") else "warning"
        text = view.t(
            "overview.alert", severity=view.word("severity", worst["severity"]), source=worst["source_id"],
            message=alert_text.sentence(view, worst),
        )  # fmt: skip
        href = f"/alerts/{worst['alert_id']}"
        since = worst["fired_at"] or worst["active_at"]
        facts.append((view.t("overview.since", at=view.local(since, "%m-%d %H:%M"), ago=view.ago(since)), None))
        carried = alert_text.carrier(view, worst)
        if carried:
            facts.append((view.t("overview.carried", what=carried), None))
        began = alert_text.began(view, worst)
        if began:
            facts.append((began, None))
        if alerts["total"] > 1:
            facts.append((view.t("overview.more", n=alerts["total"] - 1), "/alerts"))
        if names["unknown"]:
            facts.append((view.t("overview.unknown", sources=", ".join(names["unknown"])), "/self"))
    else:
        tone, text, href = _by_health(view, data, names)
    if not data["sources"]:
        facts.append((view.t("overview.how_to_begin"), None))
    if data["as_of"] is not None:
        facts.append((view.t("overview.age", ago=view.ago(data["as_of"])), None))
    return {"tone": tone, "text": text, "href": href, "facts": facts}


def _by_health(view: View, data: dict[str, Any], names: dict[str, list[str]]) -> tuple[str, str, str | None]:
    for state, tone, href in (("unhealthy", "bad", "/consistency"), ("unknown", "unknown", "/self"),
                              ("degraded", "warning", "/consistency")):  # fmt: skip
        if names[state]:
            return tone, view.t(f"overview.{state}", sources=", ".join(names[state])), href
    if not data["sources"]:
        return "unknown", view.t("overview.no_source"), None
    return "good", view.t("overview.good", n=len(data["sources"])), None


def endpoint_strips(look: Look, view: View) -> Strips:
    """(source, endpoint) → 24 cells as HTML, oldest first; made once per publication, whichever pages show them."""
    return view.services.recall(look.lake.version, ("strips", view.language), lambda: {
        key: _strip(cells) for key, cells in _strip_cells(look, view).items()
    })  # fmt: skip


def _strip(cells: list[tuple[str, str]]) -> Markup:
    said = "; ".join(text for _, text in cells if text)
    drawn = Markup("").join(Markup('<i class="{}" title="{}"></i>').format(state, text) for state, text in cells)
    return Markup('<span class="strip" role="img" aria-label="{}">{}</span>').format(said, drawn)


def _strip_cells(look: Look, view: View) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(source, endpoint) → 24 cells of (state, explanation), oldest first; an hour without outcome is neutral."""
    table = table_of("endpoint", "hour")
    if not look.has(table):
        return {}
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for source in view.services.source_ids:
        closed = closed_through(look, source)
        if closed is None:
            continue
        last = closed.replace(minute=0, second=0, microsecond=0)
        start = last - 23 * HOUR
        rows = look.rows(
            "SELECT endpoint, stat_hour, tasks_completed, tasks_failed, tasks_timeout, quality "
            f"FROM {look.table(table, start)} WHERE source_id = $source AND stat_hour >= $start",
            {"source": source, "start": start},
        )
        for row in rows:
            cells = found.setdefault((source, row["endpoint"]), [("", "")] * 24)
            number = int((row["stat_hour"] - start) / HOUR)
            if 0 <= number < 24:
                cells[number] = _cell(view, row)
    return found


def _cell(view: View, row: dict[str, Any]) -> tuple[str, str]:
    done, failed, late = (row[name] for name in ("tasks_completed", "tasks_failed", "tasks_timeout"))
    at = view.local(row["stat_hour"], "%m-%d %H:%M")
    if None in (done, failed, late) or row["quality"] == "unknown":
        return "unknown", f"{at} {view.t('health.unknown')}"
    total = done + failed + late
    if not total:
        return "", f"{at} –"
    return health_of(done, total), f"{at} {100 * done / total:.1f}% ({done}/{total})"
