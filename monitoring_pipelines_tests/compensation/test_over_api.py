"""Repair over the JSON API as its users have it: tokens, roles, answers at once, refusals with their word (S-002, S-260).

What belongs here: the way through the server and its processes. What does not: what is written (``test_apply``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from monitoring_pipelines.cli.serve import make_server
from monitoring_pipelines.clock import NOW_VARIABLE
from monitoring_pipelines.pipeline import Pipeline, tick
from monitoring_pipelines.state import audit
from monitoring_pipelines.state.tables import audit_log
from monitoring_pipelines_tests.compensation.platform import NOW, Shop
from monitoring_pipelines_tests.support.described import problem_of

REPAIR = "/api/v1/repair"
TOKENS = {"viewer": "viewer-secret-1", "operator": "operator-secret-2", "admin": "admin-secret-3"}
HEAD = "api:\n  tokens:\n" + "".join(
    f"    - {{name: {role}-name, token_env: TOKEN_{role.upper()}, roles: [{role}]}}\n" for role in TOKENS
)


@dataclass
class Api:
    """Requests to the server of one shop; every success is as the server's document describes it."""

    url: str

    def asked(self, role: str, method: str, path: str, body: Any = None) -> requests.Response:
        session = requests.Session()
        session.trust_env = False
        headers = {"Authorization": f"Bearer {TOKENS[role]}"}
        return session.request(method, self.url + path, json=body, headers=headers, timeout=120)

    @cached_property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = self.asked("viewer", "GET", "/openapi.json").json()
        return document

    def __call__(self, role: str, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        answer = self.asked(role, method, REPAIR + path, body)
        if answer.status_code < 300:
            known = REPAIR + path.partition("?")[0]
            assert problem_of(self.document, method, known, answer.status_code, answer.json()) is None
        if status is not None:
            assert answer.status_code == status, (path, answer.status_code, answer.text)
            return answer.json()["data"] if status < 400 else answer.json()["message"]
        return answer

    def until(self, path: str, *states: str) -> dict[str, Any]:
        """The object once its state is one of ``states``."""
        deadline = time.monotonic() + 120
        while True:
            answer = self("viewer", "GET", path)
            found = answer.json()["data"] if answer.status_code == 200 else {"state": "starting"}
            if found["state"] in states:
                return found
            assert found["state"] in ("starting", "building", "running"), found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@pytest.fixture
def served(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for role, secret in TOKENS.items():
        monkeypatch.setenv(f"TOKEN_{role.upper()}", secret)
    monkeypatch.setenv(NOW_VARIABLE, f"{NOW.isoformat()}Z")
    shop.configure(head=HEAD)
    server = make_server(shop.settings, shop.clock, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield Api(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    server.should_exit = True
    thread.join(timeout=20)


def test_a_repair_from_the_page_is_verified_read_again_and_reported_like_any_other(shop: Shop, served: Api) -> None:
    """R-412, R-601, R-910: its rows count as a repair's at once, and after a rollback no longer."""

    def origins() -> list[tuple[Any, ...]]:
        with Pipeline.of(shop.settings, shop.clock).warehouse.reader("test") as con:
            query = "SELECT task_key, origin FROM raw.task_output ORDER BY task_key"
            return con.execute(query).fetchall()

    def followed(begun: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while not served.until(f"/runs/{begun['run_id']}", "finished")["report_path"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return served("viewer", "GET", f"/runs/{begun['run_id']}", status=200)

    for key in ("a", "b"):
        shop.task(key)
    shop.output("b")
    tick(Pipeline.of(shop.settings, shop.clock))
    assert origins() == [("b", "app")]
    plan = served("operator", "POST", "/plans", {"source": "shop", "hours": 12}, 200)
    path = f"/plans/{plan['plan_id']}"
    served("admin", "POST", f"{path}/approve", {"plan_hash": plan["plan_hash"]}, 200)
    run = followed(served("admin", "POST", f"{path}/apply", None, 202))
    assert run["verification"]["result"] == "verified"
    assert Path(run["report_path"]).read_text(encoding="utf-8")
    assert origins() == [("a", "repair"), ("b", "app")]

    assert followed(served("operator", "POST", f"/runs/{run['run_id']}/verify", None, 202))["kind"] == "verify"
    followed(served("admin", "POST", f"/runs/{run['run_id']}/rollback", {}, 202))
    assert origins() == [("a", "app"), ("b", "app")]  # the next full check finds that it is gone (E-609)


def test_a_plan_asked_for_with_async_is_202_and_can_be_asked_for_at_once(shop: Shop, served: Api) -> None:
    """S-102: the id of the answer is the id of the plan."""
    shop.task("a")
    begun = served("operator", "POST", "/plans?async=true", {"source": "shop", "hours": 12}, 202)
    assert set(begun) == {"plan_id", "state"}
    assert begun["state"] == "building"
    served("viewer", "GET", f"/plans/{begun['plan_id']}", status=200)
    plan = served.until(f"/plans/{begun['plan_id']}", "ready")
    assert (plan["counters"]["eligible"], plan["created_by"]) == (1, "operator-name")
    assert served("viewer", "GET", "/plans", status=200)["total"] == 1


def test_a_plan_that_cannot_begin_is_refused_with_async_as_without(shop: Shop, served: Api) -> None:
    shop.configure(head=HEAD, source="strict_readonly: true")  # the account of this test may write
    for query in ("", "?async=true"):
        answer = served("operator", "POST", f"/plans{query}", {"source": "shop", "hours": 12})
        assert answer.status_code == 409, answer.text
        assert answer.json()["message"].startswith("plan: ")
    assert served("viewer", "GET", "/plans", status=200)["total"] == 0
    assert served("operator", "POST", "/plans?async=1", {"source": "shop", "hours": 12}).status_code == 400


def test_each_step_of_a_repair_needs_its_role_and_says_what_is_in_its_way(shop: Shop, served: Api) -> None:
    for key in ("a", "b"):
        shop.task(key)
    body = {"source": "shop", "hours": 12}
    served("viewer", "POST", "/plans", body, 403)
    plan = served("operator", "POST", "/plans", body, 200)
    path = f"/plans/{plan['plan_id']}"
    served("operator", "POST", f"{path}/approve", {"plan_hash": plan["plan_hash"]}, 403)
    assert served("admin", "POST", f"{path}/apply", None, 409) == "apply: not_approved"
    assert served("admin", "POST", f"{path}/approve", {"plan_hash": "0" * 64}, 409).startswith("approve: ")
    approved = served("admin", "POST", f"{path}/approve", {"plan_hash": plan["plan_hash"]}, 200)
    assert approved["approval"]["approver"] == "admin-name"
    served("operator", "POST", f"{path}/apply", None, 403)
    assert shop.rows() == []

    run = served("admin", "POST", f"{path}/apply", None, 202)["run_id"]
    assert served.until(f"/runs/{run}", "finished")["counters"]["rows_inserted"] == 2
    assert len(shop.rows()) == 2
    again = served("admin", "POST", f"{path}/apply", None, 202)["run_id"]  # it finds nothing left to do
    assert served.until(f"/runs/{again}", "finished")["counters"]["rows_inserted"] == 0
    served("admin", "POST", f"{path}/reject", {}, 409)

    served("operator", "POST", f"/runs/{run}/rollback", {"dry_run": False}, 403)
    dry = served("operator", "POST", f"/runs/{run}/rollback", {"dry_run": True}, 202)["run_id"]
    served.until(f"/runs/{dry}", "finished")
    assert len(shop.rows()) == 2
    back = served("admin", "POST", f"/runs/{run}/rollback", {}, 202)["run_id"]
    served.until(f"/runs/{back}", "finished")
    assert shop.rows() == []
    for unknown in ("/plans/nope", "/runs/nope", "/runs/nope/journal"):
        served("viewer", "GET", unknown, status=404)


def test_each_step_of_a_repair_is_in_the_audit_log_with_who_what_and_on_what(shop: Shop, served: Api) -> None:
    """S-260: the name of the token, the step, and the id the API answers with; what is refused says why, what is read leaves none."""

    def plan_of(role: str) -> tuple[str, str]:
        plan = served(role, "POST", "/plans", {"source": "shop", "hours": 12}, 200)
        return plan["plan_id"], plan["plan_hash"]

    def ended(role: str, path: str, body: Any = None, state: str = "finished") -> str:
        run: str = served(role, "POST", path, body, 202)["run_id"]
        served.until(f"/runs/{run}", state)
        return run

    shop.task("a")
    refused, _ = plan_of("operator")
    served("operator", "POST", f"/plans/{refused}/reject", {}, 403)
    served("admin", "POST", f"/plans/{refused}/reject", {"note": "later"}, 200)
    plan, digest = plan_of("operator")
    served("admin", "POST", f"/plans/{plan}/approve", {"plan_hash": "0" * 64}, 409)
    served("admin", "POST", f"/plans/{plan}/approve", {"plan_hash": digest, "note": "good"}, 200)
    pause = shop.settings.data_path / "repair-shop.pause"
    pause.touch()
    applied = ended("admin", f"/plans/{plan}/apply", state="paused")
    pause.unlink()
    resumed = ended("admin", f"/runs/{applied}/resume")
    verified = ended("operator", f"/runs/{resumed}/verify")
    previewed = ended("operator", f"/runs/{resumed}/rollback", {"dry_run": True})
    undone = ended("admin", f"/runs/{resumed}/rollback", {})

    with shop.state.read() as con:
        rows = list(con.execute(select(audit_log).order_by(audit_log.c.seq)).mappings())
        assert audit.first_broken(con) is None
    steps = [
        ("operator-name", "repair.plan", refused, {"state": "ready", "rows_planned": 1}),
        ("operator-name", "repair.reject", refused, {"refused": "forbidden", "status": 403}),
        ("admin-name", "repair.reject", refused, {"note": "later"}),
        ("operator-name", "repair.plan", plan, {"state": "ready", "plan_hash": digest}),
        ("admin-name", "repair.approve", plan, {"refused": "hash_differs", "status": 409}),
        ("admin-name", "repair.approve", plan, {"plan_hash": digest, "note": "good"}),
        ("admin-name", "repair.apply", applied, {"plan_id": plan}),
        ("admin-name", "repair.apply.paused", applied, {}),
        ("admin-name", "repair.resume", resumed, {"plan_id": plan}),
        ("admin-name", "repair.resume.finished", resumed, {"reason": None}),
        ("operator-name", "repair.verify", verified, {"of": resumed}),
        ("operator-name", "repair.rollback", previewed, {"plan_id": plan, "dry_run": True}),
        ("operator-name", "repair.rollback.finished", previewed, {}),
        ("admin-name", "repair.rollback", undone, {"plan_id": plan, "dry_run": False}),
        ("admin-name", "repair.rollback.finished", undone, {}),
    ]
    assert [(row["actor"], row["action"], row["object"]) for row in rows] == [step[:3] for step in steps]
    for row, step in zip(rows, steps, strict=True):
        assert {name: row["detail"][name] for name in step[3]} == step[3], row["action"]
        assert not any(secret in str(dict(row)) for secret in TOKENS.values())
