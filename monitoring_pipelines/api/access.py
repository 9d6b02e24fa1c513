"""Who may do what: hosts, origins, tokens, roles, body sizes, request ids (S-001…S-005).

What belongs here: one ASGI middleware before all routes and the dependency that asks for a role. What does not: what
the routes do.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring_pipelines.api.answers import ApiError, answered, error_response
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
#: Roles include the weaker ones.
_INCLUDES = {"viewer": {"viewer"}, "operator": {"viewer", "operator"}, "admin": {"viewer", "operator", "admin"}}
COOKIE = "mp_session"
#: Reachable without a token although tokens are configured (S-003).
_OPEN = ("/health/live", "/api/v1/health/live", "/login")
_OPEN_PREFIXES = ("/static/",)


@dataclass(frozen=True)
class Principal:
    """Who asks: the token's name and everything its roles include."""

    name: str
    roles: frozenset[str]


#: Without tokens everybody on this machine may read, check, trigger, acknowledge and plan (S-004).
LOCAL = Principal("local", frozenset({"viewer", "operator"}))


@dataclass
class Gate:
    """Tokens and hosts of a configuration.

    Raises:
        ConfigError: A token's secret cannot be read.
    """

    settings: Settings
    _tokens: list[tuple[bytes, Principal]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, token in enumerate(self.settings.api.tokens):
            place = f"api.tokens[{number}]"
            secret = self.settings.secret(token.token_env, token.token_file, place)
            if secret is None:
                raise ConfigError(None, None, place, "a token needs a secret")
            roles = frozenset().union(*(_INCLUDES[role] for role in token.roles))
            self._tokens.append((_digest(secret), Principal(token.name, roles)))

    @property
    def has_tokens(self) -> bool:
        """Whether tokens are configured."""
        return bool(self._tokens)

    def principal(self, secret: str | None) -> Principal | None:
        """Whose secret this is; all are compared, each in constant time."""
        if secret is None:
            return None
        given = _digest(secret)
        found = None
        for expected, principal in self._tokens:
            if hmac.compare_digest(given, expected):
                found = principal
        return found

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server (S-005)."""
        name = host_name(host)
        return any(name == host_name(allowed) for allowed in self.settings.api.allowed_hosts)


def is_open(path: str) -> bool:
    """Whether a path is answered without a token although tokens are configured (S-003)."""
    return path in _OPEN or path.startswith(_OPEN_PREFIXES)


def host_name(text: str) -> str:
    """Lower-case host of ``host[:port]``, without brackets."""
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].split("]", 1)[0]
    return text.rsplit(":", 1)[0] if text.count(":") == 1 else text


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Access:
    """The middleware: gives every request an id and a principal, or refuses it."""

    def __init__(self, app: ASGIApp, gate: Gate, clock: Clock) -> None:
        self._app = app
        self._gate = gate
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id(self._clock.now())
        scope.setdefault("state", {})["request_id"] = request_id
        headers = Headers(scope=scope)
        try:
            self._judge(scope, headers)
            if "transfer-encoding" in headers:
                receive = await _whole(receive)
        except ApiError as error:
            log.info("%s %s %s: %s", request_id, scope["method"], error.status, error.message)
            response = _refusal(scope, headers, error, request_id)
            await response(scope, receive, _with_id(send, request_id))
            return
        await self._app(scope, receive, _with_id(send, request_id))

    def _judge(self, scope: Scope, headers: Headers) -> None:
        path: str = scope["path"]
        if not self._gate.knows_host(headers.get("host", "")):
            raise ApiError(403, "this host name is not served here", "unknown_host")
        if scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            if origin is not None and not self._gate.knows_host(_host_of(origin)):
                raise ApiError(403, "requests from other sites may not change anything", "foreign_origin")
            if headers.get("sec-fetch-site") == "cross-site":
                raise ApiError(403, "requests from other sites may not change anything", "foreign_origin")
        _check_length(headers)
        scope["state"]["principal"] = LOCAL
        if not self._gate.has_tokens:
            return
        principal = self._gate.principal(_secret_of(headers))
        if principal is not None:
            scope["state"]["principal"] = principal
        elif not is_open(path):
            raise ApiError(401, "a token is needed", "unauthorized", {"WWW-Authenticate": "Bearer"})


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # half an address of IPv6
        return ""


def _check_length(headers: Headers) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ApiError(400, "Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise ApiError(413, "the body is larger than 1 MB", "too_large")


def _secret_of(headers: Headers) -> str | None:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    # Not SimpleCookie: it refuses all cookies where another site of the same host has set one with an odd name.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def _with_id(send: Send, request_id: str) -> Send:
    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
        await send(message)

    return forward


def _refusal(scope: Scope, headers: Headers, error: ApiError, request_id: str) -> Response:
    """The error as JSON; a browser that lacks a token is shown where to enter one."""
    path: str = scope["path"]
    wants_page = "text/html" in headers.get("accept", "") and not path.startswith(("/api/", "/metrics", "/health"))
    if error.status == 401 and scope["method"] == "GET" and wants_page:
        from monitoring_pipelines.api.pages.login import login_page

        return login_page(Request(scope), 401, target=path)
    return error_response(path, error.status, answered(headers, error.message), request_id, error.reason, error.headers)


async def _whole(receive: Receive) -> Receive:
    """Read a body that came without a length, so that it is refused before anything happens (S-005).

    Raises:
        ApiError: 413 beyond the limit.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, "the body is larger than 1 MB", "too_large")
    waiting: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def principal_of(request: Request) -> Principal:
    """Who asks."""
    principal: Principal = request.state.principal
    return principal


@dataclass(frozen=True)
class Needs:
    """A dependency that answers 403 without ``role``.

    Args:
        role: What everybody needs who asks.
        at_times: What some of the bodies need besides; the route asks for it with ``require``.
    """

    role: str
    at_times: str | None = None

    def __call__(self, request: Request) -> Principal:
        """Who asks.

        Raises:
            ApiError: 403 without the role.
        """
        principal = principal_of(request)
        require(principal, self.role)
        return principal


def require(principal: Principal, role: str) -> None:
    """Answer 403 unless ``principal`` has the role (S-003).

    Raises:
        ApiError: 403.
    """
    if role not in principal.roles:
        hint = "this needs an admin token" if role == "admin" else f"this needs the role {role}"
        raise ApiError(403, hint, "forbidden")
