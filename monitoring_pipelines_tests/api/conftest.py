"""A real server on a free port of this machine, over a configuration of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from monitoring_pipelines.cli.serve import make_server
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings

from .world import World

NOW = datetime(2026, 2, 11, 6, 0, 0)
SOURCE = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}


@dataclass
class Client:
    """Requests to one server."""

    url: str
    settings: Settings
    clock: FixedClock
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        more["headers"] = self.headers | more.get("headers", {})
        return self.session.request(method, self.url + path, timeout=30, **more)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.request("GET", path, params={k.rstrip("_"): v for k, v in params.items()})

    def post(self, path: str, body: Any = None, **more: Any) -> requests.Response:
        return self.request("POST", path, json=body, **more)


Serve = Callable[..., Client]


def data(client: Client, path: str, **params: Any) -> Any:
    """The data of a 200."""
    answer = client.get(path, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def with_world(serve: Serve, sources: Sequence[dict[str, Any]]) -> tuple[Client, World]:
    """A server of these sources, and their rows: so far when each was read."""
    client = serve({"sources": list(sources)})
    world = World(client.settings, client.clock)
    for source in sources:
        world.source(source["id"])
    return client, world


def make_settings(folder: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]) -> Settings:
    monkeypatch.setenv("SHOP_DSN", "mysql://nobody:nothing@127.0.0.1:1/none")
    file = folder / "monitoring.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "sources": [SOURCE]} | document), encoding="utf-8")
    return load_settings(file)


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start servers; each call gives a client of a new one over the same folder."""
    running = []

    def start(document: dict[str, Any] | None = None, now: datetime = NOW, **more: Any) -> Client:
        settings = make_settings(folder, monkeypatch, document or {})
        clock = FixedClock(now)
        server = make_server(settings, clock, "127.0.0.1", 0, **more)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        running.append((server, thread))
        port = server.servers[0].sockets[0].getsockname()[1]
        return Client(f"http://127.0.0.1:{port}", settings, clock)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Servers over a folder of the test's own."""
    with serving(tmp_path, monkeypatch) as start:
        yield start
