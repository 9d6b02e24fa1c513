"""The push against the Alertmanager of the distribution."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitoring_pipelines.alerts import alertmanager
from monitoring_pipelines_tests.support.prometheus_server import alertmanager as started


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[str]:
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    with started(tmp_path, config) as address:
        yield f"http://{address}"


def known(url: str) -> list[dict]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
        return json.load(answer)


def test_alertmanager_shows_what_fires_and_drops_what_ended(make_world, manager, monkeypatch, clock):
    """Its own clock decides what is over, so the test's clock starts now."""
    clock.instant = datetime.now(UTC).replace(tzinfo=None)
    monkeypatch.setenv("MP_TEST_AM", manager)
    world = make_world(alerts="  alertmanager: {url_env: MP_TEST_AM}")
    for target in "ab":
        world.says(labels={"target": target}, message="the metrics page does not answer")
    world.tick()
    assert alertmanager.push(world.settings, world.state, clock.now()) is None
    alerts = [a for a in known(manager) if a["labels"]["type"] == "target.down"]
    assert sorted(a["labels"]["target"] for a in alerts) == ["a", "b"]
    assert alerts[0]["annotations"]["summary"] == "the metrics page does not answer"
    assert alerts[0]["status"]["state"] == "active"
    world.says(condition="false", labels={"target": "a"})
    world.tick()
    assert alertmanager.push(world.settings, world.state, clock.now()) is None
    assert [a["labels"]["target"] for a in known(manager) if a["labels"]["type"] == "target.down"] == ["b"]
