"""The small demo behind a real server, once for all tests of pages: every page has something to show.

What belongs here: building and serving it. What does not: expectations.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.cli.serve import make_server
from monitoring_pipelines.clock import Clock, FixedClock
from monitoring_pipelines.compensation.grants import create_journal
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.demo import SMALL, generate
from monitoring_pipelines.demo.first_run import first_run
from monitoring_pipelines.demo.layout import prepare_folder, write_configuration
from monitoring_pipelines.demo.result_api import serve as serve_results
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines.state.alerts import list_alerts
from monitoring_pipelines_tests.support.browser import fetch_axe

NOW = datetime(2026, 3, 10, 12, 20)
DAYS = 0.4
DAGSTER = "http://127.0.0.1:3000"


@dataclass
class Served:
    """A running page server."""

    url: str
    settings: Settings
    token: str = ""
    config: Path = Path()
    #: Pages of the repair that was made, where one was.
    repair_paths: list[str] = field(default_factory=list)

    def get(self, path: str, language: str = "en", **more: Any) -> requests.Response:
        session = requests.Session()
        session.trust_env = False
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/html"}
        return session.get(self.url + path, cookies={"mp_lang": language}, headers=headers, timeout=60, **more)

    def post(self, path: str, body: Any) -> dict[str, Any]:
        session = requests.Session()
        session.trust_env = False
        answer = session.post(
            self.url + path, json=body, headers={"Authorization": f"Bearer {self.token}"}, timeout=120
        )
        assert answer.status_code in (200, 202), (path, answer.status_code, answer.text)
        found: dict[str, Any] = answer.json()["data"]
        return found


def start_server(settings: Settings, clock: Clock) -> tuple[str, Callable[[], None]]:
    """Address, and what ends the server."""
    server = make_server(settings, clock, "127.0.0.1", 0, dagster_url=DAGSTER)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join(timeout=20)

    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", stop


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A demo for all who look at it."""
    with new_demo(tmp_path_factory.mktemp("demo") / "demo") as served:
        yield served


@contextmanager
def new_demo(place: Path) -> Iterator[Served]:
    """Five platforms after their first run, alerts in several states, check runs that were missed, a plan to approve."""
    folder = prepare_folder(place, 7, DAYS, NOW)
    generate(DAYS, 7, NOW, scale=SMALL, folder=folder.source).world.close()
    write_configuration(folder, NOW, days=DAYS)
    settings, clock = load_settings(folder.config), FixedClock(NOW)
    create_journal(settings, str(settings.source("tktool").repair_dsn()))
    pipe = first_run(settings, clock, lambda _line: None).pipe
    state = StateStore.of(settings)
    checks.record_unexecuted(
        state, "quick", "missed", NOW - timedelta(hours=1), NOW, reason="the product was not running"
    )
    engine.tick(pipe, state, NOW)
    engine.apply(settings, state, NOW, [
        Observation("resource.memory", "collector", "true", "medium", "warning", "Memory", "内存过高", {"process": "p"},
                    for_s=3600),
    ])  # fmt: skip
    url = next(one.base_url for one in settings.repair.recoverers if one.base_url)
    results = serve_results(url)
    address, stop = start_server(settings, clock)
    yield Served(address, settings, folder.page_token.read_text().strip(), folder.config)
    stop()
    if results is not None:
        results.stop()


def lost(served: Served) -> dict[str, Any]:
    """The alert about lost outputs that can be repaired."""
    rows, _ = list_alerts(StateStore.of(served.settings), types=["missing_task_outputs"], source_ids=["tktool"])
    assert rows, "the demo lost outputs and no alert says so"
    return rows[0]


@pytest.fixture(scope="session")
def repaired(demo: Served) -> Served:
    """The demo with a small plan that was applied, verified, and previewed for rollback; most losses are left."""
    body = {"source": "tktool", "hours": 24, "max_tasks": 5, "alert_id": lost(demo)["alert_id"]}
    plan = planned(demo, demo.post("/api/v1/repair/plans", body)["plan_id"])
    demo.post(f"/api/v1/repair/plans/{plan['plan_id']}/approve", {"plan_hash": plan["plan_hash"]})
    run = finished(demo, demo.post(f"/api/v1/repair/plans/{plan['plan_id']}/apply", {}))
    check = finished(demo, demo.post(f"/api/v1/repair/runs/{run}/verify", {}))
    preview = finished(demo, demo.post(f"/api/v1/repair/runs/{run}/rollback", {"dry_run": True}))
    demo.repair_paths = [f"/repair/plans/{plan['plan_id']}", *(f"/repair/runs/{one}" for one in (run, check, preview))]
    return demo


def planned(served: Served, plan_id: str) -> dict[str, Any]:
    """The plan once it is made: a busy machine answers 202 with its id before that."""
    deadline = time.monotonic() + 120
    while True:
        answer = served.get(f"/api/v1/repair/plans/{plan_id}")
        if answer.status_code == 200 and answer.json()["data"]["state"] != "building":
            return dict(answer.json()["data"])
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)


def finished(served: Served, begun: dict[str, Any]) -> str:
    """Id of a repair run, when it has ended well."""
    deadline = time.monotonic() + 120
    while True:
        answer = served.get(f"/api/v1/repair/runs/{begun['run_id']}")
        state = answer.json()["data"]["state"] if answer.status_code == 200 else "starting"
        if state == "finished":
            return str(begun["run_id"])
        assert state in ("starting", "running"), state
        assert time.monotonic() < deadline, state
        time.sleep(0.2)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A configuration without anything behind it."""
    folder: Path = tmp_path_factory.mktemp("empty")
    (folder / "monitoring.yaml").write_text("version: 1\n")
    settings = load_settings(folder / "monitoring.yaml")
    url, stop = start_server(settings, FixedClock(NOW))
    yield Served(url, settings)
    stop()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Source of axe-core."""
    return fetch_axe(tmp_path_factory.mktemp("axe"))
