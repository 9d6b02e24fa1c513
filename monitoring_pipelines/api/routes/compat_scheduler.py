"""Paths of an existing scheduler monitor below ``/api/v1/scheduler`` (S-420 to S-428)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from itertools import compress, repeat
from operator import contains
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import missing, packed, responses, v1, v1_body
from monitoring_pipelines.api.params import (
    Flag,
    chosen_sources,
    one_source,
    ordered,
    sort_by,
)
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.metrics.delivery import channel_counters
from monitoring_pipelines.published import jobs
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.self_jobs import product_jobs
from monitoring_pipelines.state import self_jobs

log = logging.getLogger(__name__)
router = APIRouter(route_class=StrictRoute, prefix="/api/v1/scheduler", tags=["scheduler"])
Scope = Literal["mapped", "self", "all"]
JobId = Annotated[str, Path(min_length=1, max_length=255)]
#: What lists of jobs can be ordered by (S-804); texts in any case.
COLUMNS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "id": lambda row: row["job_id"].lower(),
    "name": lambda row: row["job_name"].lower(),
    "owner": lambda row: row["owner"] and row["owner"].lower(),
    "category": lambda row: row["category"] and row["category"].lower(),
} | {
    name: lambda row, name=name: row[name]
    for name in (
        "success_count", "failure_count", "success_rate", "avg_duration_ms", "p95_duration_ms", "last_timestamp",
        "next_run_time", "last_status",
    )
}  # fmt: skip
SortParam = Annotated[str | None, sort_by(COLUMNS)]


def chosen_scope(services: Services, scope: Scope | None) -> list[str]:
    """Sources whose jobs are meant: those that map jobs, the product itself, or both (S-420)."""
    mapped = [one.id for one in services.settings.enabled_sources if one.mapped("job") or one.mapped("job_run")]
    effective = scope or ("mapped" if mapped else "self")
    return {"mapped": mapped, "self": [jobs.SELF], "all": [*mapped, jobs.SELF]}[effective]


def job_rows(
    services: Services, look: Look, scope: Scope | None, off: frozenset[str] | None = None
) -> Sequence[Mapping[str, Any]]:
    """Jobs of the scope with figures, and the product's own switches (``off`` if they were read); whoever asks shares the rows."""
    names, minute = chosen_scope(services, scope), services.minute()
    rows = services.newest(
        ("jobs", *names), (*look.stamp(jobs.TABLES), minute), lambda: _job_rows(services, look, names, minute)
    )
    if jobs.SELF not in names:
        return rows
    first, off = jobs.own_from(rows), _switched_off(services) if off is None else off
    own = ({**row, "enabled": False, "next_run_time": None} if row["job_id"] in off else row for row in rows[first:])
    return [*rows[:first], *own]


def _switched_off(services: Services) -> frozenset[str]:
    """The product's own jobs that are disabled."""
    with services.state.read() as con:
        return frozenset(self_jobs.disabled(con, list(product_jobs(services.settings))))


def packed_once(
    request: Request, look: Look, scope: Scope | None, what: str,
    data: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]], *depends: Hashable,
) -> Response:  # fmt: skip
    """An answer about all jobs of a scope, made of them once per version, minute and state of the product's own switches."""
    services = services_of(request)
    off = _switched_off(services) if jobs.SELF in chosen_scope(services, scope) else frozenset()
    kept = services.newest(
        (what, scope), (look.lake.version, services.minute(), off, *depends),
        lambda: packed(v1_body(data(job_rows(services, look, scope, off)), look.as_of), look.as_of),
    )  # fmt: skip
    return kept.answer(request)


def _job_rows(services: Services, look: Look, names: list[str], minute: datetime) -> list[jobs.Job]:
    rows = jobs.with_own(jobs.figures(look, names), services.settings, names)
    due: dict[str | None, datetime | None] = {
        schedule: jobs.next_due(schedule, minute, services.settings.timezone)
        for schedule in {row["schedule"] for row in rows}
    }
    for row in rows:
        row.set_next_run(None if row["enabled"] is False else due[row["schedule"]])
    return rows


def heatmap(services: Services, look: Look, scope: Scope | None, end: datetime) -> list[dict[str, Any]]:
    """M-505 of the scope's jobs, of the 24 hours before ``end``."""
    return services.newest(
        ("heat map", scope), (*look.stamp((*jobs.TABLES, "raw.job_run")), end),
        lambda: jobs.heatmap(look, job_rows(services, look, scope), end),
    )  # fmt: skip


def overview_of(services: Services, look: Look, scope: Scope | None) -> dict[str, Any]:
    """M-504 of the scope's jobs."""
    return services.newest(
        ("overview of jobs", scope), look.stamp(jobs.TABLES), lambda: jobs.overview(job_rows(services, look, scope))
    )


@router.get("/status", responses=responses("v1", data="SchedulerStatus"))
def status(request: Request, scope: Scope | None = None) -> Response:
    """Whether the scheduler runs, and its jobs with their next due time."""
    services = services_of(request)
    with services.published.look() as look:
        running = is_running(services, look)

        def data(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            listed = [
                {"id": row["job_id"], "name": row["job_name"], "next_run_time": row["next_run_time"],
                 "trigger": row["schedule"], "source_id": row["source_id"]}
                for row in rows
            ]  # fmt: skip
            return {"running": running, "job_count": len(rows), "jobs": listed}

        return packed_once(request, look, scope, "status of jobs", data, running)


def is_running(services: Services, look: Look) -> bool:
    """Whether the product's scheduler works: it beats, or what it extracts is fresh."""
    from monitoring_pipelines.api import health

    now = services.clock.now()
    beats = health.heartbeats(services, now)
    known = [beat["status"] == "healthy" for name, beat in beats.items() if name in ("extract", "aggregate")]
    return any(known) if known else health.freshness(services, look.as_of, now) == "healthy"


@router.get("/jobs", responses=responses("v1", data="SchedulerJobs"))
def listed(request: Request, scope: Scope | None = None, sort: SortParam = None) -> Response:
    """Jobs with owner, category, schedule and last status."""
    services = services_of(request)
    with services.published.look() as look:

        def data(jobs_of_scope: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            rows = [
                {"id": row["job_id"], "name": row["job_name"], "next_run_time": row["next_run_time"],
                 "trigger": row["schedule"], "func": func_of(services, row), "owner": row["owner"],
                 "category": row["category"], "enabled": row["enabled"], "risk_level": row["risk_level"],
                 "sla_seconds": row["sla_seconds"], "last_status": row["last_status"], "source_id": row["source_id"]}
                for row in ordered(jobs_of_scope, sort, COLUMNS)
            ]  # fmt: skip
            return {"total": len(rows), "jobs": rows}

        if sort is None:
            return packed_once(request, look, scope, "list of jobs", data)
        return v1(request, data(job_rows(services, look, scope)), as_of=look.as_of)


def func_of(services: Services, row: Mapping[str, Any]) -> str | None:
    """What a job runs: the dotted name of the product's own, of others what their scheduler says about them."""
    own = product_jobs(services.settings).get(row["job_id"]) if row["source_id"] == jobs.SELF else None
    return own.func if own is not None else row["description"]


_METRICS = (
    "source_id", "job_id", "job_name", "owner", "category", "success_count", "failure_count", "total_runs", "missed_count",
    "skipped_count", "success_rate", "last_duration_ms", "avg_duration_ms", "lifetime_avg_duration_ms",
    "total_duration_ms", "last_status", "last_timestamp", "p50_duration_ms", "p95_duration_ms", "p99_duration_ms",
    "min_duration_ms", "max_duration_ms", "sample_count",
)  # fmt: skip


@router.get("/metrics", responses=responses("v1", data="SchedulerMetrics"))
def metrics(
    request: Request,
    scope: Scope | None = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of id, name or owner, any case")] = None,
    category: Annotated[str | None, Query(max_length=255, description="Only jobs of this category")] = None,
    sort: SortParam = None,
) -> Response:
    """Current figures of every job, delivery per channel, overview and failure heat map; ``q`` and ``category`` choose jobs,
    the others are of all.
    """
    services = services_of(request)
    with services.published.look() as look:
        channels = channel_counters(services.state, look)
        if not (sort or q or category):
            state = (look.lake.version, services.moment(), *channels.items())
            kept = services.newest(
                ("figures of jobs", scope), state,
                lambda: packed(v1_body(_metrics(services, look, scope, None, channels), look.as_of), look.as_of),
            )  # fmt: skip
            return kept.answer(request)
        data = _metrics(services, look, scope, sort, channels, q, category)
        return v1(request, data, as_of=look.as_of)


def searched(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What a search looks at in each of these rows, and their categories: of ten thousand jobs only made when they change."""
    texts = ["\n".join(_columns(row)) for row in rows]
    return texts, sorted({row["category"] or "" for row in rows})


def _columns(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["job_id"].lower(), row["job_name"].lower(), (row["owner"] or "").lower()


def matching(
    rows: Sequence[Mapping[str, Any]], q: str | None, category: str | None, texts: list[str] | None = None
) -> Sequence[Mapping[str, Any]]:
    """Jobs that pass the search (id, name, owner; any case) and the category; ``texts`` as ``searched`` has them."""
    text = (q or "").lower()
    if text:
        found = list(compress(rows, map(contains, texts or searched(rows)[0], repeat(text))))
        # Ends of lines stand between the columns of a text, so one with an end of line may begin in one and end in another.
        rows = [row for row in found if any(text in one for one in _columns(row))] if "\n" in text else found
    return [row for row in rows if (row["category"] or "") == category] if category else rows


def _metrics(
    services: Services, look: Look, scope: Scope | None, sort: str | None, channels: dict[str, tuple[int, int]],
    q: str | None = None, category: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """S-423; nothing in it depends on a switch of a job, except an order by the next run."""
    rows = matching(job_rows(services, look, scope), q, category)
    return {
        "total": len(rows), "metrics": _shown(ordered(rows, sort, COLUMNS)),
        "notification_channels": [
            {"channel": channel, "success_count": ok, "failure_count": failed}
            for channel, (ok, failed) in channels.items()
        ],
        "overview": overview_of(services, look, scope), "heatmap": heatmap(services, look, scope, services.moment()),
    }  # fmt: skip


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in _METRICS} for row in rows]


def find_job(services: Services, job_id: str, source: str | None = None) -> Mapping[str, Any]:
    """The job of this id; 404 when unknown, 400 when several sources have it or there is no such source."""
    if source is not None:
        chosen_sources(services, source)
    with services.published.look() as look:
        rows = jobs.of_id(job_rows(services, look, "all"), job_id, chosen_scope(services, "all"))
    rows = [row for row in rows if source is None or row["source_id"] == source]
    name = one_source((row["source_id"] for row in rows), source, "this job")
    if name is None:
        raise missing("unknown job")
    return next(row for row in rows if row["source_id"] == name)


@router.get("/services/list", responses=responses("v1", data="SchedulerServices"))
def service_list(request: Request, scope: Scope | None = None) -> Response:
    """Categories of jobs with their number of jobs."""
    services = services_of(request)
    with services.published.look() as look:
        counts: dict[str, dict[str, int]] = {}
        for row in job_rows(services, look, scope):
            part = counts.setdefault(row["category"] or "", {"jobs": 0, "enabled": 0})
            part["jobs"] += 1
            part["enabled"] += row["enabled"] is not False
        rows = [{"service": name, **counts[name]} for name in sorted(counts)]
        return v1(request, {"total": len(rows), "services": rows}, as_of=look.as_of)


@router.get("/configs", responses=responses("v1", data="SchedulerConfigs"))
def configs(
    request: Request,
    scope: Scope | None = None,
    category: Annotated[str | None, Query(max_length=255)] = None,
    enabled: Flag | None = None,
) -> Response:
    """Metadata of jobs, read only."""
    services = services_of(request)
    names = ("source_id", "job_id", "job_name", "owner", "category", "description", "schedule", "enabled", "risk_level",
             "sla_seconds", "dependencies")  # fmt: skip
    with services.published.look() as look:

        def data(jobs_of_scope: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            rows = [
                {name: row[name] for name in names}
                for row in jobs_of_scope
                if (category is None or (row["category"] or "") == category)
                and (enabled is None or (row["enabled"] is not False) == enabled)
            ]
            return {"total": len(rows), "configs": rows}

        if category is None and enabled is None:
            return packed_once(request, look, scope, "configs of jobs", data)
        return v1(request, data(job_rows(services, look, scope)), as_of=look.as_of)
