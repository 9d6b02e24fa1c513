"""What pages show of rows that are in the store, and what they say when a part of it is missing (S-801 to S-820)."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.state import StateStore

from .conftest import Client, Serve
from .world import World

SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}
SCHEDULER = {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"}
MINUTE = timedelta(minutes=1)
SAID = "The state store cannot be used"


def fire(settings: Settings, at: datetime, type_: str, severity: str, for_s: float = 0, **labels: str) -> None:
    """An alert that begins at ``at``."""
    seen = Observation(
        type_, "shop", "true", severity, severity, type_, f"{type_} {labels}", labels or {"check": type_}, for_s=for_s
    )  # type: ignore[arg-type]
    engine.apply(settings, StateStore.of(settings), at, [seen])


@pytest.fixture
def shop(serve: Serve) -> tuple[Client, World]:
    client = serve({"sources": [SHOP]})
    world = World(client.settings, client.clock)
    world.source()
    return client, world


def text_of(client: Client, path: str, status: int = 200, **params: Any) -> str:
    """The page's text without its tags."""
    answer = client.request("GET", path, headers={"Accept": "text/html"}, params={"lang": "en"} | params)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def test_pages_without_the_state_store_show_what_they_can_and_say_what_they_cannot(serve: Serve) -> None:
    """S-802: published figures stay; alerts are unknown, and unknown is not good."""
    client = serve({"sources": [SHOP, SCHEDULER]})
    world = World(client.settings, client.clock)
    world.source()
    world.source("sched")
    world.task("t1")
    world.job_run("nightly", "success", 400, source="sched")
    world.publish()
    file = Path(str(StateStore.of(client.settings).url.database))
    file.write_bytes(b"this is no database " * 500)
    home = text_of(client, "/")
    assert SAID in home
    assert "Alerts unknown" in home
    assert "All 2 sources are healthy" not in home
    assert "100.0%" in home
    for path in ("/consistency", "/partitions", "/ingest", "/scheduler-monitoring"):
        assert SAID in text_of(client, path), path
    for path in ("/endpoints", "/tasks?show=all", "/resources", "/runbooks"):
        assert SAID not in text_of(client, path), path
    assert "state_store" in text_of(client, "/self")
    for path in ("/alerts", "/checks", "/repair"):
        assert SAID in text_of(client, path, 503), path
    assert client.get("/api/v1/overview").status_code == 503


def test_alerts_are_firing_and_gravest_first_over_all_pages(shop: tuple[Client, World]) -> None:
    """S-819: the second page does not hold a graver one than the first."""
    client, _ = shop
    now = client.clock.now()
    for number, severity in enumerate(("low", "critical", "medium", "info", "high", "critical")):
        fire(client.settings, now - (10 - number) * MINUTE, f"t{number}", severity)
    fire(client.settings, now, "waits", "critical", for_s=3600)
    order: list[str] = []
    for page in (1, 2, 3, 4):
        answer = client.get("/alerts", lang="en", source="shop", page=page, page_size=2).text
        order += re.findall(r'href="/alerts/[^"]+">(?:<[^>]+>)?(t\d|waits)', answer)
    assert order == ["t5", "t1", "t4", "t2", "t0", "t3", "waits"]
    rows = client.get(
        "/download/alerts.csv", show="firing", severity="critical", source="shop", sort="since"
    ).text.splitlines()
    assert [re.search(r"t\d", row).group() for row in rows[1:]] == ["t1", "t5"]  # type: ignore[union-attr]


def test_hours_of_minute_statistics_hold_all_their_minutes(shop: tuple[Client, World]) -> None:
    """The matrix counts every minute of an hour, not the first one only."""
    client, world = shop
    hour = client.clock.now() - timedelta(hours=2)
    for minute in (5, 6, 40):
        world.minute("e", hour + minute * MINUTE)
    world.publish()
    cells = re.findall(r'title="([^"]+, 3 rows[^"]*)"', client.get("/partitions", lang="en").text)
    assert len(cells) == 1, cells
    assert f"{hour + timedelta(hours=8):%m-%d %H}:00" in cells[0]


def test_a_range_of_a_process_is_drawn_with_as_many_points_as_a_screen_shows_and_with_its_gaps(
    shop: tuple[Client, World],
) -> None:
    """S-803, S-817: 30 days of samples are thinned by the server; a day without samples is a gap, not a line."""
    client, world = shop
    now = client.clock.now()
    for hours in (*range(200), *range(224, 720)):
        world.sample("feed", now - timedelta(hours=hours))
    world.publish()
    for chosen, most in (("1h", 1), ("24h", 24), ("7d", 168), ("30d", 402)):
        page = client.get("/resources", process="feed", range=chosen, lang="en")
        specs = [json.loads(html.unescape(one)) for one in re.findall(r'data-chart="([^"]+)"', page.text)]
        memory = specs[0]
        assert 0 < len(memory["x"]) <= most
        assert memory["x"] == sorted(memory["x"])
        assert memory["series"][0]["values"].count(None) == (1 if chosen == "30d" else 0)
    assert 'aria-current="page">30d<' in page.text
    assert client.get("/download/samples.csv", process="feed", range="30d").text.count("\n") == 1 + 696


def test_pages_refresh_as_often_as_configured_and_say_how_old_they_are(serve: Serve) -> None:
    """S-801: task monitor 5 s, charts 60 s, others 30 s; old data is marked."""
    client = serve({"sources": [SHOP], "api": {"refresh_s": {"tasks": 4}}})
    world = World(client.settings, client.clock)
    world.source(as_of=client.clock.now() - timedelta(minutes=10))
    world.sample("feed", client.clock.now() - timedelta(minutes=10))
    world.publish()
    for path, seconds in (("/tasks", 4), ("/resources", 60), ("/", 30), ("/consistency", 30), ("/alerts", 30)):
        page = client.get(path, lang="en").text
        assert float(re.search(r'data-refresh="([\d.]+)"', page)[1]) == seconds, path  # type: ignore[index]
        assert "Last updated" in page, path
        assert ("Data is stale" in page) == (path != "/alerts"), path
    assert "最后更新" in client.get("/", lang="zh-CN").text
