"""Paths of an existing task monitor: ``/api/monitor/stats`` and ``/api/task/status/<id>`` (S-401, S-402)."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import bad, missing, plain, responses
from monitoring_pipelines.api.params import SourceParam, chosen_sources
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.api.summaries import index_of, live_totals, task_totals
from monitoring_pipelines.published import one_task, tasks
from monitoring_pipelines.published.overview import task_counters
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.severity import rounded

if TYPE_CHECKING:
    from monitoring_pipelines.config.source_schema import SourceSettings

router = APIRouter(route_class=StrictRoute, tags=["compatible paths"])
#: The monitor's own words.
_WORDS = {
    "created": "pending", "queued": "processing", "running": "processing", "succeeded": "completed",
    "failed": "failed", "cancelled": "failed", "timed_out": "timeout", "unknown": "pending",
}  # fmt: skip
_STATUS_COLUMNS = (
    "source_id", "task_key", "status", "started_at", "ended_at", "error_message", "is_deleted", "output_list",
)  # fmt: skip
#: Active tasks that are listed at most.
_MOST_ACTIVE = 500


@router.get("/api/monitor/stats", responses=responses("plain", 404, data="MonitorStats"))
def stats(request: Request, source: SourceParam = None) -> Response:
    """Counters and active tasks of one source; the same in every process and after a restart."""
    services = services_of(request)
    now = services.clock.now()
    name = task_source(services, source)
    with services.published.look() as look:
        whole = task_totals(services, look, name)
        counters = task_counters(whole, services.settings.source(name))
        live = live_totals(services, look, name)
        active, n_active = active_tasks(services, look, name, ("queued", "running"))
        _, n_running = active_tasks(services, look, name, ("running",))
        total, done = sum(live.values()), live.get("succeeded", 0)
        n, spent = whole["execution_n"], whole["execution_sum_ms"]
        slots = counters["slots"]
        body = {
            "active_tasks": n_active, "queued_tasks": n_active - n_running, "running_tasks": n_running,
            "max_concurrent": slots["limit"], "in_use": slots["in_use"], "available": slots["available"],
            "leaked": slots["leaked"], "total_tasks": total, "tasks_completed": done,
            "tasks_failed": live.get("failed", 0), "tasks_timeout": live.get("timed_out", 0),
            "success_rate": rounded(Fraction(100 * done, total), 1) if total else 0,
            "avg_duration": rounded(Fraction(spent) / n / 1000, 1) if n else 0,
            "active_list": [_active(task, now) for task in active], "timestamp": _epoch(now),
        }  # fmt: skip
        return plain(request, body, as_of=look.as_of)


def task_source(services: Services, source: str | None) -> str:
    """The source of these paths: the named one, the configured one, else the only one with attempts or derived status.

    Raises:
        ApiError: 400 when it is not clear.
    """
    if source is not None:
        name = chosen_sources(services, source)[0]
        if name == "_self":
            raise missing("the product itself has no tasks")
        return name
    if services.settings.api.compat.task_source is not None:
        return services.settings.api.compat.task_source
    having = [one for one in services.settings.enabled_sources if one.mapped("task")]
    # What such a monitor watches has attempts, or a status that follows from outputs; others only where none has (S-401).
    watched = [one for one in having if one.mapped("task_event") or _derives_status(one)]
    able = [one.id for one in watched or having]
    if len(able) != 1:
        raise bad(
            f"source: name one of {', '.join(able) or 'none'}, or configure api.compat.task_source", "ambiguous_source"
        )
    return able[0]


def _derives_status(source: SourceSettings) -> bool:
    return any("status" in table.columns and table.columns["status"].derive for table in source.mapped("task"))


def active_tasks(
    services: Services, look: Look, name: str, statuses: tuple[str, ...]
) -> tuple[list[dict[str, Any]], int]:
    """Tasks in these states, newest first, as far as they are listed, and how many there are."""
    wanted = tasks.TaskFilter((name,), statuses)
    return services.recall(
        look.lake.version, ("active", wanted),
        lambda: index_of(services).list_page(look, wanted, 0, _MOST_ACTIVE),
    )  # fmt: skip


def _active(task: dict[str, Any], now: datetime) -> dict[str, Any]:
    started = task["started_at"] or task["created_at"]
    # A source whose clock is ahead has tasks that begin after now (E-306): they have gone on for 0 s.
    lasted = max(0.0, (now - started).total_seconds()) if started else None
    return {
        "text_id": task["task_key"], "status": _WORDS[task["status"]], "stage": task["status"],
        "start_time": _epoch(started), "duration": None if lasted is None else round(lasted, 1),
    }  # fmt: skip


def _epoch(at: datetime | None) -> float | None:
    return None if at is None else round(at.replace(tzinfo=UTC).timestamp(), 3)


@router.get("/api/task/status/{task_id:path}", responses=responses("plain", 404, data="TaskStatus"))
def status(
    request: Request, task_id: Annotated[str, Path(min_length=1, max_length=512)], source: SourceParam = None
) -> Response:
    """One task in the monitor's own words."""
    services = services_of(request)
    name = task_source(services, source)
    with services.published.look() as look:
        rows = one_task.find(look, [name], task_id, _STATUS_COLUMNS, index_of(services))
        if not rows or rows[0]["is_deleted"]:
            raise missing("unknown task")
        task = rows[0]
        outputs = [output for output in task["output_list"] or () if output["valid"] and output["live"]]
        newest = max(
            outputs, key=lambda output: (output["created_at"] or datetime.min, output["output_key"]), default=None
        )
        started, ended = task["started_at"], task["ended_at"]
        body = {
            "text_id": task["task_key"], "status": _WORDS[task["status"]], "start_time": _epoch(started),
            "completed_time": _epoch(ended), "error_message": task["error_message"],
            "audio_url": newest["uri"] if newest else None, "filename": newest["name"] if newest else None,
            "duration": round((ended - started).total_seconds(), 3) if started and ended else None,
        }  # fmt: skip
        return plain(request, body, as_of=look.as_of)
