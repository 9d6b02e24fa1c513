"""A real HTTP server on this machine that records what it gets and answers as told.

What belongs here: receivers for the tests of anything that posts. What does not: expectations.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitoring_pipelines.clock import Clock


@dataclass
class Received:
    """One request. ``at`` is the instant of the test's clock."""

    at: datetime
    method: str
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def title(self) -> str:
        """Title of a DingTalk message, or of our own JSON."""
        return self.json["markdown"]["title"] if "markdown" in self.json else self.json["title"]


@dataclass
class Receiver:
    """``answer`` is called per request and returns status, body and headers."""

    clock: Clock
    answer: Callable[[Received], tuple[int, bytes, dict[str, str]]] = field(
        default=lambda _: (200, b'{"errcode":0,"errmsg":"ok"}', {})
    )
    requests: list[Received] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                got = Received(receiver.clock.now(), self.command, self.path, body, dict(self.headers))
                receiver.requests.append(got)
                status, content, headers = receiver.answer(got)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"
