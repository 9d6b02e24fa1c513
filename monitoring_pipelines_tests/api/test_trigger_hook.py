"""Starting a job of a mapped scheduler through its source's hook (S-425, S-426), and a Dagster that does not answer.

What belongs here: what the hook gets, and what its answers mean. What does not: the product's own jobs in Dagster.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from monitoring_pipelines.api import dagster_client
from monitoring_pipelines_tests.support.described import problem_of
from monitoring_pipelines_tests.support.receiver import Receiver

from .conftest import Client, Serve
from .world import World

SOURCE = {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"}
HOOKED: dict[str, Any] = {"sources": [SOURCE | {"trigger_hook": {"url_env": "SHOP_TRIGGER_URL", "timeout_s": 5}}]}


def hooked(serve: Serve, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("SHOP_TRIGGER_URL", f"{receiver.url}/start?key=secret")
    client = serve(HOOKED)
    rows = World(client.settings, client.clock)
    rows.source("sched")
    rows.job("nightly", source="sched")
    rows.job_run("nightly", "success", 10, source="sched")
    rows.publish()
    return client


def test_the_hook_is_told_the_job_and_its_run_id_comes_back(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver(None, lambda _: (202, b'{"run_id": "r-7"}', {})) as receiver:  # type: ignore[arg-type]
        receiver.clock = (client := hooked(serve, receiver, monkeypatch)).clock
        answer = client.post("/api/v1/scheduler/jobs/nightly/trigger")
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == {"job_id": "nightly", "run_id": "r-7"}
    assert receiver.requests[0].json == {"job_id": "nightly", "source": "sched", "actor": "local"}


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [(409, 409, "running"), (500, 503, "hook_failed"), (302, 503, "hook_failed")],
)
def test_a_hook_that_refuses_is_an_error_without_its_address(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, expected: int, reason: str
) -> None:
    with Receiver(None, lambda _: (status, b"no", {})) as receiver:  # type: ignore[arg-type]
        receiver.clock = (client := hooked(serve, receiver, monkeypatch)).clock
        answer = client.post("/api/v1/scheduler/jobs/nightly/trigger")
    assert (answer.status_code, answer.json()["reason"]) == (expected, reason)
    assert "secret" not in answer.text


def test_a_batch_says_of_each_job_what_became_of_it(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver(None, lambda _: (200, b"", {})) as receiver:  # type: ignore[arg-type]
        receiver.clock = (client := hooked(serve, receiver, monkeypatch)).clock
        found = client.post(
            "/api/v1/scheduler/jobs/batch", {"action": "trigger", "job_ids": ["nightly", "none"]}
        ).json()
        document = client.get("/openapi.json").json()
    assert problem_of(document, "POST", "/api/v1/scheduler/jobs/batch", 200, found) is None
    assert [(row["job_id"], row["success"]) for row in found["data"]["results"]] == [("nightly", True), ("none", False)]
    assert len(receiver.requests) == 1


def test_a_hook_without_an_address_is_a_configuration_error(serve: Serve) -> None:
    from monitoring_pipelines.errors import ConfigError

    with pytest.raises(ConfigError, match="trigger_hook"):
        serve({"sources": [SOURCE | {"trigger_hook": {}}]})


def test_a_start_that_dagster_has_and_does_not_confirm_is_not_called_a_failure(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run may well be there: who asks is told to look, not that Dagster is away."""
    monkeypatch.setattr(dagster_client, "_LAUNCH_TIMEOUT_S", 0.2)
    release = threading.Event()

    def answer(request: Any) -> tuple[int, bytes, dict[str, str]]:
        if "launchRun" in request.json["query"]:
            release.wait(30)
        return 200, json.dumps({"data": {"runsOrError": {"results": []}}}).encode(), {}

    with Receiver(None, answer) as receiver:  # type: ignore[arg-type]
        receiver.clock = (client := serve(dagster_url=receiver.url)).clock
        rows = World(client.settings, client.clock)
        rows.source()
        rows.publish()
        late = client.post("/api/v1/scheduler/jobs/quick_check_job/trigger")
        release.set()
    assert (late.status_code, late.json()["reason"]) == (503, "outcome_unknown")
    away = client.post("/api/v1/scheduler/jobs/quick_check_job/trigger")
    assert (away.status_code, away.json()["reason"]) == (503, "dagster_unavailable")
