"""One HTTP GET that ends in time, whatever the other side does.

What belongs here: deadline, size limit, redirects. What does not: what the answer means (``answers``).

Common clients limit each read of a socket; a server that sends a byte every few seconds then holds them for ever. Here
every wait for the socket gets what is left of one deadline.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from monitoring_pipelines import __version__

#: Longest body that is read, bytes.
MAX_BODY = 8_000_000
#: Redirects followed, on the same host and port only: a collector reaches configured hosts and no others (E-124).
MAX_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """What came back. ``status`` None: no answer; ``error`` says why there is none or why it cannot be used."""

    status: int | None
    body: bytes
    latency_ms: float
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether a usable answer with a 2xx status came."""
        return self.error is None and self.status is not None and 200 <= self.status < 300


class _Refused(Exception):
    """The answer cannot be used; the text says why."""


def get(url: str, timeout_s: float, max_body: int = MAX_BODY) -> Answer:
    """GET ``url``.

    Args:
        url: http or https.
        timeout_s: Limit of everything together: connecting, sending, headers, body, redirects.
        max_body: Longest body accepted, bytes.

    Returns:
        The answer; what went wrong is in it, nothing is raised.
    """
    began = time.perf_counter()
    deadline = began + timeout_s
    status: int | None = None
    try:
        place = urlsplit(url)
        for _ in range(MAX_REDIRECTS + 1):
            status, location, body = _once(place, deadline, max_body)
            if location is None:
                return Answer(status, body, _since(began))
            place = _same_host(place, location)
        raise _Refused(f"more than {MAX_REDIRECTS} redirects")
    except TimeoutError:
        error = f"no complete answer within {timeout_s:g} s"
    except ssl.SSLCertVerificationError as problem:
        error = f"certificate refused: {problem.verify_message}"
    except http.client.HTTPException as problem:
        error = f"not HTTP: {type(problem).__name__}"
    except socket.gaierror as problem:
        error = f"name not resolved: {problem.strerror}"
    except OSError as problem:
        error = problem.strerror or type(problem).__name__
    except (_Refused, ValueError) as problem:
        error = str(problem)
    return Answer(status, b"", _since(began), error)


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


def _same_host(place: SplitResult, location: str) -> SplitResult:
    target = urlsplit(urljoin(place.geturl(), location))
    if (target.scheme, target.hostname, target.port) != (place.scheme, place.hostname, place.port):
        raise _Refused(f"redirect to another place: {target.scheme}://{target.netloc}")
    return target


def _once(place: SplitResult, deadline: float, max_body: int) -> tuple[int, str | None, bytes]:
    """(status, where it redirects to, body) of one request."""
    host, port = place.hostname or "", place.port or _PORTS[place.scheme]
    raw = socket.create_connection((host, port), timeout=_left(deadline))
    try:
        raw.settimeout(_left(deadline))
        channel = _tls().wrap_socket(raw, server_hostname=host) if place.scheme == "https" else raw
    except BaseException:
        raw.close()
        raise
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        channel.settimeout(_left(deadline))
        channel.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nUser-Agent: monitoring-pipelines/{__version__}\r\n"
            "Accept: text/plain, application/json, */*;q=0.1\r\nAccept-Encoding: identity\r\n"
            "Connection: close\r\n\r\n".encode("ascii")
        )
        response = http.client.HTTPResponse(_Timed(channel, deadline), method="GET")  # type: ignore[arg-type]
        response.begin()
        location = response.getheader("Location") if 300 <= response.status < 400 else None
        return response.status, location, b"" if location else _body(response, max_body)
    finally:
        channel.close()


def _body(response: http.client.HTTPResponse, max_body: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := response.read1(65_536):
        size += len(chunk)
        if size > max_body:
            raise _Refused(f"body longer than {max_body} bytes")
        parts.append(chunk)
    if response.length:
        raise _Refused("the body ended early")
    return b"".join(parts)


def _left(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Timed:
    """A socket whose reader waits no longer than the deadline; all that ``HTTPResponse`` wants of a socket."""

    def __init__(self, channel: socket.socket, deadline: float) -> None:
        self.channel, self.deadline = channel, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A buffered reader on the socket."""
        return io.BufferedReader(_Reader(self.channel, self.deadline))


class _Reader(io.RawIOBase):
    def __init__(self, channel: socket.socket, deadline: float) -> None:
        self.channel, self.deadline = channel, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.channel.settimeout(_left(self.deadline))
        return self.channel.recv_into(buffer)
