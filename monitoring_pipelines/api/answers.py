"""How answers look: the three envelopes of S-101, JSON of every stored type, errors without internals (S-005).

What belongs here: wrapping. What does not: what is wrapped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from monitoring_pipelines.api.remembered import VERSION
from monitoring_pipelines.api.tags import has_tag
from monitoring_pipelines.said import said

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from monitoring_pipelines.published.reader import Look

Family = Literal["v1", "monitoring", "plain"]


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: HTTP status of S-102.
        message: What is wrong, safe to show; names the parameter or field where there is one.
        reason: One stable word for programs, e.g. ``ambiguous_source``.
        headers: Further headers.
    """

    def __init__(
        self, status: int, message: str, reason: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.headers = dict(headers or {})


def bad(message: str, reason: str | None = None) -> ApiError:
    """400: a parameter or body field that cannot be used."""
    return ApiError(400, message, reason)


def missing(what: str) -> ApiError:
    """404: unknown object."""
    return ApiError(404, what)


def conflict(message: str, reason: str | None = None) -> ApiError:
    """409: it exists, and now is not the time."""
    return ApiError(409, message, reason)


class V1Error(BaseModel):
    """Error envelope of ``/api/v1``."""

    code: int
    message: str
    data: None
    request_id: str
    reason: str | None = None


class MonitoringError(BaseModel):
    """Error envelope of ``/api/monitoring``."""

    success: Literal[False]
    error: str
    message: str
    request_id: str


class PlainError(BaseModel):
    """Error of the plain paths."""

    error: str
    request_id: str


def family_of(path: str) -> Family:
    """Which envelope a path uses (S-101)."""
    if path.startswith("/api/v1/") or path == "/api/v1":
        return "v1"
    return "monitoring" if path.startswith("/api/monitoring") else "plain"


def instant_text(value: datetime | None) -> str | None:
    """RFC 3339 with Z; fractions only where there are any."""
    return None if value is None else value.isoformat() + "Z"


_WHOLE = Decimal(1)


def to_json(value: Any) -> bytes:
    """JSON of stored values: instants with Z, decimals as numbers, NaN as null."""
    try:
        return orjson.dumps(value, _converted, orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
    except TypeError:
        # Something only the slow way knows is in it: a key that is no text, a number of more than 64 bits.
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _converted(value: Any) -> Any:
    """A value JSON has no word for as one it has."""
    if isinstance(value, Decimal):
        return int(value) if value.same_quantum(_WHOLE) else float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(value: Any) -> Any:
    """The same for a whole tree, of the types every JSON writer knows."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return instant_text(value)
    return value.isoformat() if isinstance(value, date) else _plain(_converted(value))


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(to_json(content), status, dict(headers or {}), media_type="application/json")


def v1(
    request: Request, data: Any, *, as_of: datetime | None = None, status: int = 200, look: Look | None = None
) -> Response:
    """A success of ``/api/v1``, with an ETag so that an unchanged answer costs nothing to fetch again.

    Args:
        request: The request.
        data: The answer.
        as_of: What it is true for.
        status: HTTP status.
        look: Given when the answer follows from these published files, the request and the minute alone: it is kept.
    """
    if look is not None:
        keep_answer(request, look)
    return tagged(request, v1_body(data, as_of, status), status, as_of)


def v1_body(data: Any, as_of: datetime | None, status: int = 200) -> bytes:
    """The envelope of ``/api/v1``."""
    return to_json({"code": status, "message": "success", "data": data, "as_of": as_of})


def keep_answer(request: Request, look: Look) -> None:
    """Say that the answer follows from these published files, the request and the minute alone."""
    setattr(request.state, VERSION, look.lake.version)


def monitoring(request: Request, data: Any, *, as_of: datetime | None = None, status: int = 200) -> Response:
    """A success of ``/api/monitoring``."""
    return tagged(request, to_json({"success": True, "data": data}), status, as_of)


def plain(request: Request, data: Any, *, as_of: datetime | None = None, status: int = 200) -> Response:
    """A success of the plain paths."""
    return tagged(request, to_json(data), status, as_of)


def tagged(request: Request, body: bytes, status: int, as_of: datetime | None) -> Response:
    """The answer with its ETag, or 304 when the client has it already."""
    headers = tags(hashlib.sha256(body), as_of)
    if status == 200 and is_known(request, headers):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, media_type="application/json")


def tags(digest: hashlib._Hash, as_of: datetime | None) -> dict[str, str]:
    """Headers by which a client knows an answer again; ``digest`` is the SHA-256 of its text.

    The tag is weak: the same one goes with the text and with its compressed form (RFC 9110 §8.8.3).
    """
    headers = {"ETag": f'W/"{digest.hexdigest()[:20]}"', "Cache-Control": "no-cache"}
    if as_of is not None:
        headers["X-As-Of"] = str(instant_text(as_of))
    return headers


def is_known(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the client says it has the answer with these headers."""
    return request.method in ("GET", "HEAD") and has_tag(request.headers, headers["ETag"])


@dataclass(frozen=True)
class Packed:
    """A large success of ``/api/v1`` in the form in which it is sent."""

    body: bytes
    headers: Mapping[str, str]

    def answer(self, request: Request) -> Response:
        """The answer, or 304 when the client has it already."""
        if is_known(request, self.headers):
            return Response(status_code=304, headers={k: v for k, v in self.headers.items() if k != "Content-Type"})
        return compressed(request, lambda: self.body, lambda: gzip.decompress(self.body), self.headers)


def packed(body: bytes, as_of: datetime | None) -> Packed:
    """The answer with this body (``v1_body``); compressed here, where others need not wait for it, they do for the event loop."""
    headers = tags(hashlib.sha256(body), as_of)
    return Packed(gzip.compress(body, 1, mtime=0), headers | {"Content-Type": "application/json"})


def compressed(
    request: Request,
    small: Callable[[], bytes],
    whole: Callable[[], bytes],
    headers: Mapping[str, str],
    vary: str = "Accept-Encoding",
) -> Response:
    """An answer there is in both forms: by ``small`` with gzip for clients that take it, by ``whole`` for others.

    ``vary`` names every header of the request that the answer follows from, so that caches keep the forms apart.
    """
    fields = {**headers, "Vary": vary}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(whole(), 200, fields)
    return Response(small(), 200, fields | {"Content-Encoding": "gzip"})


def error_response(
    path: str, status: int, message: str, request_id: str, reason: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """An error in the envelope of its path; it never holds more than ``message``."""
    family = family_of(path)
    body: dict[str, Any]
    if family == "v1":
        body = {"code": status, "message": message, "data": None, "request_id": request_id}
        if reason:
            body["reason"] = reason
    elif family == "monitoring":
        body = {"success": False, "error": reason or _WORDS.get(status, "error"), "message": message}
        body["request_id"] = request_id
    else:
        body = {"error": message, "request_id": request_id}
    return json_response(body, status, headers)


_WORDS = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    409: "conflict", 413: "too_large", 500: "internal_error", 503: "not_available",
}  # fmt: skip

_ERROR_TEXTS = {
    400: "A parameter or body field cannot be used; the message names it",
    401: "A token is needed",
    403: "The token's roles, the host or the origin do not allow it",
    404: "Unknown object",
    405: "Method not allowed",
    409: "Conflict with the present state",
    413: "The body is larger than 1 MB",
    503: "Store or source not available",
}


_ERRORS: dict[Family, type[BaseModel]] = {"v1": V1Error, "monitoring": MonitoringError, "plain": PlainError}


def answered(headers: Headers, message: str) -> str:
    """An error's message for a client: one that says which language it reads gets a sentence in it, a program what it knows."""
    wanted = headers.get("accept-language", "").lower()
    return said(message, "zh-CN" if wanted.startswith("zh") else "en") if wanted else message


def responses(
    family: Family, *more: int, data: str | None = None, accepted: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """What a route may answer, for the OpenAPI document.

    Args:
        family: Envelope.
        more: Statuses of errors besides 400, 401, 403, 405 and 503, which every route may answer.
        data: Name in ``shapes.components`` of what a 200 holds; None: there is none, or it is no JSON.
        accepted: The same of a 202. A route without a 200 also says ``status_code=202``, or FastAPI writes one.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for status, description, name in ((200, "Success", data), (202, "Accepted", accepted)):
        if name is not None:
            # No model: a schema costs nothing while requests are answered, and nothing at start.
            schema = _enveloped(family, status, name)
            found[status] = {"description": description, "content": {"application/json": {"schema": schema}}}
    for status in (400, 401, 403, 405, 503, *more):
        found[status] = {"description": _ERROR_TEXTS[status], "model": _ERRORS[family]}
    return found


def _enveloped(family: Family, status: int, data: str) -> dict[str, Any]:
    """The schema of a success (S-101)."""
    inner: dict[str, Any] = {"$ref": f"#/components/schemas/{data}"}
    if family == "plain":
        return inner
    envelope: dict[str, Any] = {"success": {"const": True}}
    if family == "v1":
        time = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
        envelope = {"code": {"const": status}, "message": {"const": "success"}, "as_of": time}
    envelope["data"] = inner
    required = [name for name in envelope if name != "as_of"]
    return {"type": "object", "properties": envelope, "required": required, "additionalProperties": False}
