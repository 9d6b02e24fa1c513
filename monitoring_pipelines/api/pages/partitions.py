"""Statistics: partition by time, each cell with what was computed and what the checks say (S-820, M-101).

The Dagster UI shows a partition as materialised whatever its check said; here both are one cell.

What belongs here: signs, tones and texts. What does not: what they say (``api.partition_rows``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api import partition_rows
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import SourceParam, chosen_sources
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.published.partitions import LENGTH, Grain
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "partitions.title": ("统计分区", "Statistics"),
    "partitions.shown": ("时间范围", "Shown"),
    "partitions.hours": ("最近 {n} 小时", "{n} hours"),
    "partitions.days": ("最近 {n} 天", "{n} days"),
    "partitions.table": ("统计表", "Statistics"),
    "partitions.checks": ("检查", "Checks"),
    "partitions.check_runs": ("检查运行", "Check runs"),
    "partitions.legend": (
        "✓ 已计算，检查通过 | ○ 已计算，未检查 | ✗n 有 n 项检查未通过 | ! 降级 | ✗ 不健康 | 0 为零 | ∅ 尚未计算",
        "✓ computed, checks passed | ○ computed, not checked | ✗n n checks failed | ! degraded | ✗ unhealthy | 0 zero | ∅ not computed",
    ),
    "partitions.legend_more": (
        "~ 未完成 | ? 未知 | – 尚未关闭 | ↻ 已重述 | · 没有检查",
        "~ unfinished | ? unknown | – not closed yet | ↻ restated | · no check",
    ),
    "partitions.cell": ("{at}：{state}，{rows} 行", "{at}: {state}, {rows} rows"),
    "partitions.revision": ("修订 {n}", "revision {n}"),
    "partitions.complete": ("{done}/{total} 有输出", "{done} of {total} with outputs"),
    "partitions.none_checked": ("没有检查", "no check"),
    "partitions.failed": ("检查未通过：{checks}", "failed: {checks}"),
    "partitions.bad_rows": ("{check}（{n} 行）", "{check} ({n} rows)"),
    "family.endpoint": ("端点", "Endpoints"),
    "family.output": ("输出", "Outputs"),
    "family.job": ("作业", "Jobs"),
    "family.resource": ("资源", "Resources"),
    "family.ingest": ("采集", "Ingest"),
    "family.notification": ("通知", "Notifications"),
    "grain.minute": ("分钟", "minute"),
    "grain.hourly": ("小时", "hour"),
    "grain.daily": ("天", "day"),
    "cellstate.closed": ("已计算", "computed"),
    "cellstate.empty": ("零", "zero"),
    "cellstate.absent": ("尚未计算", "not computed"),
    "cellstate.partial": ("未完成", "unfinished"),
    "cellstate.unknown": ("未知", "unknown"),
    "cellstate.none": ("尚未关闭", "not closed yet"),
    "cellchecks.passed": ("检查通过", "checks passed"),
    "cellchecks.outdated": ("上次检查后又有变化", "changed since it was checked"),
    "cellchecks.unchecked": ("未检查", "not checked"),
    "cellchecks.unknown": ("检查结果未知", "what checks say is unknown"),
    "run.unknown": ("没有结论", "no answer"),
}
router = APIRouter(include_in_schema=False)
HOUR = timedelta(hours=1)
#: What can be chosen: number of partitions and their grain.
Shown = Literal["24h", "48h", "72h", "30d"]
SHOWN: dict[str, tuple[int, Grain]] = {
    "24h": (24, "hour"),
    "48h": (48, "hour"),
    "72h": (72, "hour"),
    "30d": (30, "day"),
}
#: state → (sign, tone); signs and texts say what tones say, so colour is never alone. Only what was checked is green.
SIGNS = {"closed": ("○", "neutral"), "empty": ("0", "neutral"), "absent": ("∅", "hatched"), "partial": ("~", "hatched"),
         "unknown": ("?", "hatched"), "none": ("–", "neutral")}  # fmt: skip
HEALTH_SIGNS = {"degraded": "!", "unhealthy": "✗"}
#: What several runs of one hour look like together, by the worst of them.
RUN_SIGNS = {"error": ("✗", "unhealthy"), "issues_detected": ("✗", "unhealthy"), "missed": ("?", "hatched"),
             "skipped": ("–", "neutral"), "running": ("~", "neutral"), "unknown": ("?", "neutral"),
             "healthy": ("✓", "healthy")}  # fmt: skip


@router.get("/partitions")
def page(request: Request, source: SourceParam = None, shown: Shown = "24h") -> Response:
    """The matrix, newest partition first."""
    view = View(request)
    services = services_of(request)
    chosen = chosen_sources(services, source or None)
    start, end, grain = range_of(view.now, shown)
    at = [end - LENGTH[grain] * (n + 1) for n in range(SHOWN[shown][0])]
    found: list[dict[str, Any]] = []
    as_of = None
    try:
        with services.published.look() as look:
            as_of = look.as_of
            read = partial(partition_rows.rows, services, look, chosen, grain, start, end)
            found = view.stored(read, None)
            if found is None:
                found = read(with_state=False)
    except LakeMissing:
        found = []
    runs = view.stored(partial(partition_rows.runs, services, chosen, start, end), {}) if grain == "hour" else {}
    rows = [
        {"source": row["source_id"], "table": row["table"], "cells": [cell(view, row["table"], one) for one in reversed(row["cells"])]}
        for row in found
    ]  # fmt: skip
    blocks = [
        {"source": name, "rows": [row for row in rows if row["source"] == name],
         "checks": [run_cell(view, one, runs[name].get(one, [])) for one in at] if name in runs else None}
        for name in chosen
    ]  # fmt: skip
    return render(
        request, "partitions.html", title=view.t("partitions.title"), as_of=as_of, view=view, shown=at, source=source,
        blocks=[block for block in blocks if block["rows"]], chosen=shown, choices=SHOWN, grain=grain, asset=asset_path,
        short=partial(short_name, view), api=view.url(
            "/api/v1/partitions", source=source, grain=grain, from_=view.utc(start), to=view.utc(end)
        ),
    )  # fmt: skip


def range_of(now: datetime, shown: Shown) -> tuple[datetime, datetime, Grain]:
    """What the page shows: start and end (naive UTC) of its partitions, the one that has begun included, and their grain."""
    number, grain = SHOWN[shown]
    end = now + (datetime.min - now) % LENGTH[grain]
    return end - number * LENGTH[grain], end, grain


def cell(view: View, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """One cell: sign, tone, text, link to the partition in the Dagster UI."""
    sign, tone = SIGNS[row["state"]]
    day = len(row["partition"]) == len("2026-01-01")
    when = row["partition"] if day else view.local(row["from"], "%m-%d %H:%M")
    parts = [view.t("partitions.cell", at=when, state=view.word("cellstate", row["state"]), rows=row["rows"])]
    checks, health = row["checks"], row["completion_health"]
    if row["state"] == "closed" and checks["state"] == "passed":
        sign, tone = "✓", "healthy"
    if health in HEALTH_SIGNS:
        sign, tone = HEALTH_SIGNS[health], health
    if row["success_tasks"] and row["state"] == "closed":
        done, total = view.number(row["tasks_with_outputs"]), view.number(row["success_tasks"])
        parts.append(view.t("partitions.complete", done=done, total=total))
    if checks["state"] == "failed":
        sign, tone = f"✗{len(checks['failed'])}", "unhealthy"
        names = [
            one["check"] if one["bad_rows"] is None else view.t("partitions.bad_rows", check=one["check"], n=one["bad_rows"])
            for one in checks["failed"]
        ]  # fmt: skip
        parts.append(view.t("partitions.failed", checks=", ".join(names)))
    elif row["state"] not in ("none", "absent"):
        parts.append(view.word("cellchecks", checks["state"]))
    if (row["revision"] or 1) > 1:
        sign += "↻"
        parts.append(view.t("partitions.revision", n=row["revision"]))
    href = view.dagster(f"/assets/{asset_path(table)}?view=partitions&partition={row['partition']}")
    return {"sign": sign, "tone": tone, "text": ", ".join(parts), "href": href}


def run_cell(view: View, at: datetime, due: list[dict[str, Any]]) -> dict[str, Any]:
    """What the check runs that were due in the hour found at one source; an hour without one says so."""
    sign, tone = RUN_SIGNS[due[0]["status"]] if due else ("·", "neutral")
    said = "; ".join(f"{view.word('checktype', run['type'])} {view.word('run', run['status'])}" for run in due)
    text = f"{view.local(at, '%m-%d %H:%M')}: {said or view.t('partitions.none_checked')}"
    return {"sign": sign, "tone": tone, "text": text, "href": f"/checks/{due[0]['run_id']}" if due else None}


def asset_path(table: str) -> str:
    """``mart.x`` as a path of the Dagster UI."""
    return table.replace(".", "/")


def short_name(view: View, table: str) -> str:
    """``mart.output_hourly_stats`` as ``Outputs · hour``, in the reader's language."""
    family, _, grain = table.removeprefix("mart.").removesuffix("_stats").rpartition("_")
    return f"{view.word('family', family)} · {view.word('grain', grain)}"
