"""Statistics: partition by time, each cell with what was computed and what the checks say (S-820, M-101).

The Dagster UI shows a partition as materialised whatever its check said; here both are one cell.

What belongs here: the matrix. What does not: reading the statistics (``published.partitions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api import summaries
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import SourceParam, chosen_sources
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.partition_keys import hour_key
from monitoring_pipelines.published import partitions
from monitoring_pipelines.severity import BandLimits, health_of
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "partitions.title": ("统计分区", "Statistics"),
    "partitions.hours": ("小时数", "Hours"),
    "partitions.table": ("统计表", "Statistics"),
    "partitions.checks": ("检查", "Checks"),
    "partitions.legend": (
        "✓ 已计算 · 0 为零 · ~ 未完成 · ? 未知 · – 尚未关闭 · ! 降级 · ✗ 不健康 · ↻ 已重述 · · 没有检查",
        "✓ computed · 0 zero · ~ unfinished · ? unknown · – not closed yet · ! degraded · ✗ unhealthy · ↻ restated · · no check",
    ),
    "partitions.cell": ("{at}：{state}，{rows} 行", "{at}: {state}, {rows} rows"),
    "partitions.revision": ("修订 {n}", "revision {n}"),
    "partitions.complete": ("{done}/{total} 有输出", "{done} of {total} with outputs"),
    "partitions.none_checked": ("没有检查", "no check"),
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
    "cellstate.partial": ("未完成", "unfinished"),
    "cellstate.unknown": ("未知", "unknown"),
    "cellstate.none": ("尚未关闭", "not closed yet"),
}
router = APIRouter(include_in_schema=False)
HOUR = timedelta(hours=1)
#: state → (sign, tone); tone and sign say the same, so colour is never alone.
SIGNS = {"closed": ("✓", "healthy"), "empty": ("0", "neutral"), "partial": ("~", "hatched"), "unknown": ("?", "hatched"),
         "none": ("–", "neutral")}  # fmt: skip
HEALTH_SIGNS = {"healthy": "✓", "degraded": "!", "unhealthy": "✗", "unknown": "?"}
#: Worst first: what several runs of one hour look like together.
RUN_SIGNS = {"error": ("✗", "unhealthy"), "issues_detected": ("✗", "unhealthy"), "missed": ("?", "hatched"),
             "skipped": ("–", "neutral"), "running": ("~", "neutral"), "healthy": ("✓", "healthy")}  # fmt: skip


@router.get("/partitions")
def page(request: Request, source: SourceParam = None, hours: Literal["24", "48", "72"] = "24") -> Response:
    """The matrix, newest hour first."""
    view = View(request)
    services = services_of(request)
    chosen = [name for name in chosen_sources(services, source or None) if name != "_self"]
    end = view.now.replace(minute=0, second=0, microsecond=0) + HOUR
    shown = [end - HOUR * (n + 1) for n in range(int(hours))]
    found: dict[tuple[str, str], dict[datetime, Any]] = {}
    as_of = None
    try:
        with services.published.look() as look:
            as_of = look.as_of
            found = partitions.hourly(look, chosen, shown[-1], end)
    except LakeMissing:
        found = {}
    bands = summaries.bands_of(services)
    rows = [
        {"source": name, "table": table, "cells": [cell(view, table, at, cells[at], bands) for at in shown]}
        for (table, name), cells in sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    return render(
        request, "partitions.html", title=view.t("partitions.title"), as_of=as_of, view=view, rows=rows, shown=shown,
        source=source, hours=hours, checks=check_cells(view, services, shown), asset=asset_path, short=partial(short_name, view),
    )  # fmt: skip


def cell(view: View, table: str, at: datetime, row: Mapping[str, Any], bands: BandLimits) -> dict[str, Any]:
    """One cell: sign, tone, text, link to the partition in the Dagster UI."""
    sign, tone = SIGNS[row["state"]]
    parts = [
        view.t(
            "partitions.cell",
            at=view.local(at, "%m-%d %H:%M"),
            state=view.word("cellstate", row["state"]),
            rows=row["rows"],
        )
    ]
    if row["total"] and row["state"] == "closed":
        tone = health_of(row["done"], row["total"], bands)
        sign = HEALTH_SIGNS[tone]
        parts.append(view.t("partitions.complete", done=view.number(row["done"]), total=view.number(row["total"])))
    if (row["revision"] or 1) > 1:
        sign += "↻"
        parts.append(view.t("partitions.revision", n=row["revision"]))
    href = view.dagster(f"/assets/{asset_path(table)}?view=partitions&partition={hour_key(at)}")
    return {"sign": sign, "tone": tone, "text": ", ".join(parts), "href": href}


def asset_path(table: str) -> str:
    """``mart.x`` as a path of the Dagster UI."""
    return table.replace(".", "/")


def short_name(view: View, table: str) -> str:
    """``mart.output_hourly_stats`` as ``Outputs · hour``, in the reader's language."""
    family, _, grain = table.removeprefix("mart.").removesuffix("_stats").rpartition("_")
    return f"{view.word('family', family)} · {view.word('grain', grain)}"


def check_cells(view: View, services: Services, shown: list[datetime]) -> list[dict[str, Any]]:
    """Per hour the worst check run that was due in it; an hour without one says so."""
    runs, _ = view.stored(lambda: stored.page(services.state, size=500), ([], 0))
    by_hour: dict[datetime, list[Any]] = {}
    for run in runs:
        by_hour.setdefault(run.scheduled_at.replace(minute=0, second=0, microsecond=0), []).append(run)
    cells = []
    for at in shown:
        due = sorted(by_hour.get(at, ()), key=lambda run: list(RUN_SIGNS).index(run.status))
        sign, tone = RUN_SIGNS[due[0].status] if due else ("·", "neutral")
        said = "; ".join(f"{view.word('checktype', run.type)} {view.word('run', run.status)}" for run in due) or view.t(
            "partitions.none_checked"
        )
        text = f"{view.local(at, '%m-%d %H:%M')}: {said}"
        cells.append({"sign": sign, "tone": tone, "text": text, "href": f"/checks/{due[0].run_id}" if due else None})
    return cells
