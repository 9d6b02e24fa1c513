"""``/tasks`` and one task (S-220, S-221)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import bad, missing, responses, v1
from monitoring_pipelines.api.params import (
    Flag,
    FromParam,
    PageParam,
    SourceParam,
    ToParam,
    chosen_sources,
    one_source,
    sort_by,
    window,
)
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.api.summaries import index_of
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.published import one_task, tasks
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.task_summaries import LISTED

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["tasks"])
#: Tasks lie in files by creation: this is the order that costs nothing over all of them.
SortParam = Annotated[str | None, sort_by(["created_at"])]
OLDEST_FIRST = "created_at"
STATUS_TEXT = "Comma list of unified words, timeout for timed_out, and the sources' own"
TaskKey = Annotated[str, Path(min_length=1, max_length=512)]


@router.get("/tasks", responses=responses("v1", data="Tasks"))
def listed(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    status: Annotated[str | None, Query(max_length=500, description=STATUS_TEXT)] = None,
    endpoint: Annotated[str | None, Query(max_length=255)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of task key or remote id, any case")] = None,
    has_output: Flag | None = None,
    start: FromParam = None,
    end: ToParam = None,
    sort: SortParam = None,
) -> Response:
    """Tasks, newest first unless sorted otherwise; filter and total are computed over everything stored."""
    services = services_of(request)
    first, last = window(start, end, services.clock.now())
    chosen = tuple(chosen_sources(services, source))
    with services.published.look() as look:
        unified, own = chosen_words(services, look, status)
        wanted = tasks.TaskFilter(chosen, unified, own, endpoint, q or None, has_output, first, last)
        rows, total = index_of(services).list_page(
            look, wanted, page.offset, page.size, oldest_first=sort == OLDEST_FIRST
        )
        return v1(request, page.wrap(rows, total), as_of=look.as_of, look=look)


def chosen_words(services: Services, look: Look, status: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ``status`` asks for; 400 when a word means nothing."""
    try:
        return tasks.status_words(services.settings, look, index_of(services), status)
    except UsageError as error:
        raise bad(f"status: {error.message}; {error.hint}") from None


# Keys may hold slashes; whichever path is declared first takes what ends like it.
@router.get("/tasks/{task_key:path}/timeline", responses=responses("v1", 404, data="Timeline"))
def timeline(request: Request, task_key: TaskKey, source: SourceParam = None) -> Response:
    """Everything that happened to a task, oldest first."""
    services = services_of(request)
    with services.published.look() as look:
        task = found_task(services, look, task_key, source)
        data = {"source_id": task["source_id"], "task_key": task_key, "timeline": one_task.timeline(task)}
        return v1(request, data, as_of=look.as_of, look=look)


@router.get("/tasks/{task_key:path}", responses=responses("v1", 404, data="WholeTask"))
def one(request: Request, task_key: TaskKey, source: SourceParam = None) -> Response:
    """A task with its attempts, events (late ones included), outputs and anomalies."""
    services = services_of(request)
    with services.published.look() as look:
        return v1(request, shaped(found_task(services, look, task_key, source)), as_of=look.as_of, look=look)


def found_task(services: Services, look: Look, task_key: str, source: str | None) -> dict[str, Any]:
    """The task with all its nested rows; 404 when unknown, 400 when several sources have the key."""
    known = [name for name in chosen_sources(services, source) if name != "_self"]
    able = [name for name in known if services.settings.source(name).mapped("task")]
    rows = one_task.find(look, able, task_key, index=index_of(services))
    name = one_source((row["source_id"] for row in rows), source, "this task key")
    if name is None:
        raise missing("unknown task")
    return next(row for row in rows if row["source_id"] == name)


def shaped(task: dict[str, Any]) -> dict[str, Any]:
    """The answer of S-221."""
    shown = {name: task[name] for name in LISTED}
    return {
        "task": shown, "attempts": task["attempt_list"] or [], "events": task["event_list"] or [],
        "outputs": task["output_list"] or [], "anomalies": task["anomaly_list"] or [],
    }  # fmt: skip
