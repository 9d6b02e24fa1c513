"""Paths of an existing consistency monitor below ``/api/monitoring`` (S-410 to S-415)."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring_pipelines.alerts.testing import send_test
from monitoring_pipelines.api import alert_rows, health, summaries
from monitoring_pipelines.api.access import Needs, Principal
from monitoring_pipelines.api.answers import ApiError, bad, monitoring, responses, to_json
from monitoring_pipelines.api.params import WHOLE, AsyncParam, Integer, SourceParam, bounded, chosen_sources
from monitoring_pipelines.api.routes.checks import checked_source
from monitoring_pipelines.api.routes.checks import run as run_check
from monitoring_pipelines.api.services import Services, audit, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.collect.health import Level, worst
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.published.completeness import Figures
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.quality import thresholds
from monitoring_pipelines.quality.files import run_dict
from monitoring_pipelines.severity import health_of, rounded
from monitoring_pipelines.state import alerts as stored_alerts
from monitoring_pipelines.state import checks as stored

router = APIRouter(route_class=StrictRoute, prefix="/api/monitoring", tags=["compatible paths"])
Operator = Annotated[Principal, Depends(Needs("operator"))]
Admin = Annotated[Principal, Depends(Needs("admin"))]
_LEVEL_OF_SEVERITY: dict[str, Level] = {"critical": "CRITICAL", "high": "ERROR", "medium": "WARNING"}


@router.get("/health", responses=responses("monitoring", data="MonitoringHealth"))
def overall(request: Request) -> Response:
    """Worst of database, queue, task execution and resources (C-485)."""
    services = services_of(request)
    now = services.clock.now()
    rows, as_of = summaries.sources(services)
    # Kept as text until something is committed: a storm of alerts would be read and written anew by every request.
    resources, alerts = services.of_state(("open alerts as findings",), partial(_open_alerts, services))
    limits = thresholds.effective(services.settings, services.state)
    checks = {"database": _database(services, rows, now)}
    if as_of is None:
        checks |= {
            name: {"status": "ERROR", "reason": "nothing has been published yet"}
            for name in ("queue", "task_execution")
        }
    else:
        with services.published.look() as look:
            checks["queue"] = _queue(services, look, limits, now)
            checks["task_execution"] = _execution(services, look, limits, now)
    checks["resources"] = resources
    data = {
        "timestamp": now, "overall_status": worst(check["status"] for check in checks.values()), "checks": checks,
        "alerts": orjson.Fragment(alerts),
    }  # fmt: skip
    return monitoring(request, data, as_of=as_of)


def _open_alerts(services: Services) -> tuple[dict[str, Any], bytes]:
    """What open alerts say of resources, and those people see as findings, as JSON."""
    rows, _ = stored_alerts.list_alerts(services.state, open_only=True, page_size=sys.maxsize)
    zone = services.settings.timezone
    seen = [alert_rows.as_finding(row, zone) for row in rows if row["state"] != "pending"]
    return _resources(rows), to_json(seen)


def _database(services: Services, rows: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    late = [
        row["id"] for row in rows
        if row["error"] or health.freshness(services, row["last_success_at"], now) != "healthy"
    ]  # fmt: skip
    lags = {row["id"]: row["lag_s"] for row in rows}
    return {"status": "ERROR" if late else "HEALTHY", "lag_s": lags, "failing": late}


def _queue(services: Services, look: Look, limits: Any, now: datetime) -> dict[str, Any]:
    found = [
        services.recall(look.lake.version, ("waiting", name), partial(_waiting, services, look, name))
        for name in services.source_ids
    ]
    waiting = sum(n for n, _ in found)
    oldest = min((since for _, since in found if since is not None), default=None)
    age = None if oldest is None else max(0.0, (now - oldest).total_seconds())
    status = "HEALTHY"
    if waiting > limits.max_pending_tasks:
        status = "WARNING"
    if age is not None and age > limits.max_queue_wait_time:
        status = "ERROR"
    return {"status": status, "pending_tasks": waiting, "oldest_wait_s": age}


def _waiting(services: Services, look: Look, name: str) -> tuple[int, datetime | None]:
    """How many tasks wait, and since when the first of them does; of the 10,000 that were created first."""
    from monitoring_pipelines.published.tasks import TaskFilter

    wanted = TaskFilter((name,), ("queued",))
    rows, n = summaries.index_of(services).list_page(look, wanted, 0, 10_000, oldest_first=True)
    times = [task["queued_at"] or task["created_at"] for task in rows]
    return n, min((at for at in times if at), default=None)


def _execution(services: Services, look: Look, limits: Any, now: datetime) -> dict[str, Any]:
    done = failed = 0
    for name in services.source_ids:
        row = summaries.last_day(services, look, name)["tasks_24h"]
        done += row["completed"] or 0
        failed += (row["failed"] or 0) + (row["timeout"] or 0)
    total = done + failed
    status = "HEALTHY"
    if total and Fraction(done, total) < Fraction(str(limits.min_success_rate)):
        status = "WARNING"
    if total and Fraction(failed, total) > Fraction(str(limits.max_failed_rate)):
        status = "ERROR"
    rate = rounded(Fraction(100 * done, total), 2) if total else None
    return {"status": status, "completed": done, "failed": failed, "success_rate": rate}


def _resources(open_alerts: list[dict[str, Any]]) -> dict[str, Any]:
    families = ("resource.", "leak.", "fd.", "host.", "target.", "ingest.")
    # An exercise is told like an alert, but nothing is wrong.
    mine = [
        row for row in open_alerts
        if row["type"].startswith(families) and row["state"] != "pending" and not row["is_drill"]
    ]  # fmt: skip
    levels: list[Level] = [_LEVEL_OF_SEVERITY.get(row["severity"], "HEALTHY") for row in mine]
    return {"status": worst(levels), "alerts": [row["alert_id"] for row in mine]}


class ConsistencyBody(BaseModel):
    """What to check; nothing given is a full check."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["quick", "full", "deep"] = "full"
    hours_back: Annotated[int, Field(ge=1, le=720), WHOLE] | None = None
    source: Annotated[str, Field(max_length=32)] | None = None


@router.post(
    "/data-consistency/check", responses=responses("monitoring", 409, data="CheckReport", accepted="CheckStarted")
)
def check(
    request: Request, _who: Operator, body: ConsistencyBody | None = None, at_once: AsyncParam = False
) -> Response:
    """Run a consistency check now; 202 and its id with ``async`` or after ``api.sync_check_timeout_s``."""
    services = services_of(request)
    wanted = body or ConsistencyBody()
    if wanted.type == "deep" and wanted.hours_back is not None:
        raise bad("hours_back: not for deep checks")
    checked_source(services, wanted.source)
    started = run_check(request, wanted.type, wanted.hours_back, wanted.source, wait=not at_once)
    if started.run is None:
        return monitoring(request, {"run_id": started.run_id, "status": "running"}, status=202)
    return monitoring(request, run_dict(services.settings, started.run))


@router.get("/data-consistency/metrics", responses=responses("monitoring", data="ConsistencyMetrics"))
def metrics(request: Request, hours: Annotated[Integer, bounded(1, 720)] = 24, source: SourceParam = None) -> Response:
    """Completeness of the last hours: per source and summed up."""
    services = services_of(request)
    now, end = services.clock.now(), services.moment()
    chosen = [name for name in chosen_sources(services, source) if summaries.has_outputs(services, name)]
    bands = summaries.bands_of(services)
    with services.published.look() as look:
        parts = {
            name: summaries.window_figures(services, look, name, end - timedelta(hours=hours), end) for name in chosen
        }
        states = {name: look.manifest.sources.get(name, {}).get("as_of") for name in chosen}
    stale = {name: health.freshness(services, at, now) != "healthy" for name, at in states.items()}
    as_of = min((at for at in states.values() if at is not None), default=None)
    extras = {name: _extra(services, name) for name in chosen}
    data: dict[str, Any] = {"timestamp": now, "as_of": as_of, "stale": any(stale.values())}
    data |= _metrics(sum(parts.values(), Figures()), _sum_extras(list(extras.values())), bands, data["stale"])
    data["sources"] = [
        {"source_id": name, "as_of": states[name], "stale": stale[name]}
        | _metrics(parts[name], extras[name], bands, stale[name])
        for name in chosen
    ]
    return monitoring(request, data, as_of=as_of)


#: Figure → the check that computes it, in whose metrics it has the same name.
_EXTRAS = {"orphan_outputs": "orphans", "outputs_of_unsuccessful": "wrong_status"}


def _extra(services: Services, name: str) -> dict[str, int | None]:
    """Figures only a full check computes, from the newest one; NULL before the first, absent where they do not apply."""
    found: dict[str, int | None] = {}
    for label, check_id in _EXTRAS.items():
        known = stored.believed(services.state, check_id, name, answers_only=True)
        if known is not None and known.outcome.status == "not_applicable":
            continue
        value = known.outcome.metrics.get(label) if known else None
        found[label] = None if value is None else int(value)
    return found


def _sum_extras(rows: list[dict[str, int | None]]) -> dict[str, int | None]:
    """Their sums over the sources they apply to; NULL while one of these is not known."""
    result: dict[str, int | None] = {}
    for name in _EXTRAS:
        values = [row[name] for row in rows if name in row]
        known = [value for value in values if value is not None]
        result[name] = sum(known) if known and len(known) == len(values) else None
    return result


def _metrics(found: Figures, extra: dict[str, int | None], bands: Any, is_stale: bool) -> dict[str, Any]:
    """Figures stay readable while a source is not read, its health is unknown then (C-025)."""
    values = found.as_metrics()
    tasks = ("total_tasks", "success_tasks", "tasks_with_outputs", "missing_count", "pending_settle", "completion_rate",
             "completion_rate_value", "missing_rate", "missing_rate_value")  # fmt: skip
    outputs = ("total_outputs", "distinct_outputs", "duplicate_rows", "avg_outputs_per_task", "avg_outputs_per_task_value",
               "no_end_time")  # fmt: skip
    healthy, degraded = f"{bands.healthy:g}", f"{bands.degraded:g}"
    return {
        "task_metrics": {name: values[name] for name in tasks},
        "output_metrics": {name: values[name] for name in outputs} | dict.fromkeys(_EXTRAS) | extra,
        "health_status": {
            "status": "unknown" if is_stale else health_of(found.tasks_with_outputs, found.success_tasks, bands),
            "completion_rate_threshold": {
                "healthy": f">={healthy}%", "degraded": f"{degraded}-{healthy}%", "unhealthy": f"<{degraded}%",
            },
        },
    }  # fmt: skip


@router.get("/alerts", responses=responses("monitoring", data="AlertsAsFindings"))
def alert_list(request: Request, limit: Annotated[Integer, bounded(1, None)] = 50) -> Response:
    """Alerts of all types, newest first; the history cannot be cleared."""
    services = services_of(request)
    rows, total = stored_alerts.list_alerts(services.state, page_size=min(limit, sys.maxsize))
    zone = services.settings.timezone
    return monitoring(request, {"alerts": [alert_rows.as_finding(row, zone) for row in rows], "total": total})


@router.get("/config/thresholds", responses=responses("monitoring", data="Thresholds"))
def read_thresholds(request: Request) -> Response:
    """The thresholds in force (C-301)."""
    services = services_of(request)
    return monitoring(request, thresholds.effective(services.settings, services.state).model_dump())


class ThresholdBody(BaseModel):
    """Thresholds to change; others stay."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_pending_tasks: Annotated[int, Field(ge=0, le=1_000_000_000), WHOLE] | None = None
    max_queue_wait_time: Annotated[float, Field(gt=0, le=1e9)] | None = None
    max_execution_time: Annotated[float, Field(gt=0, le=1e9)] | None = None
    max_failed_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    min_success_rate: Annotated[float, Field(ge=0, le=1)] | None = None


@router.put("/config/thresholds", responses=responses("monitoring", data="Thresholds"))
def change_thresholds(request: Request, body: ThresholdBody, who: Admin) -> Response:
    """Change thresholds; NULL goes back to the configured value. Every change is journaled."""
    services = services_of(request)
    values = body.model_dump(exclude_unset=True)
    try:
        after = thresholds.change(services.settings, services.state, values, who.name, services.clock.now())
    except UsageError as error:
        raise bad(error.message) from None
    audit(request, "thresholds.change", "thresholds", values)
    return monitoring(request, after.model_dump())


@router.get("/status", responses=responses("monitoring", data="MonitoringStatus"))
def status(request: Request) -> Response:
    """Sources, queue and task counters, newest check runs, open alerts."""
    services = services_of(request)
    rows, as_of = summaries.sources(services)
    newest = {
        kind: {"run_id": run.run_id, "status": run.status, "ended_at": run.ended_at, "total_alerts": len(run.findings)}
        for kind, run in stored.newest_runs(services.state).items()
    }
    found = summaries.open_alerts(services)
    data = {
        "timestamp": services.clock.now(), "as_of": as_of,
        "sources": [{"id": row["id"], "health": row["health"], "lag_s": row["lag_s"]} for row in rows],
        "tasks": None, "checks": newest, "alerts": {"total": found["total"], "by_severity": found["by_severity"]},
    }  # fmt: skip
    if as_of is not None:
        with services.published.look() as look:
            counted = _task_stats(services, look, services.source_ids)
        data["tasks"] = counted["combined"] | {"queued": counted["queued"]}
    return monitoring(request, data, as_of=as_of)


@router.get("/tasks/stats", responses=responses("monitoring", data="TaskStats"))
def task_stats(request: Request, source: SourceParam = None) -> Response:
    """Queue and task counters."""
    services = services_of(request)
    chosen = chosen_sources(services, source)
    with services.published.look() as look:
        return monitoring(request, _task_stats(services, look, chosen), as_of=look.as_of)


def _task_stats(services: Services, look: Look, chosen: list[str]) -> dict[str, Any]:
    data = summaries.counters(services, look, chosen)
    for row in data["sources"]:
        row["queued"] = row["by_status"].get("queued", 0)
    data["queued"] = sum(row["queued"] for row in data["sources"])
    return data


class MessageBody(BaseModel):
    """A test message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    level: Literal[
        "info", "low", "medium", "high", "critical", "warning", "error", "urgent",
        "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL", "WARNING", "ERROR", "URGENT",
    ] = "info"  # fmt: skip
    title: Annotated[str, Field(max_length=200)] | None = None
    message: Annotated[str, Field(max_length=2000)] | None = None
    details: dict[str, Any] | None = None


@router.post("/test-alert", responses=responses("monitoring", 409, data="TestMessages"))
def send_test_alert(request: Request, body: MessageBody, _who: Operator) -> Response:
    """Send one test message through the real channels; no alert or timer changes (A-504)."""
    services = services_of(request)
    try:
        rows = send_test(
            services.settings, services.state, services.clock, level=body.level.lower(), title=body.title,
            message=body.message, details=body.details,
        )  # fmt: skip
    except UsageError as error:
        raise ApiError(409, error.message, "no_channel") from None
    audit(request, "alert.test", "channels", {"level": body.level})
    return monitoring(request, {"notifications": [alert_rows.message(row) for row in rows]})
