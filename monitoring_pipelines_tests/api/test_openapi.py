"""A property-based tester finds no fault between ``/openapi.json`` and what the server answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import positive_data_acceptance

from monitoring_pipelines.api.answers import v1_body
from monitoring_pipelines.quality.files import run_dict
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines_tests.support.described import problem_of

from .conftest import Client, Serve
from .stored import KNOWN, fill
from .world import World

#: Requests per operation; the checks of schemathesis all apply.
EXAMPLES = 6
#: Requests to operations that start a process of their own, which takes seconds, and of callers whose rights are what is asked.
FEW_EXAMPLES = 2
_STARTS_A_PROCESS = (
    "/checks/runs",
    "/data-consistency/check",
    "/repair/plans",
    "/apply",
    "/resume",
    "/verify",
    "/rollback",
)
#: Who asks, and the strongest role that has (S-002); without tokens everybody on this machine may what an operator may (S-004).
CALLERS = {"nobody": "operator", "viewer": "viewer", "operator": "operator", "admin": "admin"}
_ROLES = ("viewer", "operator", "admin")
#: Changing anything needs an operator; these need an admin (S-002).
ADMINS = {
    "PUT /api/monitoring/config/thresholds",
    *(f"POST /api/v1/repair/plans/{{plan_id}}/{verb}" for verb in ("approve", "reject", "apply")),
    "POST /api/v1/repair/runs/{run_id}/resume",
}
#: An operator may trigger jobs here and switch none, and look at what a rollback would do.
FOR_BOTH = {"POST /api/v1/scheduler/jobs/batch", "POST /api/v1/repair/runs/{run_id}/rollback"}
#: Statuses that say nothing about what is done with a request.
_TURNED_AWAY = {400, 401, 403, 404, 405}
#: What a path is asked besides its plain form, so that every part of its answer is there.
_SOURCE = ("?source=shop",)
QUERIES = {
    "/api/v1/overview": ("", "?source=_self"),
    "/api/v1/endpoints/{endpoint}/stats": (
        "?granularity=minute", "?granularity=hour", "?granularity=day&fill=true", "?granularity=hour&fill=true",
    ),
    "/api/v1/completeness": ("?granularity=hour", "?granularity=day"),
    "/api/v1/completeness/tasks": tuple(f"?kind={kind}" for kind in ("with_output", "settling", "duplicates")),
    "/api/v1/completeness/split": ("", "?date=2026-02-11"),
    "/api/v1/scheduler/jobs/{job_id}/runs": ("",),
    "/api/monitor/stats": _SOURCE, "/api/task/status/{task_id}": _SOURCE,
} | {f"/api/v1/scheduler/{name}": ("", "?scope=all", "?scope=self") for name in ("status", "jobs", "metrics", "configs")}  # fmt: skip
#: Operations that start something, and what they say when it is done at once (200) or goes on (202); others say 200.
STARTING = {
    "post /api/v1/checks/runs": {"200", "202"},
    "post /api/monitoring/data-consistency/check": {"200", "202"},
    "post /api/v1/repair/plans": {"200", "202"},
    "post /api/v1/repair/plans/{plan_id}/apply": {"202"},
    "post /api/v1/repair/runs/{run_id}/resume": {"202"},
    "post /api/v1/repair/runs/{run_id}/verify": {"202"},
    "post /api/v1/repair/runs/{run_id}/rollback": {"202"},
}
TEXTS = {"get /metrics", "get /api/v1/scheduler/metrics/prometheus"}
SECRET = "a-secret-of-one"


@pytest.fixture(params=["admin"])
def client(request: pytest.FixtureRequest, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Of a server without tokens, where changing anything grave is 403, or of one where the caller has one role."""
    document: dict[str, Any] = {
        "sources": [
            {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"},
            {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
        ],
    }
    if request.param != "nobody":
        monkeypatch.setenv("ITS_TOKEN", SECRET)
        document["api"] = {"tokens": [{"name": "anna", "token_env": "ITS_TOKEN", "roles": [request.param]}]}
    client = serve(document)
    if request.param != "nobody":
        client.headers["Authorization"] = f"Bearer {SECRET}"
    rows = World(client.settings, client.clock)
    rows.source()
    rows.source("sched")
    rows.job("nightly", "Reports", source="sched")
    for n in range(5):
        rows.task(f"t{n}", ago=n * timedelta(hours=1), outputs=n % 2)
        rows.job_run("nightly", "success", 5, source="sched")
    rows.task("running", "running", ago=timedelta(minutes=5), outputs=0)
    rows.minute("e", client.clock.now() - timedelta(minutes=1))
    rows.hour("e", client.clock.now() - timedelta(hours=1))
    rows.sample("collector", client.clock.now() - timedelta(minutes=1))
    rows.publish()
    fill(client.settings, client.clock)
    return client


@pytest.mark.parametrize(("client", "caller"), [(one, one) for one in CALLERS], indirect=["client"])
def test_the_document_describes_every_answer_to_everybody(client: Client, caller: str) -> None:
    """No role gets a server error or an answer of another shape, and none does what needs a stronger one."""
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = client.url
    failed: list[str] = []
    answered: dict[str, Counter[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        name = f"{operation.method.upper()} {operation.path}"
        answered[name] = Counter()
        slow = operation.method == "post" and operation.path.endswith(_STARTS_A_PROCESS)
        brief = caller in ("viewer", "operator")

        @settings(
            max_examples=FEW_EXAMPLES if slow or brief else EXAMPLES, deadline=None, database=None, derandomize=True,
            phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=cases_of(operation, good_only=brief))
        def one(case: schemathesis.Case) -> None:
            answer = case.call(headers=client.headers, timeout=120)
            # S-102: the source's address leads nowhere here, and there is no Dagster.
            is_away = answer.status_code == 503 and operation_needs_more(case)
            case.validate_response(
                answer, excluded_checks=[*left_out_of(case), *([not_a_server_error] if is_away else [])]
            )
            answered[f"{case.method.upper()} {case.operation.path}"][answer.status_code] += 1

        try:
            one()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed.append(f"{name}: {error}"[:1500])
    assert not failed, "\n\n".join(failed)
    assert sorted(answered) == sorted(
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    )
    if caller == "admin":
        assert not {name: dict(seen) for name, seen in answered.items() if not set(seen) - _TURNED_AWAY}
    wrong = {name: dict(seen) for name, seen in answered.items() if not rights_are_kept(name, CALLERS[caller], seen)}
    assert not wrong


def test_every_success_of_every_method_has_a_shape(client: Client) -> None:
    document = client.get("/openapi.json").json()
    starting, texts = {}, set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            successes = {status: one for status, one in operation["responses"].items() if status.startswith("2")}
            if set(successes) != {"200"}:
                starting[f"{method} {path}"] = set(successes)
            for status, one in successes.items():
                if "application/json" not in one["content"]:
                    texts.add(f"{method} {path}")
                    continue
                schema = one["content"]["application/json"]["schema"]
                if path.startswith(("/api/v1/", "/api/monitoring")):
                    schema = schema["properties"]["data"]
                assert schema.keys() == {"$ref"}, (method, path, status)
    assert (starting, texts) == (STARTING, TEXTS)


def test_every_field_of_every_answer_to_get_is_described_and_every_described_one_is_there(client: Client) -> None:
    """Shapes are closed, so a field that nobody described is found as well as one that is missing or of another type."""
    document = client.get("/openapi.json").json()
    seen = []
    for path, methods in document["paths"].items():
        described = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" not in described:
            continue
        for query in QUERIES.get(path, ("",)):
            known = re.sub(r"{(\w+)}", lambda found: KNOWN[found[1]], path)
            answer = client.get(known + query)
            assert answer.status_code == 200, (path, answer.text)
            assert problem_of(document, "GET", known, 200, answer.json()) is None, query
        seen.append(f"get {path}")
    assert {f"get {path}" for path, methods in document["paths"].items() if "get" in methods} - set(seen) == TEXTS


def test_the_answer_to_a_check_with_findings_is_described(client: Client) -> None:
    """The source leads nowhere here, so a check that is started finds nothing; this one is stored."""
    state = StateStore.of(client.settings)
    run = checks.load(state, "R1")
    state.dispose()
    assert run is not None
    assert run.findings
    answer = json.loads(v1_body(run_dict(client.settings, run), None))
    assert answer["data"]["metrics"]["shop"]["missing_outputs"]["missing_count"] == 3
    document = client.get("/openapi.json").json()
    assert problem_of(document, "POST", "/api/v1/checks/runs", 200, answer) is None


def test_there_is_no_shape_that_no_answer_has(client: Client) -> None:
    document = client.get("/openapi.json").json()
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == set(document["components"]["schemas"])


def rights_are_kept(operation: str, role: str, answered: Counter[int]) -> bool:
    """Whether who may not is told so whenever the request can be read, and who may never is (S-003)."""
    method = operation.partition(" ")[0]
    needed = "viewer" if method == "GET" else "admin" if operation in ADMINS else "operator"
    if _ROLES.index(role) < _ROLES.index(needed):
        return 403 in answered and set(answered) <= _TURNED_AWAY
    return 403 not in answered or (operation in FOR_BOTH and role == "operator")


def operation_needs_more(case: schemathesis.Case) -> bool:
    """Whether the operation needs the source's database or Dagster, neither of which is there."""
    return case.method.upper() == "POST" and case.operation.path.endswith((*_STARTS_A_PROCESS, "/trigger"))


def left_out_of(case: schemathesis.Case) -> list[Any]:
    """That one time is before another (S-104) or one field not beside another (S-411) cannot be said in OpenAPI; it is 400."""
    timed = {"from", "to", "date", "at"} & set(case.query or ()) or case.path.endswith(("/silences", "/repair/plans"))
    body = case.body if isinstance(case.body, dict) else {}
    is_deep = body.get("type") == "deep" and body.get("hours_back") is not None
    return [positive_data_acceptance] if timed or is_deep else []


def cases_of(operation: Any, *, good_only: bool) -> strategies.SearchStrategy[schemathesis.Case]:
    """Requests that follow the document, most of them about an object that is there, and requests that do not."""
    modes = schemathesis.GenerationMode
    good = operation.as_strategy(generation_mode=modes.POSITIVE)
    if good_only:
        return good.map(about_what_is_there)
    bad = operation.as_strategy(generation_mode=modes.NEGATIVE)
    return strategies.one_of(good.map(about_what_is_there), good, bad)


def about_what_is_there(case: schemathesis.Case) -> schemathesis.Case:
    """The same request about an object of the store."""
    for name in case.path_parameters or ():
        case.path_parameters[name] = KNOWN[name]
    if case.path.endswith("/approve") and case.body is not NOT_SET:
        case.body["plan_hash"] = "h"
    if case.path.endswith("/jobs/batch"):
        case.body["job_ids"] = [KNOWN["job_id"]]
    if case.path.endswith("/silences") and case.body is not NOT_SET:
        case.body |= {
            "starts_at": None,
            "ends_at": "2026-02-11T09:00:00Z",
            "matchers": [{"name": "type", "value": "x"}],
        }
    if case.path.endswith("/repair/plans") and case.body is not NOT_SET:
        case.body = {"source": case.body["source"], "hours": 3}
    return case
