"""A route that refuses query parameters it does not know and bodies that say something twice (S-102).

What belongs here: names of parameters and of fields. What does not: their values (``params``, the model of each body).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from monitoring_pipelines.api.answers import ApiError, bad
from monitoring_pipelines.config.suggest import closest

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant


class _StrictRequest(Request):
    """A request whose body says each thing once: of a field given twice others would take either."""

    async def json(self) -> Any:
        """The body.

        Raises:
            JSONDecodeError: It is no JSON, names a field twice, or has a number that is none.
        """
        return json.loads(await self.body(), object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise json.JSONDecodeError(f"{name[:40]!r} is given more than once", "", 0)
    return found


def _no_number(word: str) -> Any:
    raise json.JSONDecodeError(f"{word} is no number", "", 0)


class StrictRoute(APIRoute):
    """A route of the JSON API: a parameter it does not declare, or one given twice, is a 400 that names it.

    Without this ``?stauts=failed`` would be answered with all rows, as if nothing had been asked for. Paths outside
    ``/api`` are not concerned: scrapers add parameters of their own.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the check; the names are looked up once, when the application is built."""
        inner = super().get_route_handler()
        if self.body_field is not None:
            inner = _reading_strictly(inner)
        if not self.path.startswith("/api/"):
            return inner
        known = frozenset(_names(self.dependant))

        async def handler(request: Request) -> Response:
            if request.scope["query_string"]:
                check_names(request, known)
            return await inner(request)

        return handler


def _reading_strictly(
    inner: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handler(request: Request) -> Response:
        return await inner(_StrictRequest(request.scope, request.receive))

    return handler


def _names(dependant: Dependant) -> Iterator[str]:
    """Names of the query parameters of a route and of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names(inner)


def _unknown(name: str, known: Sequence[str]) -> ApiError:
    guess = closest(name, known)
    if guess is not None:
        return bad(f"{name}: this path has no such parameter; did you mean {guess}?", "unknown_parameter")
    if known:
        return bad(f"{name}: this path has no such parameter; there are {', '.join(known)}", "unknown_parameter")
    return bad(f"{name}: this path has no such parameter; there are none here", "unknown_parameter")


def check_names(request: Request, known: frozenset[str]) -> None:
    """Refuse names that are not known, and known ones given more than once.

    Raises:
        ApiError: 400 naming the parameter.
    """
    given = request.query_params
    if not known.issuperset(given):
        raise _unknown(next(name for name in given if name not in known)[:40], sorted(known))
    if len(given) != len(given.multi_items()):
        name = Counter(name for name, _ in given.multi_items()).most_common(1)[0][0]
        raise bad(f"{name}: it is given more than once", "repeated_parameter")
