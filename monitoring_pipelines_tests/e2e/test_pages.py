"""Every page in a real browser: accessible in both themes and languages, wide and narrow, and quiet (S-801, S-802).

What belongs here: what a reader's browser says about the pages. What does not: figures, which the API's tests know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring_pipelines import pipeline
from monitoring_pipelines.alerts import engine
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.cli.serve import make_server
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.demo.generate import generate
from monitoring_pipelines.state import StateStore, checks, repair
from monitoring_pipelines.state.alerts import list_alerts
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines_tests.dagster.conftest import HOURS, NOW, SCALE, Site
from monitoring_pipelines_tests.support.browser import Browser, fetch_axe

LISTS = (
    "/", "/endpoints", "/tasks?show=all", "/consistency", "/alerts", "/repair", "/scheduler-monitoring",
    "/scheduler-monitoring?tab=heatmap&scope=all", "/resources", "/ingest", "/self", "/partitions", "/runbooks", "/login",
)  # fmt: skip


@dataclass
class Served:
    url: str
    paths: list[str]


def serve(settings, clock) -> tuple[str, object]:
    server = make_server(settings, clock, "127.0.0.1", 0, dagster_url="http://127.0.0.1:3000")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join(timeout=20)

    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", stop


def add_repair(state: StateStore, alert_id: str | None) -> list[str]:
    """A plan with its rows, approval, run and journal, as repair stores them."""
    plan_id, run_id, at = new_id(NOW), new_id(NOW), NOW - timedelta(minutes=20)
    row = {"values": {"task_id": "t-1", "name": "0.png", "file_url": "https://files.example.net/0.png?sign=secret"}}
    with state.begin() as con:
        repair.save_plan(con, {
            "plan_id": plan_id, "source_id": "shop", "created_at": at, "created_by": "ann", "mode": "only_if_empty",
            "window_from": at - timedelta(hours=24), "window_to": at, "plan_hash": "h", "state": "applied", "alert_id": alert_id,
            "counters": {"candidates": 2, "eligible": 1, "remote_failed": 1, "rows_planned": 1},
        })  # fmt: skip
        repair.add_items(con, [
            {"plan_id": plan_id, "seq": 1, "task_key": "t-1", "class": "eligible", "reason": None, "remote_status": "SUCCESS", "tries": 1,
             "rows": [row], "run_state": "committed"},
            {"plan_id": plan_id, "seq": 2, "task_key": "t-2", "class": "remote_failed", "reason": "FAILED at the service", "remote_status": "FAILED",
             "tries": 1, "rows": [], "run_state": "not_reached"},
        ])  # fmt: skip
        repair.save_approval(
            con, {"plan_id": plan_id, "plan_hash": "h", "rows_planned": 1, "approver": "bob", "at": at, "note": "go"}
        )
        repair.save_run(con, {
            "run_id": run_id, "plan_id": plan_id, "source_id": "shop", "kind": "apply", "dry_run": False, "actor": "bob",
            "started_at": at, "ended_at": NOW, "state": "finished", "counters": {"tasks_committed": 1, "rows_inserted": 1},
            "verification": {"verified": 1}, "report_path": "reports/x.md",
        })  # fmt: skip
        repair.mirror(con, [{
            "journal_id": new_id(NOW), "run_id": run_id, "plan_id": plan_id, "source_id": "shop", "op": "insert",
            "target_table": "task_outputs", "pk": {"id": 1}, "task_key": "t-1", "natural_key": "n", "actor": "bob", "at": at,
            "state": "committed",
        }])  # fmt: skip
    return [f"/repair/plans/{plan_id}", f"/repair/runs/{run_id}"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A small platform after its first tick, with check runs, alerts in several states, messages and a repair."""
    root = tmp_path_factory.mktemp("pages")
    generate(HOURS / 24, 7, NOW, scale=SCALE, folder=root).world.close()
    site, clock = Site(root, FixedClock(NOW)), FixedClock(NOW)
    site.write_config()
    pipeline.tick(site.pipe)
    settings, state = site.settings, StateStore.of(site.settings)
    checks.record_unexecuted(state, "quick", "missed", NOW - timedelta(hours=1), NOW, reason="the daemon stood still")
    engine.apply(settings, state, NOW - timedelta(minutes=5), [
        Observation("missing_task_outputs", "shop", "true", "critical", "critical", "MissingOutputs", "12 of 40 tasks have no output",
                    {"endpoint": "e"}, value=70.0, threshold=95.0, details={"rate": "70%"}, task_ids=("t-1",)),
        Observation("resource.memory", "shop", "true", "medium", "warning", "Memory", "memory is high", {"process": "p"}, for_s=3600),
    ])  # fmt: skip
    alerts, _ = list_alerts(state)
    names = site.query("SELECT endpoint, task_key FROM raw.task WHERE endpoint IS NOT NULL LIMIT 1")
    endpoint, task = names[0]
    paths = [
        *LISTS, "/runbooks/missing_outputs", *(f"/alerts/{row['alert_id']}" for row in alerts), "/alerts?show=all",
        f"/endpoints/{endpoint}?source=shop&range=6h", f"/tasks/{task}?source=shop",
        *add_repair(state, alerts[0]["alert_id"]), "/consistency?source=shop&date=2025-03-10",
    ]  # fmt: skip
    url, stop = serve(settings, clock)
    yield Served(url, paths)
    stop()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A configuration without anything behind it."""
    folder: Path = tmp_path_factory.mktemp("empty")
    (folder / "monitoring.yaml").write_text("version: 1\n")
    url, stop = serve(load_settings(folder / "monitoring.yaml"), FixedClock(NOW))
    yield Served(url, list(LISTS))
    stop()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fetch_axe(tmp_path_factory.mktemp("axe"))


def looked_at(browser: Browser, axe: str, path: str, looks: dict[str, tuple[tuple[str, int], ...]]) -> list[str]:
    """Everything wrong with one page in the given languages, each with (theme, width)."""
    wrong: list[str] = []
    for language, shown in looks.items():
        browser.language(language)
        browser.open(path)
        for theme, width in shown:
            browser.theme(theme)
            browser.size(width)
            name = f"{path} {language} {theme} {width}"
            wrong += [f"{name}: {text}" for text in browser.violations(axe)]
            beyond = browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if beyond > 0:
                wrong.append(f"{name}: the page scrolls sideways by {beyond} px")
        wrong += [f"{path} {language}: {text}" for text in browser.problems]
        browser.problems.clear()
    return wrong


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


def test_every_page_is_accessible_fits_a_phone_and_stays_quiet(full: Served, axe: str, profile: Path) -> None:
    """WCAG 2.2 AA in both themes, languages and widths; no foreign request, no policy violation, no console error."""
    with Browser.started(profile, full.url) as browser:
        looks = {"zh-CN": (("light", 1400), ("dark", 390)), "en": (("dark", 1400), ("light", 390))}
        wrong = [text for path in full.paths for text in looked_at(browser, axe, path, looks)]
    assert not wrong, "\n".join(wrong)


def test_every_page_is_so_too_when_there_is_nothing_to_show(empty: Served, axe: str, tmp_path: Path) -> None:
    with Browser.started(tmp_path, empty.url) as browser:
        looks = {"zh-CN": (("dark", 390),), "en": (("light", 1400),)}
        wrong = [text for path in empty.paths for text in looked_at(browser, axe, path, looks)]
        browser.open("/")
        assert "No source configured" in browser.ask("document.querySelector('main').textContent")
    assert not wrong, "\n".join(wrong)
