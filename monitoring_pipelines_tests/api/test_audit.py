"""Every route that changes something leaves who did what to what, and what came of it, in a chain nobody can mend."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from monitoring_pipelines.api.refusals import ACTIONS, MOST_PER_MINUTE
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
    assert [row["action"] for row in rows] == [action, *(["check.run.outcome"] if action == "check.run" else [])]
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


def test_of_an_id_longer_than_the_log_keeps_the_beginning_is_written_down(client: Client) -> None:
    """PostgreSQL and MySQL refuse a longer one: the job would have been started, and the answer an error."""
    name = "n" * 255
    rows = World(client.settings, client.clock)
    rows.job(name, source="sched")
    rows.publish()
    assert client.post(f"/api/v1/scheduler/jobs/{name}/trigger").status_code == 200
    assert [row["object"] for row in written(client)] == [name[: audit_log.c.object.type.length]]


def test_what_cannot_be_understood_or_is_only_read_leaves_no_row(client: Client) -> None:
    for method, path, body in (
        ("POST", "/api/v1/alerts/none/ack", {}), ("DELETE", "/api/v1/silences/none", None),
        ("POST", "/api/v1/silences", {}), ("POST", "/api/v1/checks/runs", {"type": "huge"}),
        ("PUT", "/api/monitoring/config/thresholds", {"max_pending_tasks": -1}),
        ("POST", "/api/v1/repair/plans/none/reject", None),
        ("POST", "/api/v1/scheduler/jobs/none/trigger", None), ("GET", "/api/v1/alerts", None),
    ):  # fmt: skip
        answer = client.request(method, path, json=body)
        assert answer.status_code in ((200,) if method == "GET" else (400, 404)), answer.text
    assert written(client) == []


def test_what_a_role_may_not_do_is_written_down_and_what_a_stranger_tries_is_not(
    client: Client, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setenv("VIEWER_TOKEN", "viewer-secret-1")
    tokens = [{"name": "vera", "token_env": "VIEWER_TOKEN", "roles": ["viewer"]}]
    hers = serve({"api": {"tokens": tokens}})
    for secret, status in (("viewer-secret-1", 403), ("guessed", 401)):
        hers.headers["Authorization"] = f"Bearer {secret}"
        for method, path, body, *_ in WRITING:
            known = path.format(alert_id="A1", silence_id="S1", plan_id="P1", job_id="nightly")
            assert hers.request(method, known, json=body).status_code == status, path
    rows = written(client)
    assert [row["action"] for row in rows] == ["job.batch" if row[3] == "job.disable" else row[3] for row in WRITING]
    assert {row["actor"] for row in rows} == {"vera"}
    assert all(row["detail"] == {"refused": "forbidden", "status": 403} for row in rows)
    assert [row["object"] for row in rows][:3] == ["A1", "A1", "/api/v1/silences"]


def test_without_tokens_nobody_fills_the_log_with_refusals(client: Client, serve: Serve) -> None:
    anybody = serve({})
    assert anybody.post("/api/v1/repair/plans/P1/approve", {"plan_hash": "h"}).status_code == 403
    assert written(client) == []


def test_what_cannot_be_done_as_things_stand_is_written_down_with_its_reason(client: Client) -> None:
    refused = client.post("/api/v1/repair/plans/P1/approve", {"plan_hash": "other"})
    assert refused.status_code == 409
    assert client.post("/api/v1/scheduler/jobs/apply_compensation_job/trigger").status_code == 409
    rows = [(row["action"], row["object"], row["detail"]) for row in written(client)]
    assert rows == [
        ("repair.approve", "P1", {"refused": refused.json()["reason"], "status": 409}),
        ("job.trigger", "apply_compensation_job", {"refused": "needs_plan", "status": 409}),
    ]


def test_refusals_of_one_caller_are_bounded_and_what_was_left_out_is_counted(client: Client) -> None:
    def refuse(times: int) -> None:
        for _ in range(times):
            assert client.post("/api/v1/repair/plans/P1/approve", {"plan_hash": "other"}).status_code == 409

    refuse(MOST_PER_MINUTE + 7)
    assert len(written(client)) == MOST_PER_MINUTE
    client.clock.advance(60)
    refuse(1)
    rows = written(client)
    assert len(rows) == MOST_PER_MINUTE + 1
    assert rows[-1]["detail"]["left_out"] == 7


def test_a_refusal_that_could_not_be_written_down_is_counted_by_the_next(client: Client) -> None:
    state = StateStore.of(client.settings)

    def refuse() -> None:
        assert client.post("/api/v1/repair/plans/P1/approve", {"plan_hash": "other"}).status_code == 409

    with state.begin() as con:
        con.execute(text("ALTER TABLE audit_log RENAME TO elsewhere"))
    refuse()
    refuse()
    with state.begin() as con:
        con.execute(text("ALTER TABLE elsewhere RENAME TO audit_log"))
    state.dispose()
    refuse()
    assert [row["detail"].get("left_out") for row in written(client)] == [2]


def test_a_check_leaves_that_it_was_asked_for_and_what_came_of_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.post("/api/v1/checks/runs", {"type": "quick", "hours_back": 2}).json()["data"]
    asked, outcome = written(client)
    assert asked["detail"] == {"type": "quick", "hours_back": 2, "run_id": answer["run_id"]}
    assert (outcome["action"], outcome["object"]) == ("check.run.outcome", "quick")
    assert outcome["detail"] == {"run_id": answer["run_id"], "status": answer["run_status"]}
    # A child that ends without a word: the log has what is known of it.
    monkeypatch.setattr("monitoring_pipelines.api.children.sys.executable", "/bin/false")
    assert client.post("/api/v1/checks/runs", {"type": "full"}).status_code == 503
    *_, asked, outcome = written(client)
    assert asked["action"] == "check.run"
    assert outcome["detail"] == {"run_id": asked["detail"]["run_id"], "error": "failed"}


def test_a_broken_configuration_is_no_mistake_of_the_caller_and_names_no_file(client: Client) -> None:
    file = client.settings.file
    assert file is not None
    file.write_text("version: 1\nsources: [{id: shop, preset: none}]\n", encoding="utf-8")
    for path, body in (
        ("/api/v1/checks/runs", {"type": "quick"}),
        ("/api/v1/repair/plans", {"source": "shop", "hours": 1}),
    ):
        answer = client.post(path, body)
        assert (answer.status_code, answer.json()["reason"]) == (503, "config"), answer.text
        assert file.name not in answer.text


def test_no_writing_route_is_left_out(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    writing = {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "get"}
    assert writing == {(row[0], row[1]) for row in WRITING} | NEEDS_A_SOURCE
    assert writing == set(ACTIONS)
