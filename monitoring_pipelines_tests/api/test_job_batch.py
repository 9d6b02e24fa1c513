"""Several jobs at once where sources have jobs of the same id (S-104, S-426).

What belongs here: which job is meant. What does not: what starting a job does (``test_trigger_hook``).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring_pipelines_tests.support.described import problem_of
from monitoring_pipelines_tests.support.receiver import Receiver

from .conftest import Client, Serve, data
from .world import World

PATH = "/api/v1/scheduler/jobs/batch"
OWN = "quick_check_job"
SECRET = "the-secret-of-an-admin"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """What the hooks of both sources call."""
    with Receiver(None, lambda _: (200, b'{"run_id": "r-7"}', {})) as started:  # type: ignore[arg-type]
        yield started


@pytest.fixture
def client(serve: Serve, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Two sources have a job ``nightly``, one also a job that is called as one of the product's own."""
    monkeypatch.setenv("ADMIN_TOKEN", SECRET)
    monkeypatch.setenv("HOOK_URL", f"{receiver.url}/x")
    source = {
        "preset": "scheduler",
        "read_dsn_env": "SHOP_DSN",
        "trigger_hook": {"url_env": "HOOK_URL", "timeout_s": 5},
    }
    client = serve({
        "sources": [{"id": "east", **source}, {"id": "west", **source}],
        "api": {"tokens": [{"name": "anna", "token_env": "ADMIN_TOKEN", "roles": ["admin"]}]},
    })  # fmt: skip
    receiver.clock = client.clock
    client.headers["Authorization"] = f"Bearer {SECRET}"
    rows = World(client.settings, client.clock)
    for name in ("east", "west"):
        rows.source(name)
        rows.job("nightly", source=name)
    rows.job(OWN, source="east")
    rows.publish()
    return client


def results(client: Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each job; the answer is as the document says."""
    answer = client.post(PATH, body)
    assert answer.status_code == 200, answer.text
    assert problem_of(client.get("/openapi.json").json(), "POST", PATH, 200, answer.json()) is None
    return answer.json()["data"]["results"]


def switched_off(client: Client) -> list[tuple[str, str]]:
    """Source and id of the jobs that are disabled."""
    found = data(client, "/api/v1/scheduler/jobs", scope="all")["jobs"]
    return [(row["source_id"], row["id"]) for row in found if row["enabled"] is False]


def test_an_id_that_several_sources_have_is_not_acted_upon_without_its_source(
    client: Client, receiver: Receiver
) -> None:
    (started,) = results(client, {"action": "trigger", "job_ids": ["nightly"]})
    assert (started["success"], started["status"], started["reason"]) == (False, 400, "ambiguous_source")
    assert "east, west" in started["message"]
    assert receiver.requests == []
    ambiguous, switched = results(client, {"action": "disable", "job_ids": [OWN, "full_check_job"]})
    assert (ambiguous["success"], ambiguous["reason"]) == (False, "ambiguous_source")
    assert switched == {"job_id": "full_check_job", "source_id": "_self", "success": True}
    assert switched_off(client) == [("_self", "full_check_job")]


def test_the_job_of_the_named_source_is_meant(client: Client, receiver: Receiver) -> None:
    assert results(client, {"action": "trigger", "job_ids": ["nightly"], "source": "west"}) == [
        {"job_id": "nightly", "source_id": "west", "success": True, "run_id": "r-7"}
    ]
    assert [(one.json["source"], one.json["job_id"]) for one in receiver.requests] == [("west", "nightly")]
    theirs = results(client, {"action": "disable", "job_ids": [OWN, "none"], "source": "east"})
    assert [(one["source_id"], one["reason"]) for one in theirs] == [("east", "not_triggerable"), ("east", None)]
    assert switched_off(client) == []
    (mine,) = results(client, {"action": "disable", "job_ids": [OWN], "source": "_self"})
    assert mine["source_id"] == "_self"
    assert switched_off(client) == [("_self", OWN)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"source": "wst"}, "source: no source 'wst'; did you mean west?"),
        ({"source": 7}, "source: "), ({"source": ""}, "source: no source ''"),
        ({"job_ids": ["nightly", "other", "nightly"]}, "job_ids: 'nightly' is given more than once"),
        ({"job_ids": ["nightly", "a\0"]}, "job_ids.1: String should match pattern"),
    ],
)  # fmt: skip
def test_a_source_that_is_none_and_jobs_given_twice_or_not_storable_are_refused(
    client: Client, receiver: Receiver, more: dict[str, Any], words: str
) -> None:
    answer = client.post(PATH, {"action": "trigger", "job_ids": ["nightly"], "source": "west"} | more)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(words)
    assert receiver.requests == []


def test_one_job_of_a_source_that_is_none_is_a_bad_parameter_and_not_an_unknown_job(client: Client) -> None:
    for method, path in (("POST", "trigger"), ("GET", "runs")):
        answer = client.request(method, f"/api/v1/scheduler/jobs/nightly/{path}?source=wst")
        assert (answer.status_code, answer.json()["message"]) == (400, "source: no source 'wst'; did you mean west?")


def test_boxes_and_buttons_of_the_page_name_the_source_of_their_job(client: Client) -> None:
    page = client.get("/scheduler-monitoring?scope=all&page_size=500").text
    picks = re.findall(r'data-pick="([^"]+)"', page)
    assert {"east/nightly", "west/nightly", f"east/{OWN}", f"_self/{OWN}"} <= set(picks)
    assert len(set(picks)) == len(picks)
    names = re.findall(r'data-pick="[^"]+" aria-label="([^"]+)"', page)
    assert len(set(names)) == len(names), "each box has a name of its own"
    bodies = [json.loads(html.unescape(text)) for text in re.findall(r'data-body="([^"]+)"', page)]
    single = [body for body in bodies if "job_ids" in body]
    assert single
    assert all(body["source"] == "_self" for body in single)
