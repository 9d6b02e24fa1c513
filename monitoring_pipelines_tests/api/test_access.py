"""S-001 to S-005, S-101 to S-105: who gets in and how errors look."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from monitoring_pipelines.cli.serve import refuse_open_door
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.errors import Refused

from .conftest import Serve

TOKENS: dict[str, Any] = {
    "api": {
        "tokens": [
            {"name": "anna", "token_env": "ANNA", "roles": ["viewer"]},
            {"name": "otto", "token_env": "OTTO", "roles": ["operator"]},
        ]
    }
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNA", "viewer-secret-1")
    monkeypatch.setenv("OTTO", "operator-secret-2")


def test_live_answers_without_a_token_and_everything_else_needs_one(serve: Serve, secrets: None) -> None:
    client = serve(TOKENS)
    assert client.get("/health/live").status_code == 200
    for path in ("/health", "/api/v1/sources", "/openapi.json", "/metrics", "/nothing"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.request("GET", "/health", headers={"Authorization": "Bearer wrong"}).status_code == 401
    good = client.request("GET", "/health", headers={"Authorization": "Bearer viewer-secret-1"})
    assert good.status_code == 200


def test_foreign_hosts_and_foreign_origins_are_refused(serve: Serve) -> None:
    client = serve()
    assert client.request("GET", "/health/live", headers={"Host": "evil.example"}).status_code == 403
    assert client.request("GET", "/health/live", headers={"Host": "LOCALHOST:99"}).status_code == 200
    for origin in ("https://evil.example", "null", "", "http://[", "http://[::1", "http://a]b"):
        answer = client.request("POST", "/health/live", headers={"Origin": origin})
        assert (answer.status_code, answer.json().get("error")) == (
            403,
            "requests from other sites may not change anything",
        ), origin
    assert client.request("GET", "/health/live", headers={"Origin": "https://evil.example"}).status_code == 200


def test_errors_carry_a_request_id_and_use_the_envelope_of_their_path(serve: Serve) -> None:
    client = serve()
    v1 = client.get("/api/v1/none")
    assert v1.status_code == 404
    assert v1.json()["code"] == 404
    assert v1.json()["data"] is None
    assert v1.json()["request_id"] == v1.headers["x-request-id"]
    other = client.get("/api/monitoring/none").json()
    assert other["success"] is False
    assert other["error"] == "not_found"
    assert set(client.get("/api/task/none/there").json()) == {"error", "request_id"}
    wrong = client.request("DELETE", "/health")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/silences", "GET, POST"), ("/api/v1/alerts/A/ack", "DELETE, POST"), ("/login", "GET, POST"),
        ("/api/monitoring/config/thresholds", "GET, PUT"), ("/api/v1/scheduler/jobs/a/b/trigger", "POST"),
        ("/api/v1/tasks/a/b", "GET"), ("/alerts", "GET"), ("/openapi.json", "GET, HEAD"),
    ],
)  # fmt: skip
def test_a_method_that_a_path_does_not_have_is_answered_with_all_that_it_has(
    serve: Serve, path: str, methods: str
) -> None:
    answer = serve().request("OPTIONS", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def test_request_ids_of_errors_are_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "monitoring_pipelines.api.app")
    answer = serve().get("/api/v1/none")
    assert answer.json()["request_id"] in caplog.text


def test_bodies_above_one_megabyte_are_refused(serve: Serve) -> None:
    client = serve()
    assert client.request("POST", "/health", data=b"x" * 1_000_001).status_code == 413

    def pieces() -> Any:
        for _ in range(11):
            yield b"x" * 100_000

    answer = client.request("POST", "/api/v1/silences", data=pieces())
    assert answer.status_code == 413


def test_listening_beyond_this_machine_without_tokens_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("version: 1\n", encoding="utf-8")
    settings = load_settings(file)
    refuse_open_door(settings, "127.0.0.1")
    with pytest.raises(Refused):
        refuse_open_door(settings, "0.0.0.0")


def test_health_is_graceful_only_while_young(serve: Serve) -> None:
    client = serve()
    young = client.get("/health")
    assert young.status_code == 200
    assert young.json()["grace"] == {"applied": True, "uptime": 0.0, "grace_seconds": 120}
    assert young.json()["status"] == "unhealthy"
    client.clock.advance(119.999)
    assert client.get("/health").status_code == 200
    client.clock.advance(0.001)
    old = client.get("/health")
    assert old.status_code == 503
    assert "grace" not in old.json()


def test_without_tokens_nobody_switches_jobs(serve: Serve) -> None:
    """S-004, S-426: enabling and disabling need an administrator, also on the loopback address."""
    for action in ("disable", "enable"):
        body = {"action": action, "job_ids": ["maintenance_job"]}
        assert serve().post("/api/v1/scheduler/jobs/batch", body).status_code == 403
