"""The OpenAPI document: what FastAPI writes, with what this server's configuration allows and whom it asks for a token.

What belongs here: the parts FastAPI does not know. What does not: who gets in (``access``; said here as it is asked there), shapes
of answers (``shapes``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from monitoring_pipelines.api.access import COOKIE, Gate, Needs, is_open
from monitoring_pipelines.api.params import OR_SELF

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI
    from fastapi.dependencies.models import Dependant

    from monitoring_pipelines.api.services import Services

#: Where a token may stand (``access.Access``).
SCHEMES: dict[str, dict[str, str]] = {
    "token": {
        "type": "http", "scheme": "bearer",
        "description": "The secret of one of `api.tokens`; its roles decide what it may do. A server without tokens knows none.",
    },
    "cookie": {
        "type": "apiKey", "in": "cookie", "name": COOKIE,
        "description": "The same secret, as `/login` gives it to a browser; looked at when there is no Authorization header.",
    },
}  # fmt: skip
#: What a reader needs where no route asks for more.
_READER = Needs("viewer")


def document_of(app: FastAPI, routers: Sequence[APIRouter], services: Services, gate: Gate) -> dict[str, Any]:
    """The document, with the configured sources as the values of ``source`` and their words as those of ``status``."""
    if app.openapi_schema is None:
        from monitoring_pipelines.api.routes.tasks import STATUS_TEXT
        from monitoring_pipelines.api.shapes import components
        from monitoring_pipelines.published.tasks import mapped_words

        # Not re.escape: what it does to blanks and dashes is no pattern of JSON Schema.
        own = (re.sub(r"([^\w\s-])", r"\\\1", one) for one in mapped_words(services.settings))
        word = f"({'|'.join(own)})"
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        known = {"type": "string", "enum": [*services.source_ids, "_self"]}
        for operation in (one for path in document["paths"].values() for one in path.values()):
            operation["responses"].pop("422", None)  # FastAPI's own; here it is 400
            success = operation["responses"].get("200", {}).get("content", {})
            if "text/plain" in success:
                success.pop("application/json", None)  # FastAPI's too
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "source":
                    parameter["schema"] = known
                elif parameter.get("description") == STATUS_TEXT:
                    parameter["schema"] = {"type": "string", "maxLength": 500, "pattern": f"^{word}(,{word})*$"}
        _add_security(routers, document, has_tokens=gate.has_tokens)
        shapes: dict[str, Any] = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            shapes.pop(name, None)
        for model in shapes.values():
            fields = model.get("properties", {})
            if "source" in fields:
                or_self = fields["source"].get("description") == OR_SELF
                fields["source"] = known if or_self else {"type": "string", "enum": services.source_ids}
        shapes |= components()
        app.openapi_schema = document
    return app.openapi_schema


def _add_security(routers: Sequence[APIRouter], document: dict[str, Any], *, has_tokens: bool) -> None:
    """Say which role every operation needs (``x-role``; ``x-role-at-times`` for some bodies) and whether a token (S-003, S-004)."""
    document["components"]["securitySchemes"] = SCHEMES
    either: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
    for route in (one for router in routers for one in router.routes):
        if not isinstance(route, APIRoute):
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            if is_open(route.path):
                operation["security"] = []
                del operation["responses"]["401"]
                continue
            needed = next(_needs(route.dependant), _READER)
            operation["x-role"] = needed.role
            if needed.at_times is not None:
                operation["x-role-at-times"] = needed.at_times
            operation["security"] = either
            if not has_tokens:
                operation["security"] = _without_tokens(needed, either)
                del operation["responses"]["401"]


def _without_tokens(needed: Needs, either: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """What a server that knows no token asks for: nothing, except for what needs an admin, which nobody is there (S-004)."""
    if needed.role == "admin":
        return either
    return [{}, *either] if needed.at_times == "admin" else []


def _needs(dependant: Dependant) -> Iterator[Needs]:
    """The role a route asks for, of all it depends on."""
    for inner in dependant.dependencies:
        if isinstance(inner.call, Needs):
            yield inner.call
        yield from _needs(inner)
