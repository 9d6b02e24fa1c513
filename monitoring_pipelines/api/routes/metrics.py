"""``/metrics`` and the scheduler's own metrics path (S-301, S-424)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import compressed, responses
from monitoring_pipelines.api.routes.compat_scheduler import Scope, chosen_scope
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.api.summaries import index_of
from monitoring_pipelines.metrics.collector import Collector, Text
from monitoring_pipelines.metrics.exposition import OPENMETRICS, TEXT

router = APIRouter(route_class=StrictRoute, tags=["metrics"])


def _with_text(described: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The success is text in one of two formats."""
    return {
        200: {"description": "Success", "content": {"text/plain": {}, "application/openmetrics-text": {}}}
    } | described


def collector_of(services: Services) -> Collector:
    """The collector of the application."""
    collector: Collector | None = services.shared.get("metrics")
    if collector is None:
        collector = Collector(services.settings, services.published, services.state, services.clock, index_of(services))
        collector = services.shared.setdefault("metrics", collector)
    return collector


@router.get("/metrics", responses=_with_text(responses("plain")))
def everything(request: Request) -> Response:
    """All families, as Prometheus text or, when asked for, OpenMetrics."""
    return _written(request, collector_of(services_of(request)).everything_text)


@router.get(
    "/api/v1/scheduler/metrics/prometheus",
    responses=_with_text(responses("v1", 404)),
)
def scheduler(request: Request, scope: Scope | None = None) -> Response:
    """Families of jobs and deliveries under the names of existing dashboards."""
    services = services_of(request)
    names = chosen_scope(services, scope)
    return _written(request, partial(collector_of(services).scheduler_text, names))


def _written(request: Request, answer: Callable[[bool], Text]) -> Response:
    openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
    text = answer(openmetrics)
    kind = {"Content-Type": OPENMETRICS if openmetrics else TEXT}
    return compressed(request, text.compressed, text.whole, kind, "Accept, Accept-Encoding")
