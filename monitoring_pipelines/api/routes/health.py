"""``/health`` and ``/health/live`` (S-270)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api import health
from monitoring_pipelines.api.answers import json_response, responses
from monitoring_pipelines.api.services import services_of

router = APIRouter(tags=["health"])


@router.get("/health/live", responses=responses("plain", data="Live"))
@router.get("/api/v1/health/live", responses=responses("v1", data="Live"))
def live(request: Request) -> Response:
    """Whether the process answers at all: always 200, without a token."""
    if request.url.path.startswith("/api/v1"):
        return json_response({"code": 200, "message": "success", "data": {"status": "live"}})
    return json_response({"status": "live"})


@router.get("/health", responses=responses("plain", data="Health"))
def whole(request: Request) -> Response:
    """Health of the product: 200 when healthy or degraded, 503 when unhealthy or unknown and past the grace (C-481)."""
    status, body = health.answer(services_of(request))
    return json_response(body, status)
