"""``mp load-test``: many readers at once against a running page, judged by the published limits (S-608).

What belongs here: what is asked, by how many, and the verdict. What does not: figures with much data stored (``benchmarks``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from monitoring_pipelines.cli.context import Ctx, Whole
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.errors import SourceUnavailable, UsageError

if TYPE_CHECKING:
    import requests

#: Longest p95 in milliseconds: lists, series and pages, and a scrape.
LIMIT_MS, SCRAPE_LIMIT_MS = 200.0, 100.0
_MOST_CLIENTS, _MOST_SECONDS = 64, 600.0
#: Path → its name in the report; ``{endpoint}`` and ``{source}`` are of an endpoint that exists.
PATHS = {
    "/": "page: overview", "/tasks?show=all": "page: tasks", "/consistency": "page: consistency", "/alerts": "page: alerts",
    "/scheduler-monitoring": "page: scheduler", "/endpoints/{endpoint}?source={source}": "page: endpoint",
    "/api/v1/overview": "overview", "/api/v1/tasks": "tasks", "/api/v1/tasks?status=failed": "tasks, failed",
    "/api/v1/endpoints": "endpoints", "/api/v1/endpoints/{endpoint}/stats?source={source}": "statistics of an endpoint",
    "/api/v1/completeness/missing?hours=24": "missing outputs", "/api/v1/alerts": "alerts",
    "/api/v1/scheduler/metrics": "jobs", "/api/monitor/stats": "task monitor", "/metrics": "scrape",
}  # fmt: skip


@dataclass
class Measured:
    """What one path answered."""

    name: str
    limit_ms: float
    ms: list[float] = field(default_factory=list)
    failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Figures of the path; percentiles are NULL without an answer."""
        p50, p95 = (_percentile(self.ms, share) for share in (0.5, 0.95))
        good = self.failed == 0 and p95 is not None and p95 <= self.limit_ms
        return {"path": self.name, "requests": len(self.ms) + self.failed, "failed": self.failed, "p50_ms": p50, "p95_ms": p95,
                "limit_ms": self.limit_ms, "ok": good}  # fmt: skip


def load_test(
    *, url: str | None = None, clients: Whole = 8, seconds: float = 10.0, token_env: str | None = None, ctx: Ctx
) -> int:
    """Read pages, API and metrics of a running server with many clients; exit code 1 if a limit is exceeded.

    Nothing is changed. Limits: p95 of 200 ms for pages, lists and series, 100 ms for /metrics, no failed request.

    Args:
        url: Address of the server; default http://api.host:api.port of the configuration.
        clients: Requests under way at the same time.
        seconds: How long.
        token_env: Environment variable with a viewer's token, where tokens are configured.
        ctx: Global options.
    """
    if not 1 <= clients <= _MOST_CLIENTS:
        raise UsageError(f"--clients {clients} is out of range", f"1 to {_MOST_CLIENTS} are possible")
    if not 0 < seconds <= _MOST_SECONDS:
        raise UsageError(f"--seconds {seconds:g} is out of range", f"up to {_MOST_SECONDS:g} s are possible")
    base = (url or f"http://{ctx.settings.api.host}:{ctx.settings.api.port}").rstrip("/")
    session = _session(token_env)
    asked_for = _paths(session, base)
    paths = list(asked_for)
    found = [Measured(name, SCRAPE_LIMIT_MS if name == "scrape" else LIMIT_MS) for name in asked_for.values()]
    turns = cycle(range(len(paths)))
    end = time.monotonic() + seconds

    def client(_number: int) -> None:
        own = _session(token_env)
        while time.monotonic() < end:
            turn = next(turns)
            _ask(own, base + paths[turn], found[turn])

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    rows = [one.as_dict() for one in found]
    asked = sum(row["requests"] for row in rows)
    data = {"url": base, "clients": clients, "seconds": seconds, "requests": asked, "ok": all(row["ok"] for row in rows),
            "paths": rows}  # fmt: skip
    ctx.emit(data, lambda: _text(data))
    return 0 if data["ok"] else 1


def _session(token_env: str | None) -> requests.Session:
    import requests

    session = requests.Session()
    session.trust_env = False  # a proxy between us and this machine would be measured too
    if token_env:
        token = os.environ.get(token_env)
        if not token:
            raise UsageError(f"environment variable {token_env} is not set", "export it with a viewer's token")
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def _paths(session: requests.Session, base: str) -> dict[str, str]:
    """Paths to ask, with their names; those of an endpoint only where there is one.

    Raises:
        UsageError: The server wants a token.
        SourceUnavailable: Nobody answers, or not this product.
    """
    import requests

    try:
        answer = session.get(f"{base}/api/v1/endpoints", params={"page_size": 1}, timeout=30)
        items = answer.json()["data"]["items"] if answer.status_code == 200 else []
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise SourceUnavailable(
            f"{base} does not answer as this product does", "start it with `mp serve` or `mp up`, or give --url",
            cause=type(error).__name__,
        ) from error  # fmt: skip
    if answer.status_code in (401, 403):
        raise UsageError(f"{base} wants a token", "give --token-env with the variable that holds a viewer's token")
    return dict(_filled(items))


def _filled(items: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for path, name in PATHS.items():
        if "{" not in path:
            yield path, name
        elif items:
            yield path.format(endpoint=quote(items[0]["endpoint"], safe=""), source=items[0]["source_id"]), name


def _ask(session: requests.Session, address: str, into: Measured) -> None:
    import requests

    began = time.perf_counter()
    try:
        good = session.get(address, headers={"Accept": "text/html, application/json"}, timeout=60).status_code == 200
    except requests.RequestException:
        good = False
    if good:
        into.ms.append(1000 * (time.perf_counter() - began))
    else:
        into.failed += 1


def _percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


def _text(data: dict[str, Any]) -> str:
    rows = [
        (row["path"], row["requests"], row["failed"], row["p50_ms"], row["p95_ms"], row["limit_ms"], "ok" if row["ok"] else "over")
        for row in data["paths"]
    ]  # fmt: skip
    head = f"{data['requests']} requests in {data['seconds']:g} s by {data['clients']} clients at {data['url']}"
    said = "all within the limits" if data["ok"] else "not within the limits"
    return f"{head}\n\n{table(('path', 'requests', 'failed', 'p50 ms', 'p95 ms', 'limit ms', ''), rows)}\n\n{said}"
