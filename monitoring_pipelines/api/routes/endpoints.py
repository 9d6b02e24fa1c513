"""``/endpoints`` and what belongs to one endpoint (S-210 to S-214)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import bad, keep_answer, missing, responses, v1, v1_body
from monitoring_pipelines.api.long_answers import gathered
from monitoring_pipelines.api.params import (
    Flag,
    Instant,
    PageParam,
    SourceParam,
    chosen_sources,
    fixed_window,
    instant,
    one_source,
    ordered,
    sort_by,
)
from monitoring_pipelines.api.series import Series
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published import endpoints, workers
from monitoring_pipelines.published.reader import Look

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["endpoints"])
EndpointName = Annotated[str, Path(min_length=1, max_length=255)]
#: What the list can be ordered by (S-804).
COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "endpoint": lambda row: row["endpoint"],
    "source_id": lambda row: row["source_id"],
} | {
    name: lambda row, part=part, name=name: (row[part] or {}).get(name)
    for part, names in (
        ("latest", ("active_workers", "idle_workers", "queue_depth_end", "running_end")),
        ("totals_24h", ("tasks_submitted", "success_rate", "avg_execution_ms", "avg_queue_wait_ms")),
    )
    for name in names
}
SortParam = Annotated[str | None, sort_by(COLUMNS)]
Granularity = Literal["minute", "hour", "day", "auto"]


@router.get("/endpoints", responses=responses("v1", data="Endpoints"))
def listed(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the name, any case")] = None,
    sort: SortParam = None,
) -> Response:
    """Endpoints with their newest closed minute and totals of 24 h."""
    services = services_of(request)
    with services.published.look() as look:
        chosen = chosen_sources(services, source)
        rows = ordered(endpoints.having(endpoint_rows(services, look, chosen), q), sort, COLUMNS)
        return v1(request, page.cut(rows), as_of=look.as_of, look=look)


def endpoint_rows(services: Services, look: Look, chosen: list[str]) -> list[dict[str, Any]]:
    """Every endpoint of the sources."""
    return services.recall(look.lake.version, ("endpoints", *chosen), lambda: endpoints.listed(look, chosen))


@router.get("/endpoints/{endpoint:path}/stats", responses=responses("v1", 404, data="EndpointSeries"))
def stats(
    request: Request,
    endpoint: EndpointName,
    granularity: Granularity = "auto",
    fill: Flag = False,
    source: SourceParam = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Stored rows of a range and one merged row; the default is the last 24 h."""
    services = services_of(request)
    first, last = fixed_window(start, end, services.moment(), timedelta(hours=24))
    with services.published.look() as look:
        name = owner(services, look, endpoint, source)
        grain = endpoints.choose_grain(granularity, first, last)
        check_range(grain, first, last)
        as_of = look.manifest.sources.get(name, {}).get("as_of")
        frame = v1_body({
            "source_id": name, "endpoint": endpoint, "granularity": grain, "from": first, "to": last,
            "closed_through": endpoints.closed_through(look, name), "rows": [], "summary": None,
        }, as_of)  # fmt: skip
        series = Series(look, name, endpoint, grain, fill=fill)
        keep_answer(request, look)
        return gathered(request, series.parts(services, frame, first, last), as_of)


def check_range(grain: endpoints.Grain, start: datetime, end: datetime) -> None:
    """Refuse ranges that are too long for their grain (S-211)."""
    longest = endpoints.LONGEST.get(grain)
    if longest is not None and end - start > longest:
        raise bad(f"from: more than {longest.days} days are too long for granularity {grain}")


@router.get("/endpoints/{endpoint:path}/workers", responses=responses("v1", 404, data="Workers"))
def worker_times(
    request: Request,
    endpoint: EndpointName,
    at: Annotated[Instant, Query(description="Judge the hour before this instant; instead of from and to")] = None,
    source: SourceParam = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Per worker: time online, busy and idle in the window, and what it does at the end."""
    services = services_of(request)
    if at is not None and (start is not None or end is not None):
        raise bad("at: give either at, or from and to")
    now = services.clock.now()
    moment = instant(at, "at")
    with services.published.look() as look:
        name = owner(services, look, endpoint, source)
        known = look.manifest.sources.get(name, {}).get("as_of") or now
        end_text = end if moment is None else f"{moment.isoformat()}Z"
        first, last = fixed_window(start, end_text, min(now, known), timedelta(hours=1))
        if last - first > workers.LONGEST:
            raise bad(f"from: more than {workers.LONGEST.days} days are too long")
        rows = workers.workers(look, name, endpoint, first, last)
        data = {"source_id": name, "endpoint": endpoint, "from": first, "to": last, "workers": rows}
        return v1(request, data, as_of=known, look=look)


def owner(services: Services, look: Look, endpoint: str, source: str | None) -> str:
    """The source that has this endpoint; 404 when none has, 400 when several do and none is named."""
    chosen = chosen_sources(services, source)
    found = services.recall(look.lake.version, ("owners", *chosen), lambda: endpoints.owners(look, chosen))
    name = one_source(found.get(endpoint, ()), source, f"endpoint {endpoint[:80]}")
    if name is None:
        raise missing("unknown endpoint")
    return name
