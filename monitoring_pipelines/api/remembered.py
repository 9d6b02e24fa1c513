"""Answers that depend on nothing but the published files are computed once per version and minute.

What belongs here: keeping and repeating whole answers. What does not: which answers may be kept (a route says so by
giving ``v1`` the look it answered from), answers that depend on the state store or on who asks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring_pipelines.api.tags import has_tag
from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.api.services import Services

#: Bytes of all kept answers; the ones used least recently go first.
MOST_BYTES = 4_000_000
#: A larger answer is not kept.
MOST_BYTES_OF_ONE = 400_000
#: Name in the request's state of the version an answer was made from.
VERSION = "answer_version"


@dataclass(frozen=True)
class _Kept:
    """One answer. It is good for this version of the files within this minute, which bounds windows that end now."""

    version: int
    minute: datetime
    start: Message
    body: bytes
    etag: str | None


class Remembered:
    """Middleware between access control and compression; what it keeps has passed through compression already."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._kept: OrderedDict[tuple[str, bytes, bool], _Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Repeat a kept answer, or pass on and keep what comes back."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = (scope["path"], scope["query_string"], "gzip" in headers.get("accept-encoding", ""))
        kept = self._find(key)
        if kept is not None:
            await _repeat(kept, headers, send)
            return
        minute = self._services.minute()
        parts: list[Message] = []
        length = 0

        async def keep(message: Message) -> None:
            nonlocal length
            length += len(message.get("body", b""))
            if length > MOST_BYTES_OF_ONE:
                parts.clear()
            else:
                parts.append(message)
            await send(message)

        await self._app(scope, receive, keep)
        version = scope.get("state", {}).get(VERSION)
        if version is not None and parts and parts[0].get("status") == 200:
            self._add(key, version, minute, parts)

    def _find(self, key: tuple[str, bytes, bool]) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None or kept.minute != self._services.minute():
            return None
        try:
            return kept if kept.version == self._services.published.lake().version else None
        except ProductError:
            return None

    def _add(self, key: tuple[str, bytes, bool], version: int, minute: datetime, parts: list[Message]) -> None:
        start, body = parts[0], b"".join(part.get("body", b"") for part in parts[1:])
        # The id of the request that made it is added outside; the length must be that of the whole.
        fields = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        fields.append((b"content-length", str(len(body)).encode()))
        etag = dict(fields).get(b"etag")
        whole: dict[str, Any] = {**start, "headers": fields}
        kept = _Kept(version, minute, whole, body, etag.decode() if etag else None)
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += len(body) - (len(old.body) if old else 0)
            self._kept[key] = kept
            while self._bytes > MOST_BYTES:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone.body)


async def _repeat(kept: _Kept, headers: Headers, send: Send) -> None:
    """The answer again, or 304 to a client that has it."""
    if kept.etag is not None and has_tag(headers, kept.etag):
        fields = [
            (name, value) for name, value in kept.start["headers"] if name not in (b"content-length", b"content-type")
        ]
        await send({"type": "http.response.start", "status": 304, "headers": fields})
        await send({"type": "http.response.body", "body": b""})
        return
    await send(dict(kept.start))
    await send({"type": "http.response.body", "body": kept.body})
