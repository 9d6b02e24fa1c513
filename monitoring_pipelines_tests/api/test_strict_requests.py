"""What cannot be meant is refused, and what others send along does no harm (S-005, S-102).

What belongs here: requests no program of ours would send. What does not: what is described (``test_openapi``).
"""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Client, Serve
from .stored import fill
from .world import World

SECRET = "the-secret-of-an-admin"


@pytest.fixture
def client(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("ADMIN_TOKEN", SECRET)
    client = serve({"api": {"tokens": [{"name": "anna", "token_env": "ADMIN_TOKEN", "roles": ["admin"]}]}})
    rows = World(client.settings, client.clock)
    rows.source()
    rows.publish()
    fill(client.settings, client.clock)
    return client


def asked(client: Client, method: str, path: str, body: bytes | None = None) -> Any:
    """The answer to an administrator."""
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    return client.request(method, path, data=body, headers=headers)


@pytest.mark.parametrize("name", ["a,b", "a@b", "a[b]", "a/b", "=", "mp_session;x"])
def test_cookies_of_others_with_odd_names_are_no_error_and_hide_no_token(client: Client, name: str) -> None:
    """Every service of a host gets the cookies of all; one that no reader takes must not stop this one."""
    alone = client.request("GET", "/api/v1/alerts", headers={"Cookie": f"{name}=c"})
    assert (alone.status_code, alone.json()["reason"]) == (401, "unauthorized")
    with_token = client.request("GET", "/api/v1/alerts", headers={"Cookie": f"{name}=c; mp_session={SECRET}; x@y=z"})
    assert with_token.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/api/v1/alerts/A1/ack", b'{"note": "seen", "note": "not seen"}', "body: 'note' is given more than once"),
        ("PUT", "/api/monitoring/config/thresholds", b'{"max_failed_rate": 0.1, "max_failed_rate": 0.9}',
         "body: 'max_failed_rate' is given more than once"),
        ("POST", "/api/v1/silences", b'{"matchers": [{"name": "type", "value": "x", "value": "y"}], "ends_at": "2026-02-12"}',
         "body: 'value' is given more than once"),
        ("POST", "/api/monitoring/test-alert", b'{"details": {"rate": NaN}}', "body: NaN is no number"),
        ("POST", "/api/monitoring/test-alert", b'{"details": {"rate": -Infinity}}', "body: -Infinity is no number"),
        ("POST", "/api/v1/alerts/A1/ack", b'{"note": ', "body: it is not valid JSON"),
        ("POST", "/api/v1/alerts/A1/ack", b'{"note": "\xff"}', "the request cannot be answered"),
        ("POST", "/api/v1/checks/runs", b'{"type": "quick", "source": "_self"}', "source: the product itself has no data to check"),
        ("POST", "/api/monitoring/data-consistency/check", b'{"source": "_self"}', "source: the product itself has no data to check"),
        ("GET", "/api/v1/alerts?source=", None, "source: no source ''"),
        ("GET", "/download/plans.csv?source=shp", None, "source: no source 'shp'; did you mean shop?"),
        ("GET", "/download/checks.csv?source=shp", None, "source: no source 'shp'; did you mean shop?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_name(
    client: Client, method: str, path: str, body: bytes | None, words: str
) -> None:
    answer = asked(client, method, path, body)
    assert answer.status_code == 400, answer.text
    found = answer.json()
    assert found.get("message", found.get("error")) == words
    alert = asked(client, "GET", "/api/v1/alerts/A1").json()["data"]["alert"]
    assert alert["acknowledged_at"] is None


def test_an_empty_type_is_no_type_and_not_every_one(client: Client) -> None:
    assert asked(client, "GET", "/api/v1/alerts").json()["data"]["total"] == 1
    assert asked(client, "GET", "/api/v1/alerts?type=").json()["data"]["total"] == 0


def test_a_file_of_the_items_of_a_class_that_is_none_is_refused(client: Client) -> None:
    for chosen, status in (("", 200), ("eligible", 200), ("eligble", 400)):
        answer = asked(client, "GET", f"/download/plan_items.csv?plan=P1&class={chosen}")
        assert answer.status_code == status, answer.text
