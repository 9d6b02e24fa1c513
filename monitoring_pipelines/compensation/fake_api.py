"""A stand-in for the remote result service, for tests, benchmarks and the demo: it can be slow, wrong, limited or down.

What belongs here: an HTTP server on the loopback that answers like R-501 and serves files for probes. What does not:
anything the product needs in operation.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

PATH = "/task/openapi/outputs"
API_KEY = "fake-api-key"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class FakeResultApi:
    """The service. Use it as a context manager, or call ``start`` and ``stop``.

    Attributes:
        results: Remote id → list of entries, None (no data yet), or a whole answer ``{"code": …}``.
        default: Answers for ids that are not in ``results``; None = unknown task (807).
        fault: None, or one of ``slow``, ``garbage``, ``unknown_code``, ``rate_limited``, ``server_error``, ``down``,
            ``auth``, ``auth_http``, ``redirect``; a number N with ``fault_first``: only the first N calls have it.
        delay_s: Seconds before a ``slow`` answer.
        dead: Paths of files whose link has expired.
    """

    def __init__(self, port: int = 0) -> None:
        self.results: dict[str, Any] = {}
        self.default: Callable[[str], Any] | None = None
        self.fault: str | None = None
        self.fault_first: int | None = None
        self.delay_s = 0.05
        self.dead: set[str] = set()
        self.calls = 0
        self.probes = 0
        #: Remote ids in the order they were asked for.
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="fake result api", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def file_url(self, name: str) -> str:
        """Link to a file of this server."""
        return f"{self.url}/files/{name}"

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """(HTTP status, body) for one question; status 0 = hang up."""
        with self._lock:
            self.calls += 1
            remote_id = str(body.get("taskId", ""))
            self.asked.append(remote_id)
            fault = self.fault if self.fault_first is None or self.calls <= self.fault_first else None
        if fault in _FAULTS:
            return _FAULTS[fault]
        if fault == "slow":
            time.sleep(self.delay_s)
        if body.get("apiKey") != API_KEY:
            return 200, _json({"code": 802, "msg": "APIKEY_UNAUTHORIZED", "data": None})
        if remote_id not in self.results and self.default is None:
            return 200, _json({"code": 807, "msg": "APIKEY_TASK_NOT_FOUND", "data": None})
        found = self.results[remote_id] if remote_id in self.results else self.default(remote_id)  # type: ignore[misc]
        return 200, _json(found if isinstance(found, dict) else {"code": 0, "msg": "success", "data": found})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65536

            def do_POST(self) -> None:
                """The question about one task."""
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                if urlsplit(self.path).path != PATH:
                    self._send(404, b"")
                    return
                status, body = api.answer(json.loads(raw or b"{}"))
                if status == 0:
                    self.close_connection = True
                    return
                if status == 307:
                    self._send(307, b"", {"Location": f"http://localhost:1{PATH}"})
                    return
                self._send(status, body, {"Retry-After": "0"} if status == 429 else {})

            def do_GET(self) -> None:
                """A file."""
                self._file(b"\x89")

            def do_HEAD(self) -> None:
                """A probe. Like signed links, files answer 403 to anything but GET."""
                self._file(b"")

            def _file(self, body: bytes) -> None:
                path = urlsplit(self.path).path
                with api._lock:
                    api.probes += 1
                signed = "sign=" in self.path and self.command == "HEAD"
                self._send(403 if signed or path in api.dead else 206 if body else 200, body)

            def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Nobody wants a line per question."""

        return Handler


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


_FAULTS: dict[str | None, tuple[int, bytes]] = {
    "garbage": (200, b"<html>gateway</html>"),
    "unknown_code": (200, _json({"code": 433, "msg": "VALIDATE_PROMPT_FAILED", "data": None})),
    "rate_limited": (429, b""),
    "server_error": (503, b""),
    "down": (0, b""),
    "auth": (200, _json({"code": 801, "msg": "APIKEY_UNSUPPORTED_FREE_USER", "data": None})),
    "auth_http": (401, b""),
    "redirect": (307, b""),
}
