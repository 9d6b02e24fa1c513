"""Building the application: middleware, error handlers, routes.

What belongs here: how the parts are put together. What does not: the parts, and the OpenAPI document (``openapi``).
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route

from monitoring_pipelines import __version__
from monitoring_pipelines.alerts.watch import watching
from monitoring_pipelines.api.access import Access, Gate
from monitoring_pipelines.api.answers import ApiError, answered, error_response
from monitoring_pipelines.api.compression import Compression
from monitoring_pipelines.api.keeper import keeping
from monitoring_pipelines.api.openapi import document_of
from monitoring_pipelines.api.pages import PAGES
from monitoring_pipelines.api.pages.base import STATIC
from monitoring_pipelines.api.refusals import record_refusal
from monitoring_pipelines.api.remembered import Remembered
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

log = logging.getLogger(__name__)

#: Modules of ``api.routes``; each has ``router``.
ROUTES = (
    "health", "sources", "endpoints", "tasks", "completeness", "checks", "partitions", "alerts", "processes", "repair",
    "compat_tasks", "compat_monitoring", "compat_scheduler", "job_actions", "job_runs", "metrics",
)  # fmt: skip
#: Requests that are answered at the same time.
THREADS = 16
#: What a product error means to a client, by its code; others are 503.
_STATUS_OF_CODE = {"usage": 400, "locked": 409, "refused": 409, "paused": 409}


def build_app(settings: Settings, clock: Clock, dagster_url: str | None = None) -> FastAPI:
    """The application of a configuration. It reads the published files and the state store, nothing else.

    Args:
        settings: The configuration.
        clock: The product's clock.
        dagster_url: Address of the Dagster web server, for starting runs and for links.

    Raises:
        ConfigError: A token's secret cannot be read.
    """
    services = Services.of(settings, clock, dagster_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Few threads: each keeps memory of its own, and two cores answer no faster with forty.
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        with keeping(services), watching(settings, services.state, clock, dagster_url):
            yield
        services.close()

    app = FastAPI(
        title="monitoring-pipelines", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Statistics, completeness, alerts and repair of task platforms. Times are UTC.",
    )  # fmt: skip
    app.state.services = services
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(ProductError, _product_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(DataError, _data_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    routers = [importlib.import_module(f"monitoring_pipelines.api.routes.{name}").router for name in ROUTES]
    pages = [importlib.import_module(f"monitoring_pipelines.api.pages.{name}").router for name in PAGES]
    for router in (*routers, *pages):
        app.include_router(router)
    app.state.known_routes = [one for part in (app, *routers, *pages) for one in part.routes if isinstance(one, Route)]
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    gate = Gate(settings)
    app.state.gate = gate
    app.openapi = lambda: document_of(app, routers, services, gate)  # type: ignore[method-assign]
    app.add_middleware(Compression)
    app.add_middleware(Remembered, services=services)
    app.add_middleware(Access, gate=gate, clock=clock)
    return app


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def _answer(request: Request, status: int, message: str, reason: str | None = None, headers: Any = None) -> Response:
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(level, "%s %s %s %s: %s", _request_id(request), request.method, request.url.path, status, message)
    return _error(request, status, message, reason, headers)


def _error(request: Request, status: int, message: str, reason: str | None, headers: Any = None) -> Response:
    """A page for a browser that asked for one, else the envelope of the path."""
    from monitoring_pipelines.api.pages.problems import problem_page, wants_page

    if wants_page(request):
        return problem_page(request, status, message, reason, _request_id(request))
    message = answered(request.headers, message)
    return error_response(request.url.path, status, message, _request_id(request), reason, headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    await run_in_threadpool(record_refusal, request, error.status, error.reason)
    return _answer(request, error.status, error.message, error.reason, error.headers)


async def _product_error(request: Request, error: Exception) -> Response:
    """The message of a product error may name files and servers: it goes to the log, the answer says what kind it is."""
    assert isinstance(error, ProductError)
    status = _STATUS_OF_CODE.get(error.code, 503)
    log.warning("%s %s: %s (%s)", _request_id(request), request.url.path, error.message, error.cause or "no cause")
    await run_in_threadpool(record_refusal, request, status, error.code)
    message = _SAFE_TEXTS.get(error.code, "not available at the moment")
    return _answer(request, status, message, error.code)


_SAFE_TEXTS = {
    "nothing_published": "nothing has been published yet; the first minute tick does",
    "lake_damaged": "the published files cannot be read",
    "state_unavailable": "the state store cannot be used",
    "locked": "another process is doing this already",
    "refused": "a safety rule does not allow it",
    "source_unavailable": "the source did not answer",
}


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = []
    for problem in error.errors()[:5]:
        place = [str(part) for part in problem["loc"] if part not in ("query", "path", "header")]
        if place[:1] == ["body"]:
            place = place[1:] or ["body"]
        text = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "json_invalid":
            why = str(problem.get("ctx", {}).get("error", ""))
            place, text = ["body"], why if why.endswith(_STRICT) else "it is not valid JSON"
        elif problem["type"] == "string_pattern_mismatch":
            text = _choice(problem["ctx"]["pattern"]) or text
        parts.append(f"{'.'.join(place)[:80]}: {text[:200]}")
    return _answer(request, 400, "; ".join(parts) or "the request cannot be understood", "bad_request")


async def _data_error(request: Request, error: Exception) -> Response:
    """A value that this state store cannot hold or be asked for: PostgreSQL has no character 0, columns have a length."""
    assert isinstance(error, DataError)
    log.warning("%s %s: %s", _request_id(request), request.url.path, error.orig)
    return _answer(request, 400, "a value is too long or has characters that cannot be stored", "bad_request")


#: Ends of what ``strict`` has against a body that is JSON otherwise.
_STRICT = ("is given more than once", "is no number")
#: A choice of words: with - before it (``sort_by``), alone, or several (``list_of``).
_WORDS = re.compile(r"\^(-\?)?\(([\w|]+)\)(\(,\(\2\)\)\*)?\$")


def _choice(pattern: str) -> str | None:
    """What a pattern asks for in words, None when it is no choice of words."""
    found = _WORDS.fullmatch(pattern)
    if found is None:
        return None
    words = ", ".join(word for word in found[2].split("|") if word)
    if found[1]:
        return f"one of {words}; with - before it descending"
    return f"some of {words}, with commas between them" if found[3] else f"one of {words}"


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "there is nothing at this path", 405: "this path does not have that method"}
    message = texts.get(error.status_code, "the request cannot be answered")
    allowed = _methods_at(request) if error.status_code == 405 else ""
    headers = {"Allow": allowed} if allowed else error.headers
    return _answer(request, error.status_code, message, None, headers)


def _methods_at(request: Request) -> str:
    """All methods of a path: each is a route of its own, and the first that has the path would name its own alone."""
    here = [route for route in request.app.state.known_routes if route.path_regex.match(request.scope["path"])]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))


async def _internal_error(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", _request_id(request), request.url.path, exc_info=error)
    return _error(request, 500, "internal error", "internal_error")
