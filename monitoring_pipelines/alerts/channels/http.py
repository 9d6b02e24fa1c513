"""Posting JSON to an address given by an operator (checks §10).

What belongs here: one POST with a time limit, without redirects, and errors without secrets. What does not: bodies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from monitoring_pipelines.alerts.channels import Result

#: Of an answer only so much is read.
_MOST_BYTES = 65_536
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answer:
    """What came back: status and the beginning of the body; or ``error``, which never names the address' secrets."""

    status: int | None
    body: bytes = b""
    error: str | None = None


def post_json(url: str, body: Any, timeout_s: float, method: str = "POST") -> Answer:
    """Send ``body`` as JSON (bytes are sent as they are). A redirect is an answer, never followed.

    Args:
        url: http or https address; may hold a token.
        body: JSON value, bytes, or None.
        timeout_s: For connecting, and again for the whole answer.
        method: POST or GET.
    """
    import json

    import requests

    data = body if isinstance(body, bytes | None) else json.dumps(body, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "monitoring-pipelines"}
    deadline = time.monotonic() + timeout_s
    try:
        with requests.Session() as session:
            session.trust_env = urlsplit(url).hostname not in _LOOPBACK  # a proxy never knows this machine
            with session.request(
                method, url, data=data, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
            ) as response:
                return _read(response, deadline, timeout_s)
    except requests.Timeout:
        return Answer(None, error=f"{where(url)} did not answer within {timeout_s:g} s")
    except requests.exceptions.SSLError:
        return Answer(None, error=f"{where(url)}: the certificate is not accepted")
    except requests.ConnectionError as error:
        return Answer(None, error=f"{where(url)} cannot be reached: {_reason(error)}")
    except (requests.RequestException, ValueError) as error:
        return Answer(None, error=f"{where(url)}: {type(error).__name__}")


def _read(response: Any, deadline: float, timeout_s: float) -> Answer:
    body = b""
    for part in response.iter_content(4096):
        body += part
        if len(body) >= _MOST_BYTES:
            break
        if time.monotonic() > deadline:
            return Answer(response.status_code, body, f"the answer took longer than {timeout_s:g} s")
    return Answer(response.status_code, body)


def where(url: str) -> str:
    """Scheme, host and port of an address: what may be shown of it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def result_of(answer: Answer, url: str, ok: bool, provider_code: str | None = None, error: str | None = None) -> Result:
    """The result of an attempt from the answer to its post."""
    if not ok and error is None:
        error = answer.error or f"{where(url)} answered {answer.status}"
    return Result(ok, answer.status, provider_code, None if ok else error, f"{where(url)}/…")


def _reason(error: BaseException) -> str:
    """The innermost reason without the address."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        inner = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        seen = inner if isinstance(inner, BaseException) else None
    return "no connection" if "Name or service" not in str(error) else "unknown host"
