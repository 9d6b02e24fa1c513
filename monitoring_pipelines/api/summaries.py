"""Answers put together from published files and state store, shared by JSON routes and pages.

What belongs here: joining the two. What does not: reading either (``published``, ``state``), envelopes, HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines.api import health
from monitoring_pipelines.api.alert_rows import shown
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.published import completeness
from monitoring_pipelines.published import overview as published_overview
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TaskIndex
from monitoring_pipelines.severity import BandLimits, health_of, highest
from monitoring_pipelines.state import alerts as stored_alerts
from monitoring_pipelines.warehouse.lake import LakeMissing

HOUR = timedelta(hours=1)


def index_of(services: Services) -> TaskIndex:
    """What is remembered of task files; one per application."""
    index: TaskIndex = services.shared.setdefault("task_index", TaskIndex())
    return index


def bands_of(services: Services) -> BandLimits:
    """The configured bands (C-002)."""
    bands = services.settings.checks.bands
    return BandLimits(bands.healthy, bands.degraded, bands.critical)


def sources(services: Services) -> tuple[list[dict[str, Any]], datetime | None]:
    """Rows of S-201 and the instant they are true for; without published files everything measured is NULL."""
    now = services.clock.now()
    try:
        with services.published.look() as look:
            return [_source(services, look, source.id, now) for source in services.settings.enabled_sources], look.as_of
    except LakeMissing:
        return [_source(services, None, source.id, now) for source in services.settings.enabled_sources], None


def _source(
    services: Services, look: Look | None, source_id: str, now: datetime, with_state: bool = True
) -> dict[str, Any]:
    row = published_overview.source_row(look, services.settings.source(source_id), now)
    row["health"] = source_health(services, look, source_id, now, with_state)
    return row


def source_health(services: Services, look: Look | None, source_id: str, now: datetime, with_state: bool = True) -> str:
    """Health of a source: completeness over 24 h by the bands (C-103); unknown while it is not read (C-025).

    A source without outputs is as healthy as its gravest firing alert says, unknown where alerts are not known.
    """
    as_of = look.manifest.sources.get(source_id, {}).get("as_of") if look else None
    fresh = health.freshness(services, as_of, now)
    if fresh != "healthy" or look is None:
        return "unknown"
    if not has_outputs(services, source_id):
        return _health_by_alerts(services, source_id) if with_state else "unknown"
    found = day_figures(services, look, source_id)
    return health_of(found.tasks_with_outputs, found.success_tasks, bands_of(services))


def _health_by_alerts(services: Services, source_id: str) -> str:
    firing, _ = stored_alerts.list_alerts(
        services.state, states=["firing"], source_ids=[source_id], page_size=1, sort="-severity"
    )
    worst = highest(alert["severity"] for alert in firing)
    if worst in ("critical", "high"):
        return "unhealthy"
    return "degraded" if worst == "medium" else "healthy"


def has_outputs(services: Services, source_id: str) -> bool:
    """Whether completeness applies to the source (E-510); the product itself has no tasks."""
    if source_id == "_self":
        return False
    source = services.settings.source(source_id)
    return bool(source.mapped("task")) and bool(source.mapped("task_output"))


def window_figures(
    services: Services, look: Look, source_id: str, start: datetime, end: datetime
) -> completeness.Figures:
    """Completeness figures of a window, settled as of the source's last extraction."""
    as_of = look.manifest.sources.get(source_id, {}).get("as_of") or services.clock.now()
    settled = as_of - timedelta(seconds=services.settings.checks.settle_s)
    return services.recall(
        look.lake.version, ("figures", source_id, start, end),
        lambda: completeness.figures(look, index_of(services), source_id, start, end, settled),
    )  # fmt: skip


def day_figures(services: Services, look: Look, source_id: str) -> completeness.Figures:
    """Completeness figures of the last 24 hours."""
    end = services.moment()
    return window_figures(services, look, source_id, end - 24 * HOUR, end)


def task_totals(services: Services, look: Look, source_id: str) -> dict[str, Any]:
    """Tasks of a source by status and sums over their attempts."""
    return services.recall(
        look.lake.version, ("totals", source_id), lambda: index_of(services).totals(look, [source_id])[source_id]
    )


def live_totals(services: Services, look: Look, source_id: str) -> dict[str, int]:
    """Tasks of a source by status without those deleted at the source (S-401)."""
    return services.recall(
        look.lake.version, ("live", source_id), lambda: index_of(services).live_totals(look, source_id)
    )


def counters(services: Services, look: Look, chosen: Sequence[str]) -> dict[str, Any]:
    """S-222: per source and summed up."""
    rows = [
        published_overview.task_counters(task_totals(services, look, name), services.settings.source(name))
        for name in chosen
        if name != "_self" and services.settings.source(name).mapped("task")
    ]
    names = ("tasks", "started", "active", "completed", "failed", "timeout", "cancelled", "lost", "late_events")
    combined: dict[str, Any] = {name: sum(row[name] for row in rows) for name in names}
    ended = combined["completed"] + combined["failed"] + combined["timeout"]
    combined["success_rate"] = published_overview.ratio(combined["completed"], ended, 100)
    limits = [row["slots"]["limit"] for row in rows]
    combined["slots"] = {
        "limit": sum(limits) if limits and None not in limits else None,
        "in_use": sum(row["slots"]["in_use"] for row in rows),
        "available": sum(row["slots"]["available"] for row in rows) if limits and None not in limits else None,
        "leaked": sum(row["slots"]["leaked"] for row in rows),
    }
    return {"sources": rows, "combined": combined}


def overview(services: Services, chosen: Sequence[str], *, with_state: bool = True) -> dict[str, Any]:
    """S-202: what the first page shows; ``alerts`` is None if the state store is not to be asked."""
    now = services.clock.now()
    alerts = open_alerts(services, chosen) if with_state else None
    data: dict[str, Any] = {"as_of": None, "now": now, "sources": [], "alerts": alerts}
    try:
        with services.published.look() as look:
            data["as_of"] = look.as_of
            for name in chosen:
                data["sources"].append(_tile(services, look, name, now, with_state))
            data["endpoints"] = services.recall(
                look.lake.version, ("busiest", *chosen),
                lambda: published_overview.busiest_endpoints(look, list(chosen)),
            )  # fmt: skip
            data["status"] = _status_counts(services, look, chosen)
    except LakeMissing:
        unknown = {"completion": None, "tasks_24h": published_overview.NO_TASKS, "workers": None}
        data["sources"] = [
            _source(services, None, name, now, with_state) | unknown for name in chosen if name != "_self"
        ]
        data |= {"endpoints": [], "status": {}}
    data["health"] = health.aggregate(tile["health"] for tile in data["sources"])
    return data


def _tile(services: Services, look: Look, name: str, now: datetime, with_state: bool) -> dict[str, Any]:
    if name == "_self":
        return {"id": "_self", "health": "unknown", "completion": None}
    tile = _source(services, look, name, now, with_state)
    tile["completion"] = None
    if has_outputs(services, name):
        found = day_figures(services, look, name)
        tile["completion"] = found.as_metrics() | {
            "health": health_of(found.tasks_with_outputs, found.success_tasks, bands_of(services))
        }
    return tile | last_day(services, look, name)


def last_day(services: Services, look: Look, name: str) -> dict[str, Any]:
    """Tasks of the last 24 closed hours and workers of the newest closed minute."""
    return services.recall(look.lake.version, ("day", name), lambda: published_overview.last_day(look, name))


def _status_counts(services: Services, look: Look, chosen: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in chosen:
        for status, n in task_totals(services, look, name)["by_status"].items():
            counts[status] = counts.get(status, 0) + n
    return counts


def open_alerts(services: Services, chosen: Sequence[str] | None = None) -> dict[str, Any]:
    """Open alerts by severity and by state, and the gravest of them; an alert of the product itself belongs to all."""
    wanted = None if chosen is None else {*chosen, "_self"}
    by_severity: dict[str, int] = {}
    by_state: dict[str, int] = {}
    for row in stored_alerts.counts_by_state(services.state):
        if wanted is not None and row["source_id"] not in wanted:
            continue
        by_state[row["state"]] = by_state.get(row["state"], 0) + row["n"]
        if row["state"] != "pending":
            by_severity[row["severity"]] = by_severity.get(row["severity"], 0) + row["n"]
    gravest = stored_alerts.gravest(services.state, None if wanted is None else sorted(wanted), 5)
    return {
        "total": sum(by_severity.values()),
        "by_severity": by_severity,
        "by_state": by_state,
        "gravest": [shown(row) for row in gravest],
    }


def self_state(services: Services) -> dict[str, Any]:
    """S-251 without components: extraction, statistics, anomalies, sizes."""
    now = services.clock.now()
    data: dict[str, Any] = {"as_of": None, "sources": [], "anomalies": [], "published": None}
    try:
        with services.published.look() as look:
            data["as_of"] = look.as_of
            data["published"] = {
                "version": look.lake.version, "published_at": look.manifest.published_at,
                "changes_waiting": look.manifest.waiting,
            }  # fmt: skip
            for name in services.source_ids:
                row = published_overview.source_row(look, services.settings.source(name), now)
                closed = row["closed_through"]
                row["aggregate_lag_s"] = None if closed is None else round((now - closed).total_seconds(), 3)
                data["sources"].append(row)
            if look.has("meta.anomaly_summary"):
                data["anomalies"] = look.rows(
                    f"SELECT source_id, kind, sum(n)::BIGINT AS count, max(last_at) AS last_at "
                    f"FROM {look.table('meta.anomaly_summary')} GROUP BY ALL ORDER BY count DESC, source_id, kind"
                )
            since = services.moment() - 24 * HOUR
            data |= services.recall(look.lake.version, ("row states", since), lambda: _row_states(look, since))
    except LakeMissing:
        data["sources"] = sources(services)[0]
    data["store_bytes"] = store_bytes(services)
    return data


def _row_states(look: Look, start: datetime) -> dict[str, Any]:
    """Restated rows and snapshot coverage since ``start``."""
    table = "mart.endpoint_minute_stats"
    if not look.has(table):
        return {"restated_24h": None, "snapshot_coverage_pct": None}
    row = look.rows(
        "SELECT count(*) FILTER (restated_at >= $start) AS restated, sum(snapshots_received) AS got, "
        f"sum(snapshots_expected) AS wanted FROM {look.table(table, start)} WHERE stat_minute >= $start",
        {"start": start},
    )[0]
    coverage = published_overview.ratio(row["got"], row["wanted"], 100)
    return {"restated_24h": row["restated"], "snapshot_coverage_pct": coverage}


def store_bytes(services: Services) -> int | None:
    """Bytes of the warehouse file and its log, None when it is not there; the file is not opened."""
    path = services.settings.warehouse_path
    sizes = [p.stat().st_size for p in (path, path.with_name(path.name + ".wal")) if p.exists()]
    return sum(sizes) if sizes else None
