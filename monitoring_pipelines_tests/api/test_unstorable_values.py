"""A value that the state store cannot hold is refused as the caller's mistake, on every way in (S-102)."""

from __future__ import annotations

import pytest

from monitoring_pipelines_tests.support.postgres_server import PostgresServer

from .conftest import Serve, data
from .stored import fill

PATHS = ("/api/v1/alerts?q=a%00", "/alerts?q=a%00", "/api/v1/alerts?type=%00", "/api/v1/alerts/%00", "/checks/%00")


def test_a_text_with_the_character_0_is_a_400_on_postgresql(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    with postgres.database() as url:
        monkeypatch.setenv("STATE_URL", url)
        client = serve({"state": {"url_env": "STATE_URL"}})
        fill(client.settings, client.clock)
        client.headers["Accept-Language"] = "en"
        for path in PATHS:
            answer = client.get(path)
            assert answer.status_code == 400, path
            assert "cannot be stored" in answer.text
            assert "0x00" not in answer.text
        assert client.post("/api/v1/alerts/A1/ack", {"note": "a\x00b"}).status_code == 400
        assert data(client, "/api/v1/alerts/A1")["alert"]["acknowledged_at"] is None
