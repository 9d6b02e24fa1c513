"""``mp load-test`` against a real server: what it asks exists, its verdict follows from its figures (S-608)."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from monitoring_pipelines.cli.app import run

from .conftest import Serve
from .world import World

SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}
TOKEN = {"name": "grafana", "token_env": "READER", "roles": ["viewer"]}


def test_everything_that_is_asked_is_answered_and_the_verdict_follows_from_the_limits(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve({"sources": [SHOP]})
    world = World(client.settings, client.clock)
    world.source()
    world.task("t1", endpoint="flux/dev 语音")
    hour = client.clock.now().replace(minute=0, second=0)
    world.minute("flux/dev 语音", hour - timedelta(minutes=5))
    world.hour("flux/dev 语音", hour - timedelta(hours=1))
    world.publish()
    code = run(["load-test", "--url", client.url, "--clients", "2", "--seconds", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert sum(path["requests"] for path in found["paths"]) == found["requests"] > 0
    assert not [path for path in found["paths"] if path["failed"]]
    for path in found["paths"]:
        assert path["limit_ms"] == (100 if path["path"] == "scrape" else 200)
        assert path["ok"] == (path["p95_ms"] is not None and path["p95_ms"] <= path["limit_ms"])
    assert found["ok"] == all(path["ok"] for path in found["paths"])
    assert code == (0 if found["ok"] else 1)
    assert "statistics of an endpoint" in {path["path"] for path in found["paths"]}


def test_a_server_with_tokens_is_asked_with_one_and_says_so_without(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("READER", "a-viewer-of-the-tests-0123456789")
    client = serve({"sources": [SHOP], "api": {"tokens": [TOKEN]}})
    World(client.settings, client.clock).publish()
    assert run(["load-test", "--url", client.url, "--seconds", "0.2"]) == 2
    assert "--token-env" in capsys.readouterr().err
    run(["load-test", "--url", client.url, "--seconds", "1", "--clients", "1", "--token-env", "READER", "--json"])
    assert not [path for path in json.loads(capsys.readouterr().out)["paths"] if path["failed"]]
