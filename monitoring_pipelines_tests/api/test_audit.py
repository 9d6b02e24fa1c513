"""Every route that changes something leaves who did what to what, and what came of it, in a chain nobody can mend."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state.tables import audit_log
from monitoring_pipelines_tests.support.described import problem_of
from monitoring_pipelines_tests.support.receiver import Receiver

from .conftest import Client, Serve
from .stored import fill
from .world import World

SECRET = "admin-secret-1"
PLAN = "/api/v1/repair/plans/{plan_id}"
RUN = "/api/v1/repair/runs/{run_id}"
SILENCE = {"matchers": [{"name": "type", "value": "x"}], "ends_at": "2026-02-11T08:00:00Z"}
#: Route, body, and the row it leaves: action, object and parts of the detail.
WRITING: list[tuple[str, str, Any, str, str | None, dict[str, Any]]] = [
    ("POST", "/api/v1/alerts/{alert_id}/ack", {"note": "seen"}, "alert.acknowledge", "A1", {"note": "seen"}),
    ("DELETE", "/api/v1/alerts/{alert_id}/ack", None, "alert.withdraw_acknowledgement", "A1", {}),
    ("POST", "/api/v1/silences", SILENCE, "silence.create", None, {"ends_at": "2026-02-11T08:00:00Z"}),
    ("DELETE", "/api/v1/silences/{silence_id}", None, "silence.end", "S1", {}),
    ("POST", "/api/v1/checks/runs", {"type": "quick", "hours_back": 2}, "check.run", "quick", {"hours_back": 2}),
    ("POST", "/api/monitoring/data-consistency/check", {"type": "deep"}, "check.run", "deep", {"type": "deep"}),
    ("PUT", "/api/monitoring/config/thresholds", {"max_pending_tasks": 7}, "thresholds.change", "thresholds",
     {"max_pending_tasks": 7}),
    ("POST", "/api/monitoring/test-alert", {"level": "info"}, "alert.test", "channels", {"level": "info"}),
    ("POST", "/api/v1/scheduler/jobs/{job_id}/trigger", None, "job.trigger", "nightly", {"run_id": "r-7"}),
    ("POST", "/api/v1/scheduler/jobs/batch", {"action": "disable", "job_ids": ["quick_check_job", "none"]}, "job.disable",
     "quick_check_job,none", {}),
    ("POST", f"{PLAN}/approve", {"plan_hash": "h", "note": "good"}, "repair.approve", "P1", {"plan_hash": "h", "note": "good"}),
    ("POST", f"{PLAN}/reject", {"note": "bad"}, "repair.reject", "P1", {"note": "bad"}),
]  # fmt: skip
#: They read or write the source, so they leave their rows where there is one: ``compensation/test_over_api``.
NEEDS_A_SOURCE = {
    ("POST", "/api/v1/repair/plans"),
    *(("POST", path) for path in (f"{PLAN}/apply", f"{RUN}/resume", f"{RUN}/verify", f"{RUN}/rollback")),
}


@pytest.fixture
def client(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Any:
    with Receiver(None, lambda _: (200, b'{"run_id": "r-7"}', {})) as receiver:  # type: ignore[arg-type]
        monkeypatch.setenv("ADMIN_TOKEN", SECRET)
        monkeypatch.setenv("HOOK_URL", f"{receiver.url}/x")
        client = serve({
            "sources": [
                {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"},
                {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN",
                 "trigger_hook": {"url_env": "HOOK_URL", "timeout_s": 5}},
            ],
            "api": {"tokens": [{"name": "anna", "token_env": "ADMIN_TOKEN", "roles": ["admin"]}]},
            "channels": [{"id": "ops", "type": "webhook", "webhook_env": "HOOK_URL"}],
        })  # fmt: skip
        receiver.clock = client.clock
        client.headers["Authorization"] = f"Bearer {SECRET}"
        rows = World(client.settings, client.clock)
        rows.source()
        rows.source("sched")
        rows.task("t", ago=timedelta(hours=1))
        rows.job("nightly", source="sched")
        rows.publish()
        fill(client.settings, client.clock)
        yield client


def written(client: Client) -> list[dict[str, Any]]:
    """The audit log, oldest first; its chain holds."""
    state = StateStore.of(client.settings)
    with state.read() as con:
        rows = [dict(row) for row in con.execute(select(audit_log).order_by(audit_log.c.seq)).mappings()]
        assert audit.first_broken(con) is None
    state.dispose()
    return rows


@pytest.mark.parametrize(
    ("method", "path", "body", "action", "target", "detail"), WRITING, ids=[f"{row[0]} {row[1]}" for row in WRITING]
)
def test_what_a_route_changes_is_written_down_with_who_when_and_what(
    client: Client, method: str, path: str, body: Any, action: str, target: str | None, detail: dict[str, Any]
) -> None:
    known = path.format(alert_id="A1", silence_id="S1", plan_id="P1", job_id="nightly")
    answer = client.request(method, known, json=body)
    assert answer.status_code == 200, answer.text
    rows = written(client)
    assert [row["action"] for row in rows] == [action]
    row = rows[0]
    assert (row["actor"], row["at"]) == ("anna", client.clock.now())
    assert row["object"] == (target or answer.json()["data"]["silence_id"])
    assert {name: (row["detail"] or {}).get(name) for name in detail} == detail
    if action == "job.disable":
        assert [(one["job_id"], one["success"]) for one in row["detail"]["results"]] == [
            ("quick_check_job", True), ("none", False)
        ]  # fmt: skip
    assert SECRET not in str(row)
    assert problem_of(client.get("/openapi.json").json(), method, known, 200, answer.json()) is None


def test_what_is_refused_or_only_read_leaves_no_row(client: Client) -> None:
    for method, path, body in (
        ("POST", "/api/v1/alerts/none/ack", {}), ("DELETE", "/api/v1/silences/none", None),
        ("POST", "/api/v1/silences", {}), ("POST", "/api/v1/checks/runs", {"type": "huge"}),
        ("PUT", "/api/monitoring/config/thresholds", {"max_pending_tasks": -1}),
        ("POST", "/api/v1/repair/plans/P1/approve", {"plan_hash": "other"}), ("POST", "/api/v1/repair/plans/none/reject", None),
        ("POST", "/api/v1/scheduler/jobs/none/trigger", None), ("GET", "/api/v1/alerts", None),
    ):  # fmt: skip
        answer = client.request(method, path, json=body)
        assert answer.status_code in ((200,) if method == "GET" else (400, 404, 409)), answer.text
    assert written(client) == []


def test_no_writing_route_is_left_out(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    writing = {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "get"}
    assert writing == {(row[0], row[1]) for row in WRITING} | NEEDS_A_SOURCE
