"""Compressing answers that were not compressed where they were made.

What belongs here: the middleware, and what it says to caches. What does not: answers that are kept compressed
(``answers.compressed``).
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Compression(GZipMiddleware):
    """Compresses answers of 1000 bytes and more; each header that an answer follows from is named once in ``Vary``.

    The middleware it comes from names Accept-Encoding also where the route has done so already.
    """

    def __init__(self, app: ASGIApp) -> None:
        # Level 1: the rest would hold up everybody else for a few per cent.
        super().__init__(app, minimum_size=1000, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                names = [name.strip() for name in ",".join(headers.getlist("vary")).split(",")]
                once = dict.fromkeys(names)
                if len(once) < len(names):
                    headers["vary"] = ", ".join(once)
            await send(message)

        await super().__call__(scope, receive, forward)
