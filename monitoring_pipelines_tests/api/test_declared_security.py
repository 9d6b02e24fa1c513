"""What ``/openapi.json`` says about tokens and roles is what the server asks for (S-002 to S-004)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Client, Serve

ROLES = ("viewer", "operator", "admin")
TOKENS = {
    "api": {"tokens": [{"name": role, "token_env": f"{role.upper()}_TOKEN", "roles": [role]} for role in ROLES]},
}
EITHER: list[dict[str, list[str]]] = [{"token": []}, {"cookie": []}]
OPEN = {"GET /health/live", "GET /api/v1/health/live"}
#: Of operations whose body decides: one that needs the weaker role and one that needs the stronger.
BODIES = {
    "POST /api/v1/scheduler/jobs/batch": (
        {"action": "trigger", "job_ids": ["none"]}, {"action": "disable", "job_ids": ["none"]},
    ),
    "POST /api/v1/repair/runs/{run_id}/rollback": ({"dry_run": True}, {"dry_run": False}),
}  # fmt: skip


@pytest.fixture
def guarded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A server with a token of each role."""
    for role in ROLES:
        monkeypatch.setenv(f"{role.upper()}_TOKEN", secret(role))
    return serve(TOKENS)


def secret(role: str) -> str:
    """The token of a role."""
    return f"the-secret-of-{role}"


def operations(client: Client, **headers: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and description of every operation."""
    document = client.request("GET", "/openapi.json", headers=headers).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def status(client: Client, name: str, body: Any = None, **headers: str) -> int:
    """What an operation answers about objects that are not there; the body without another being given is of no use either."""
    method, path = name.split()
    asked = re.sub(r"{\w+}", "none", path)
    more = {} if method in ("GET", "DELETE") else {"json": {"none": 1} if body is None else body}
    return client.request(method, asked, headers=headers, **more).status_code


def bearer(role: str) -> dict[str, str]:
    """The header with the token of a role."""
    return {"Authorization": f"Bearer {secret(role)}"}


def test_where_a_token_is_asked_for_the_document_says_so_and_nowhere_else(guarded: Client) -> None:
    seen = dict(operations(guarded, **bearer("viewer")))
    assert {name for name in seen if status(guarded, name) != 401} == OPEN
    for name, operation in seen.items():
        assert operation["security"] == ([] if name in OPEN else EITHER), name
        assert ("401" in operation["responses"]) == (name not in OPEN), name


def test_each_of_the_declared_schemes_opens_every_path(guarded: Client) -> None:
    document = guarded.request("GET", "/openapi.json", headers=bearer("viewer")).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    cookie = {"Cookie": f"{schemes['cookie']['name']}={secret('admin')}"}
    assert schemes["cookie"]["in"] == "cookie"
    for name, _ in operations(guarded, **bearer("viewer")):
        assert status(guarded, name, **bearer("admin")) not in (401, 403), name
        assert status(guarded, name, **cookie) not in (401, 403), name
        assert (status(guarded, name, Cookie=f"{schemes['cookie']['name']}=wrong") == 401) == (name not in OPEN)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_what_the_document_says_and_no_more(guarded: Client, role: str) -> None:
    two = set()
    for name, operation in operations(guarded, **bearer(role)):
        if name in OPEN:
            assert "x-role" not in operation
            continue
        usual, at_times = operation["x-role"], operation.get("x-role-at-times", operation["x-role"])
        for needed, body in zip((usual, at_times), BODIES.get(name, (None, None)), strict=True):
            is_refused = status(guarded, name, body, **bearer(role)) == 403
            assert is_refused == (ROLES.index(role) < ROLES.index(needed)), (name, needed)
        two |= {name} if at_times != usual else set()
        assert "403" in operation["responses"]
    assert two == set(BODIES)


def test_a_server_without_tokens_says_what_it_does_all_the_same(serve: Serve) -> None:
    client = serve()
    for name, operation in operations(client):
        answers = {status(client, name, body) for body in BODIES.get(name, (None,))}
        assert 401 not in answers
        assert "401" not in operation["responses"]
        if answers == {403}:
            assert operation["security"] == EITHER, name
        elif 403 in answers:
            assert operation["security"] == [{}, *EITHER], name
        else:
            assert operation["security"] == [], name
