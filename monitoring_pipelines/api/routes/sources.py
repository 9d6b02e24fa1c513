"""``/sources``, ``/overview``, ``/task-counters`` and ``/self`` (S-201, S-202, S-222, S-251), and the anomalies it counts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api import health, summaries
from monitoring_pipelines.api.answers import responses, v1
from monitoring_pipelines.api.params import PageParam, SourceParam, chosen_sources
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published import anomalies

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["sources"])
KindParam = Annotated[str | None, Query(max_length=64, description="Only anomalies of this kind")]


@router.get("/sources", responses=responses("v1", data="Sources"))
def sources(request: Request) -> Response:
    """Every source: last success, lag, health, what it can answer, schema drift."""
    services = services_of(request)
    rows, as_of = summaries.sources(services)
    return v1(request, rows, as_of=as_of)


@router.get("/overview", responses=responses("v1", data="Overview"))
def overview(request: Request, source: SourceParam = None) -> Response:
    """Tiles: health per source, completion, alerts by severity, tasks of 24 h, workers, lag."""
    services = services_of(request)
    data = summaries.overview(services, chosen_sources(services, source))
    return v1(request, data, as_of=data["as_of"])


@router.get("/task-counters", responses=responses("v1", data="TaskCounters"))
def task_counters(request: Request, source: SourceParam = None) -> Response:
    """Counters per source that survive restarts, and their sum."""
    services = services_of(request)
    with services.published.look() as look:
        data = summaries.counters(services, look, chosen_sources(services, source))
        return v1(request, data, as_of=look.as_of, look=look)


@router.get("/self", responses=responses("v1", data="Self"))
def self_state(request: Request) -> Response:
    """The product itself: components, lag per table, coverage, anomalies, store size."""
    services = services_of(request)
    data: dict[str, Any] = summaries.self_state(services)
    data["components"] = health.component_states(services, services.clock.now())
    return v1(request, data, as_of=data["as_of"])


@router.get("/anomalies", responses=responses("v1", data="Anomalies"))
def anomalies_of_days(
    request: Request, page: PageParam, source: SourceParam = None, kind: KindParam = None
) -> Response:
    """Anomalies by kind, table and day (UTC), newest day first, with the newest of each; ``count`` is the sum over all pages."""
    services = services_of(request)
    with services.published.look() as look:
        rows, total, count = anomalies.of_days(look, chosen_sources(services, source), kind, page.offset, page.size)
        return v1(request, page.wrap(rows, total, count=count), as_of=look.as_of, look=look)
