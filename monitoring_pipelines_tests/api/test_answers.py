"""What the paths answer, from rows that are in the store (S-210 to S-428)."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from monitoring_pipelines.published import jobs
from monitoring_pipelines_tests.support.described import problem_of

from .conftest import Client, Serve, data, with_world
from .world import World

HOUR = timedelta(hours=1)
SCHEDULER = {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"}
SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}


@pytest.fixture
def world(serve: Serve) -> tuple[Client, World]:
    return with_world(serve, [SHOP | {"slots": {"limit": 5}}, SCHEDULER])


def test_before_the_first_publication_answers_are_503_and_lists_of_sources_say_unknown(serve: Serve) -> None:
    client = serve()
    assert client.get("/api/v1/tasks").status_code == 503
    rows = data(client, "/api/v1/sources")
    assert [(row["id"], row["last_success_at"], row["lag_s"], row["health"]) for row in rows] == [
        ("shop", None, None, "unknown")
    ]
    assert data(client, "/api/v1/overview")["health"] == "unknown"


def test_tasks_have_true_totals_on_every_page_whatever_the_filter(world: tuple[Client, World]) -> None:
    client, rows = world
    for n in range(7):
        rows.task(f"s{n}", ago=n * HOUR, outputs=n % 2)
    rows.task("f", "failed", outputs=0)
    rows.task("r", "running", outputs=0)
    rows.task("gone", deleted=True)
    rows.publish()
    first = data(client, "/api/v1/tasks", page_size=4)
    assert (first["total"], first["pages"], len(first["items"])) == (9, 3, 4)
    keys = [
        task["task_key"]
        for page in (1, 2, 3)
        for task in data(client, "/api/v1/tasks", page_size=4, page=page)["items"]
    ]
    assert sorted(keys) == sorted([*(f"s{n}" for n in range(7)), "f", "r"])
    assert keys.index("s0") < keys.index("s3") < keys.index("s6")
    assert data(client, "/api/v1/tasks", status="succeeded,FAILED")["total"] == 8
    assert data(client, "/api/v1/tasks", has_output="false")["total"] == 6
    assert data(client, "/api/v1/tasks", q="S", page_size=1)["total"] == 7
    start = (client.clock.now() - timedelta(hours=2, minutes=30)).isoformat() + "Z"
    assert data(client, "/api/v1/tasks", from_=start)["total"] == 5
    assert data(client, "/api/v1/tasks", page=99)["items"] == []
    rows.task("later", ago=timedelta(0))
    rows.publish()
    assert data(client, "/api/v1/tasks", q="S")["total"] == 7
    assert data(client, "/api/v1/tasks")["total"] == 10


def test_a_task_shows_its_attempts_and_outputs_and_an_unknown_one_is_404(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.task("one", outputs=2)
    rows.publish()
    found = data(client, "/api/v1/tasks/one")
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["completed"]
    assert len(found["outputs"]) == 2
    assert [line["what"] for line in data(client, "/api/v1/tasks/one/timeline")["timeline"]][-1] == "ended"
    assert client.get("/api/v1/tasks/ONE").status_code == 404


def test_a_key_of_two_sources_is_ambiguous_until_one_is_named(serve: Serve) -> None:
    client = serve({"sources": [SHOP, {"id": "other", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}]})
    rows = World(client.settings, client.clock)
    for source in ("shop", "other"):
        rows.source(source)
        rows.task("k", source=source)
    rows.publish()
    answer = client.get("/api/v1/tasks/k")
    assert (answer.status_code, answer.json()["reason"]) == (400, "ambiguous_source")
    assert data(client, "/api/v1/tasks/k", source="other")["task"]["source_id"] == "other"


def test_the_example_of_the_task_monitor_64_tasks(world: tuple[Client, World]) -> None:
    """54 completed, 5 failed, 1 timeout, 4 active: 84.4 on the compatible path, 90.00 unified."""
    client, rows = world
    for n in range(54):
        rows.task(f"c{n}")
    for n in range(5):
        rows.task(f"f{n}", "failed", outputs=0)
    rows.task("t", "timed_out", outputs=0)
    for n in range(4):
        rows.task(f"r{n}", "running", outputs=0)
    rows.publish()
    found = client.get("/api/monitor/stats").json()
    assert (found["total_tasks"], found["tasks_completed"], found["tasks_failed"], found["tasks_timeout"]) == (
        64,
        54,
        5,
        1,
    )
    assert (found["success_rate"], found["avg_duration"], found["active_tasks"]) == (84.4, 10.0, 4)
    assert (found["max_concurrent"], found["in_use"], found["available"], found["leaked"]) == (5, 4, 1, 1)
    assert data(client, "/api/v1/task-counters")["combined"]["success_rate"] == 90.0
    status = client.get("/api/task/status/c0").json()
    assert (status["status"], status["duration"], status["filename"]) == ("completed", 10.0, "f0")
    assert set(client.get("/api/task/status/none").json()) == {"error", "request_id"}


def test_without_any_task_rates_are_null_on_unified_paths_and_zero_on_the_compatible_one(
    world: tuple[Client, World],
) -> None:
    client, rows = world
    rows.publish()
    assert client.get("/api/monitor/stats").json()["success_rate"] == 0
    assert data(client, "/api/v1/task-counters")["combined"]["success_rate"] is None
    found = data(client, "/api/monitoring/data-consistency/metrics")
    assert found["task_metrics"]["completion_rate"] is None
    assert found["task_metrics"]["completion_rate_value"] is None
    assert found["task_metrics"]["missing_rate"] is None
    assert found["output_metrics"]["avg_outputs_per_task"] is None
    assert found["output_metrics"]["orphan_outputs"] is None
    assert found["health_status"]["status"] == "unknown"


def test_the_example_of_consistency_metrics_40_settled_33_with_output(world: tuple[Client, World]) -> None:
    client, rows = world
    for n in range(33):
        rows.task(f"w{n}", outputs=2 if n < 8 else 1)
    for n in range(7):
        rows.task(f"m{n}", outputs=0)
    rows.task("unsettled", ago=timedelta(seconds=100), outputs=0)
    for n in range(2):
        rows.task(f"f{n}", "failed", outputs=0)
    rows.publish()
    found = data(client, "/api/monitoring/data-consistency/metrics")
    assert found["task_metrics"] == {
        "total_tasks": 43, "success_tasks": 40, "tasks_with_outputs": 33, "missing_count": 7, "pending_settle": 1,
        "completion_rate": "82.5%", "completion_rate_value": 82.5, "missing_rate": "17.5%", "missing_rate_value": 17.5,
    }  # fmt: skip
    outputs = found["output_metrics"]
    assert (outputs["total_outputs"], outputs["distinct_outputs"], outputs["duplicate_rows"]) == (41, 41, 0)
    assert (outputs["avg_outputs_per_task"], outputs["avg_outputs_per_task_value"]) == ("1.2", 1.2424)
    assert found["health_status"] == {
        "status": "degraded",
        "completion_rate_threshold": {"healthy": ">=95%", "degraded": "80-95%", "unhealthy": "<80%"},
    }
    assert found["sources"][0]["source_id"] == "shop"
    assert data(client, "/api/v1/completeness/missing")["total"] == 7


@pytest.mark.parametrize(("presets", "chosen"), [
    (("waverless", "tktool"), "a"), (("tktool", "tts"), "b"), (("tktool",), "a"), (("waverless", "tts"), None), (("tktool", "tktool"), None),
])  # fmt: skip
def test_the_old_monitor_is_of_the_only_source_with_attempts_or_derived_status(
    serve: Serve, presets: tuple[str, ...], chosen: str | None
) -> None:
    """S-401: a further source without either does not make the path ask which one is meant."""
    client = serve({
        "sources": [{"id": name, "preset": preset, "read_dsn_env": "SHOP_DSN"} for name, preset in zip("ab", presets, strict=False)]
    })  # fmt: skip
    rows = World(client.settings, client.clock)
    for name in "ab"[: len(presets)]:
        rows.source(name)
        rows.task(f"of-{name}", source=name)
    rows.publish()
    for name in "ab"[: len(presets)]:
        found = client.get(f"/api/task/status/of-{name}").status_code
        assert found == (400 if chosen is None else 200 if name == chosen else 404)


def test_a_source_that_is_not_read_keeps_its_figures_and_has_no_known_health(world: tuple[Client, World]) -> None:
    """C-025: whether one asks the overview, the metrics of an existing monitor or the page."""
    client, rows = world
    rows.task("t")
    rows.publish()
    asked = ("/api/monitoring/data-consistency/metrics", "/api/v1/overview")

    def healths() -> list[str]:
        metrics, overview = (data(client, path) for path in asked)
        assert metrics["sources"][0]["task_metrics"]["completion_rate"] == "100.0%"
        words = [row["health_status"]["status"] for row in (metrics, *metrics["sources"])]
        page = client.get("/consistency", lang="en").text
        shown = re.search(r'<h2 id="c-shop">shop <span class="badge (\w+)">', page)
        assert shown is not None
        return [*words, overview["sources"][0]["health"], shown[1]]

    assert healths() == ["healthy"] * 4
    client.clock.advance(600)
    assert healths() == ["unknown"] * 4


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/api/v1/tasks", {"page": "0"}), ("/api/v1/tasks", {"page_size": "501"}), ("/api/v1/tasks", {"page": "1.5"}),
        ("/api/v1/tasks", {"source": "none"}), ("/api/v1/tasks", {"from_": "yesterday"}), ("/api/v1/tasks", {"has_output": "1"}),
        ("/api/v1/tasks", {"from_": "2026-02-02", "to": "2026-02-01"}), ("/api/v1/completeness/missing", {"hours": "0"}),
        ("/api/v1/completeness/missing", {"hours": "721"}), ("/api/monitoring/alerts", {"limit": "0"}),
        ("/api/monitoring/data-consistency/metrics", {"hours": "x"}), ("/api/v1/alerts", {"state": "burning"}),
        ("/api/v1/tasks", {"status": ""}), ("/api/v1/tasks", {"status": "failed,,queued"}), ("/api/v1/tasks", {"status": "done"}),
        ("/api/v1/tasks", {"from_": "2026-W06-1"}), ("/api/v1/tasks", {"from_": "20260201"}),
        ("/api/v1/tasks", {"from_": "2026-02-01T10"}), ("/api/v1/completeness/split", {"date": "1769904000"}),
        ("/api/v1/completeness/split", {"date": "2026-02-01T00:00:00"}),
        ("/api/v1/scheduler/jobs", {"scope": "nobody"}), ("/api/v1/endpoints/e/stats", {"granularity": "week"}),
    ],
)  # fmt: skip
def test_bad_values_are_400_and_name_the_parameter(
    world: tuple[Client, World], path: str, params: dict[str, str]
) -> None:
    client, rows = world
    rows.publish()
    answer = client.get(path, **params)
    assert answer.status_code == 400
    name = next(iter(params)).rstrip("_")
    assert name in answer.json()["message"]


def test_every_own_job_says_the_dotted_name_of_what_it_runs(world: tuple[Client, World]) -> None:
    """S-422: the module is the one Dagster loads, and it has a job of that name."""
    from monitoring_pipelines.definitions import build_defs

    client, rows = world
    rows.publish()
    repository = build_defs(settings=client.settings, clock=client.clock).get_repository_def()
    known = {f"{build_defs.__module__}.{job.name}" for job in repository.get_all_jobs()}
    listed = data(client, "/api/v1/scheduler/jobs", scope="self")["jobs"]
    assert len(listed) > 10
    assert {job["func"] for job in listed} <= known
    assert all(job["func"].endswith(f".{job['id']}") for job in listed)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/v1/tasks?stauts=failed", "stauts: this path has no such parameter; did you mean status?"),
        ("/api/v1/tasks?page_size=1&zzz=", "zzz: this path has no such parameter; there are endpoint, from, has_output, "),
        ("/api/v1/sources?source=shop", "source: this path has no such parameter; there are none here"),
        ("/api/v1/tasks/t?Source=shop", "Source: this path has no such parameter; did you mean source?"),
        ("/api/v1/tasks?page=1&page=2", "page: it is given more than once"),
        ("/api/monitor/stats?hours=1", "hours: this path has no such parameter"),
        ("/api/v1/scheduler/metrics/prometheus?scop=all", "scop: this path has no such parameter; did you mean scope?"),
    ],
)  # fmt: skip
def test_a_parameter_the_path_does_not_know_is_400_and_named_and_so_is_one_given_twice(
    world: tuple[Client, World], path: str, message: str
) -> None:
    client, rows = world
    rows.task("t")
    rows.publish()
    answer = client.request("GET", path)
    body = answer.json()
    assert (answer.status_code, message in (body["message"] if "message" in body else body["error"])) == (400, True), (
        body
    )


def test_every_path_below_api_refuses_unknown_parameters_whatever_its_method(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.publish()
    assert client.get("/metrics", no_such="1").status_code == 200
    assert client.get("/api/v1/health/live", no_such="1").status_code == 200  # S-270: always
    tried = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        if path.startswith("/api/") and path != "/api/v1/health/live":
            for method in methods:
                tried += 1
                answer = client.request(method.upper(), re.sub(r"\{[^}]*}", "x", path) + "?no_such=1", json={})
                assert (answer.status_code, "no_such" in answer.text) == (400, True), (method, path, answer.text)
    assert tried > 50


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        ("/api/v1/alerts", {"state": "burning"}, "state: some of pending, "), ("/api/v1/scheduler/jobs", {"sort": "x"}, "sort: one of id, "),
        ("/scheduler-monitoring", {"sort": "x"}, "last_status; with - before it descending"),
        ("/resources", {"range": "1y"}, "range: one of 1h, 6h, 24h, 7d, 30d"),
    ],
)  # fmt: skip
def test_a_refused_word_is_answered_with_those_there_are_and_not_with_a_pattern(
    world: tuple[Client, World], path: str, params: dict[str, str], message: str
) -> None:
    answer = world[0].get(path, **params)
    assert answer.status_code == 400
    assert message in answer.text
    assert "^" not in answer.text  # of the pattern


def test_times_are_read_in_every_form_of_rfc_3339_and_days_are_midnight_utc(world: tuple[Client, World]) -> None:
    client, rows = world  # it is 2026-02-11T06:00:00Z; the task is of 05:00
    rows.task("t")
    rows.publish()
    for text in (
        "2026-02-11", "2026-02-11T05:00", "2026-02-11T05:00:00", "2026-02-11T05:00:00.000Z", "2026-02-11t05:00:00z",
        "2026-02-11 05:00:00", "2026-02-11T13:00:00+08:00", "2026-02-11T13:00:00 08:00", "2026-02-11T05:00:00.000000001Z",
    ):  # fmt: skip
        assert data(client, "/api/v1/tasks", from_=text)["total"] == 1, text
    assert data(client, "/api/v1/tasks", from_="2026-02-11T05:00:01Z")["total"] == 0
    assert data(client, "/api/v1/tasks", to="2026-02-11T05:00:00Z")["total"] == 0


def test_words_of_status_are_unified_timeout_mapped_or_stored_and_all_of_a_list_count(
    world: tuple[Client, World],
) -> None:
    client, rows = world
    rows.task("good")
    rows.task("bad", "failed")
    rows.task("late", "timed_out")
    # The source has a word nobody mapped.
    rows.write(("UPDATE raw.task SET raw_status = 'PAUSED' WHERE task_key = 'bad'", {}))
    rows.publish()
    expected = {"succeeded": 1, "timeout,failed": 2, "timed_out": 1, "PAUSED": 1, "PAUSED,timeout": 2, "IN_PROGRESS": 0}
    assert {text: data(client, "/api/v1/tasks", status=text)["total"] for text in expected} == expected
    refused = client.get("/api/v1/tasks", status="completed,failed")
    assert (refused.status_code, "'completed'" in refused.json()["message"]) == (400, True)


def test_a_limit_larger_than_any_number_of_alerts_gives_all_of_them(world: tuple[Client, World]) -> None:
    client, _ = world
    for limit in ("1", "1000001", "9" * 30):
        assert data(client, "/api/monitoring/alerts", limit=limit) == {"alerts": [], "total": 0}


def test_malformed_json_is_400_and_says_that_the_body_is_meant(world: tuple[Client, World]) -> None:
    client, _ = world
    for path in ("/api/monitoring/data-consistency/check", "/api/v1/silences"):
        answer = client.request("POST", path, data="{bad", headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["message"]) == (400, "body: it is not valid JSON")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ends_at": "2026-02-11T05:00:00Z"}, "ends_at"), ({"ends_at": "2026-02-11T07:00:00Z"}, "ends_at"),
        ({"ends_at": "soon"}, "ends_at"), ({"starts_at": "soon"}, "starts_at"), ({"matchers": []}, "matchers"),
        ({"matchers": [{"name": "type", "op": "=~", "value": "("}]}, "matchers"), ({"comment": 5}, "comment"), ({"x": 1}, "x"),
    ],
)  # fmt: skip
def test_a_refused_silence_names_the_field(world: tuple[Client, World], change: dict[str, Any], field: str) -> None:
    client, _ = world
    body = {"matchers": [{"name": "type", "op": "=", "value": "x"}], "starts_at": "2026-02-11T07:00:00Z",
            "ends_at": "2026-02-11T08:00:00Z"}  # fmt: skip
    answer = client.post("/api/v1/silences", body | change)
    assert (answer.status_code, answer.json()["message"].split(":")[0].split(".")[0]) == (400, field)
    assert client.post("/api/v1/silences", body).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "from"), ({"to": "2026-02-11"}, "from"), ({"task_ids": []}, "task_ids"), ({"from": "2026-02-10", "hours": 3}, "from"),
     ({"hours": "3"}, "hours"), ({"start": "2026-02-10"}, "start")],
)  # fmt: skip
def test_a_refused_plan_names_the_field(world: tuple[Client, World], body: dict[str, Any], field: str) -> None:
    client, _ = world
    answer = client.post("/api/v1/repair/plans", {"source": "shop"} | body)
    assert (answer.status_code, answer.json()["message"].split(":")[0]) == (400, field)


def test_orphans_and_outputs_of_unsuccessful_tasks_are_those_of_the_newest_full_check(serve: Serve) -> None:
    from dataclasses import replace

    from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
    from monitoring_pipelines.state import StateStore, checks

    client = serve({"sources": [SHOP, SHOP | {"id": "market"}]})
    for source in ("shop", "market"):
        World(client.settings, client.clock).source(source)
    World(client.settings, client.clock).publish()
    state = StateStore.of(client.settings)

    def figures(**outcomes: tuple[str, dict[str, Any]]) -> list[tuple[Any, Any]]:
        """Store a full run with these outcomes of shop and market, and read the combined row and both sources."""
        at = client.clock.now()
        run = checks.start(state, CheckRun(f"run{at}", "full", "manual", "running", at, at))
        found = tuple(CheckOutcome(name.split("_", 1)[0], name.split("_", 1)[1], status, metrics=metrics)
                      for name, (status, metrics) in outcomes.items())  # fmt: skip
        checks.finish(state, replace(run, status="healthy", ended_at=at, outcomes=found))
        client.clock.advance(60)
        answer = data(client, "/api/monitoring/data-consistency/metrics")
        rows = [answer, *answer["sources"]]
        names = ("orphan_outputs", "outputs_of_unsuccessful")
        return [tuple(row["output_metrics"][name] for name in names) for row in rows]

    assert figures() == [(None, None)] * 3
    known = {
        "shop_orphans": ("passed", {"orphan_outputs": 0, "outputs_of_deleted_tasks": 4}),
        "shop_wrong_status": ("findings", {"outputs_of_unsuccessful": 3}),
    }
    assert figures(**known) == [(None, None), (0, 3), (None, None)], "the other source is not known yet"
    known |= {
        "market_orphans": ("not_applicable", {}),
        "market_wrong_status": ("passed", {"outputs_of_unsuccessful": 2}),
    }
    assert figures(**known) == [(0, 5), (0, 3), (None, 2)], "what does not apply is not waited for"
    state.dispose()


def test_status_has_queue_and_task_counters(world: tuple[Client, World]) -> None:
    client, rows = world
    assert data(client, "/api/monitoring/status")["tasks"] is None
    rows.task("q", "queued", outcome=None)
    rows.task("r", "running")
    rows.task("s")
    rows.publish()
    found = data(client, "/api/monitoring/status")["tasks"]
    assert (found["queued"], found["active"], found["completed"], found["tasks"]) == (1, 1, 1, 3)
    assert found["slots"] == {"limit": 5, "in_use": 1, "available": 4, "leaked": 0}
    assert found["queued"] == data(client, "/api/monitoring/tasks/stats")["queued"]


@pytest.mark.parametrize(
    "body",
    [{"type": "big"}, {"type": "quick", "hours_back": 0}, {"type": "quick", "hours_back": 1.5}, {"type": "quick", "hours_back": "3"},
     {"type": "deep", "hours_back": 24}, {"type": "full", "hours_back": 721}, {"unknown": 1}, {"type": "quick", "source": "x"}],
)  # fmt: skip
def test_checks_refuse_bad_bodies(world: tuple[Client, World], body: dict[str, Any]) -> None:
    client, _ = world
    assert client.post("/api/monitoring/data-consistency/check", body).status_code == 400


def test_thresholds_need_an_admin_token_and_changes_are_audited(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import select

    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.state.audit import first_broken
    from monitoring_pipelines.state.tables import audit_log

    client = serve()
    assert client.request("PUT", "/api/monitoring/config/thresholds", json={"max_pending_tasks": 9}).status_code == 403
    monkeypatch.setenv("ROOT", "admin-secret-9")
    client = serve({"api": {"tokens": [{"name": "root", "token_env": "ROOT", "roles": ["admin"]}]}})
    client.headers["Authorization"] = "Bearer admin-secret-9"
    for body in ({"max_pending_tasks": -1}, {"max_failed_rate": 2}, {"what": 1}, {"max_pending_tasks": "9"}):
        assert client.request("PUT", "/api/monitoring/config/thresholds", json=body).status_code == 400
    assert client.request("PUT", "/api/monitoring/config/thresholds", json={"max_pending_tasks": 9}).status_code == 200
    assert data(client, "/api/monitoring/config/thresholds")["max_pending_tasks"] == 9
    state = StateStore.of(client.settings)
    with state.begin() as con:
        assert [row.actor for row in con.execute(select(audit_log)) if row.action == "thresholds.change"] == ["root"]
        assert first_broken(con) is None
        con.execute(audit_log.update().values(actor="nobody"))
        assert first_broken(con) == 1
    state.dispose()


def test_a_column_the_published_files_do_not_have_yet_is_unknown(
    world: tuple[Client, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade pages answer before the next publication."""
    client, rows = world
    rows.job_run("a", "success", 400, source="sched")
    rows.publish()
    monkeypatch.setattr(jobs, "_RUN", (*jobs._RUN, "of_a_later_version"))
    assert [row["job_id"] for row in data(client, "/api/v1/scheduler/metrics")["metrics"]] == ["a"]


def test_job_figures_overview_and_heat_map(world: tuple[Client, World]) -> None:
    """30 runs of 400 ms and 4 of 2500 ms: 647.06 ms, not the mean of means."""
    client, rows = world
    rows.job("a", "Reports", source="sched")
    rows.job("b", "Billing", source="sched")
    rows.job("idle", "Idle", source="sched")
    for n in range(30):
        rows.job_run("a", "success", 400, ago=timedelta(minutes=n + 1), source="sched")
    for n in range(4):
        rows.job_run("b", "failure" if n else "timeout", 2500, ago=timedelta(minutes=n + 1), source="sched")
    rows.job_run("a", "missed", 0, source="sched")
    rows.publish()
    found = data(client, "/api/v1/scheduler/metrics")
    by_id = {row["job_id"]: row for row in found["metrics"]}
    assert found["overview"]["avg_duration_ms"] == 647.06
    assert (by_id["b"]["failure_count"], by_id["b"]["total_runs"], by_id["b"]["success_rate"]) == (4, 4, 0.0)
    assert (by_id["a"]["missed_count"], by_id["a"]["total_runs"]) == (1, 30)
    idle = by_id["idle"]
    assert (idle["total_runs"], idle["last_status"], idle["success_rate"], idle["avg_duration_ms"]) == (
        0,
        "never",
        None,
        None,
    )
    assert [(row["category"], row["failures"], row["color"]) for row in found["heatmap"]] == [
        ("Billing", 4, "red"), ("Idle", 0, None), ("Reports", 0, None),
    ]  # fmt: skip
    assert data(client, "/api/v1/scheduler/jobs/a/runs", page_size=5)["total"] == 31
    assert client.post("/api/v1/scheduler/jobs/a/trigger").json()["reason"] == "not_triggerable"
    assert client.post("/api/v1/scheduler/jobs/none/trigger").status_code == 404


def test_the_heat_map_of_8_6_3_1_and_0_failures_is_red_red_yellow_yellow_and_nothing(
    world: tuple[Client, World],
) -> None:
    """The worked example of M-505; failures older than a day do not count."""
    client, rows = world
    for name, failures in (("e", 0), ("d", 1), ("c", 3), ("b", 6), ("a", 8)):
        rows.job(name, name.upper(), source="sched")
        for n in range(failures):
            rows.job_run(name, "timeout" if n == 1 else "failure", 10, ago=timedelta(minutes=n + 1), source="sched")
        rows.job_run(name, "success", 10, ago=timedelta(minutes=59), source="sched")
        rows.job_run(name, "failure", 10, ago=timedelta(days=1, seconds=1), source="sched")
    rows.publish()
    heat = data(client, "/api/v1/scheduler/metrics")["heatmap"]
    assert [(row["category"], row["failures"], row["intensity"], row["color"]) for row in heat] == [
        ("A", 8, 100, "red"), ("B", 6, 75, "red"), ("C", 3, 37.5, "yellow"), ("D", 1, 12.5, "yellow"), ("E", 0, 0, None),
    ]  # fmt: skip


def test_unchanged_answers_are_304_and_history_of_alerts_cannot_be_cleared(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.task("t")
    rows.publish()
    first = client.get("/api/v1/tasks")
    again = client.request("GET", "/api/v1/tasks", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert client.request("DELETE", "/api/monitoring/alerts").status_code == 405


#: A kept answer, a packed one, one made anew, one put together from pieces, one of the state store.
TAGGED = (
    "/api/v1/tasks", "/api/v1/scheduler/jobs", "/api/monitoring/tasks/stats", "/api/v1/endpoints/e/stats?granularity=hour",
    "/api/v1/alerts",
)  # fmt: skip


@pytest.mark.parametrize("path", TAGGED)
def test_if_none_match_is_understood_in_every_form_of_rfc_9110(world: tuple[Client, World], path: str) -> None:
    client, rows = world
    rows.task("t")
    rows.hour("e", client.clock.now() - HOUR)
    rows.publish()
    tag = client.get(path).headers["etag"]
    assert tag.startswith('W/"')  # the same for the text and its compressed form
    opaque = tag.removeprefix("W/")

    def status(known: str) -> int:
        answer = client.request("GET", path, headers={"If-None-Match": known})
        assert (answer.content == b"", answer.headers["etag"]) == (answer.status_code == 304, tag)
        return answer.status_code

    for known in (tag, opaque, f'"a,b", {tag}', f'W/"x",{opaque} , "y"', "*"):
        assert status(known) == 304, known
    for known in ('"x"', f'W/{opaque[:-2]}"', opaque.strip('"'), f'"a{opaque[1:]}', '""', "W/"):
        assert status(known) == 200, known


def test_counters_never_fall_across_restarts_and_restatements(serve: Serve) -> None:
    client = serve({"sources": [SCHEDULER]})
    rows = World(client.settings, client.clock)
    rows.source("sched")
    path = "/api/v1/scheduler/metrics/prometheus"
    rows.job_run("i", "success", 10, ago=timedelta(minutes=20), source="sched")
    rows.publish()

    def scraped(client: Client, sample: str) -> str:
        """A scrape that has the sample: one that comes a moment after a publication may repeat the version before."""
        until = time.monotonic() + 20
        while sample not in (text := client.get(path).text) and time.monotonic() < until:
            time.sleep(0.05)
        assert sample in text
        return text

    scraped(client, 'job_id="i"')  # what it exported is written down, and then not again for a minute
    for n in range(3):
        rows.job_run("j", "success", 10, ago=timedelta(minutes=n + 1), source="sched")
    rows.publish()
    line = 'scheduler_job_success_total{job_id="j",job_name="j",owner="",category=""} '
    scraped(client, line + "3\n")
    rows.job_run("k", "success", 10, ago=timedelta(minutes=20), source="sched")
    rows.write(
        ("DELETE FROM raw.job_run WHERE run_key = 'j3'", {}), ("INSERT INTO meta.publish_job VALUES ('sched', 'j')", {})
    )
    rows.publish()
    assert line + "3\n" in scraped(client, 'job_id="k"')
    other = serve({"sources": [SCHEDULER]})
    assert line + "3\n" in other.get(path).text
    for n in range(2):
        rows.job_run("j", "success", 10, ago=timedelta(minutes=n + 11), source="sched")
    rows.publish()
    scraped(other, line + "4\n")
    assert other.get(path).headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_pages_show_unknown_as_a_dash_in_both_languages_and_keep_a_strict_policy(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.task("t", outputs=0)
    rows.publish()
    for path in ("/", "/endpoints", "/consistency", "/alerts"):
        for language, title in (("en", "Monitoring pipelines"), ("zh-CN", "监控流水线")):
            page = client.get(path, lang=language)
            assert page.status_code == 200, path
            assert title in page.text
            assert f'<html lang="{language}"' in page.text
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert "style=" not in page.text
            assert "<script>" not in page.text
    assert "0.0%" in client.get("/consistency", lang="en").text


def test_the_product_itself_has_no_completeness_and_that_is_no_error(world: tuple[Client, World]) -> None:
    """S-412: no task, no rate, status unknown, HTTP 200."""
    client, rows = world
    rows.publish()
    found = data(client, "/api/monitoring/data-consistency/metrics", source="_self")
    assert (found["health_status"]["status"], found["task_metrics"]["completion_rate"]) == ("unknown", None)


def test_lists_are_sorted_by_the_server_and_their_heads_say_how(world: tuple[Client, World]) -> None:
    """S-804: the column and direction of ``sort``, unknown values last both ways; an unknown column is a 400."""
    client, rows = world
    rows.job("idle", "Idle", source="sched")
    for job, ms in (("a", 400), ("b", 2500)):
        rows.job_run(job, "success", ms, source="sched")
    for endpoint, n in (("few", 1), ("many", 3)):
        for number in range(n):
            rows.task(f"{endpoint}{number}", endpoint=endpoint)
    rows.publish()
    for sort, wanted in (("avg_duration_ms", ["a", "b", "idle"]), ("-avg_duration_ms", ["b", "a", "idle"]),
                         ("-id", ["idle", "b", "a"])):  # fmt: skip
        assert [row["id"] for row in data(client, "/api/v1/scheduler/jobs", sort=sort)["jobs"]] == wanted
        assert [row["job_id"] for row in data(client, "/api/v1/scheduler/metrics", sort=sort)["metrics"]] == wanted
    for language, label in (("en", "Avg duration"), ("zh-CN", "平均耗时")):
        page = client.get("/scheduler-monitoring", sort="-avg_duration_ms", lang=language).text
        assert page.count("aria-sort=") == page.count('aria-sort="descending"') == 1
        assert f'sort=avg_duration_ms">{label} ' in page
        assert page.index("/jobs/b?") < page.index("/jobs/a?") < page.index("/jobs/idle?")
    for path in ("/alerts", "/endpoints"):
        assert client.get(path, sort="-source_id").status_code == 200
        assert client.get(path, sort="nothing").status_code == 400
    for path in ("/api/v1/alerts", "/api/v1/endpoints", "/api/v1/scheduler/jobs"):
        refused = client.get(path, sort="source_id; drop table alert")
        assert (refused.status_code, "sort" in refused.json()["message"]) == (400, True)


def test_alerts_are_sorted_by_gravity_and_not_by_the_words(world: tuple[Client, World]) -> None:
    from datetime import datetime

    from sqlalchemy import insert

    from monitoring_pipelines.state import StateStore, tables

    client, _ = world
    at = datetime(2026, 2, 1)
    with StateStore.of(client.settings).begin() as con:
        for severity in ("low", "critical", "info", "high", "medium"):
            con.execute(insert(tables.alert).values(
                alert_id=severity, fingerprint=severity, open_fingerprint=severity, type="t", alertname="T",
                source_id="shop", labels={}, severity=severity, severity_label=severity, state="firing", message="m",
                active_at=at, last_seen_at=at, occurrences=1,
            ))  # fmt: skip
    gravest = ["critical", "high", "medium", "low", "info"]
    assert [row["alert_id"] for row in data(client, "/api/v1/alerts", sort="-severity")["items"]] == gravest
    assert [row["alert_id"] for row in data(client, "/api/v1/alerts", sort="severity")["items"]] == gravest[::-1]
    page = client.get("/alerts", sort="severity", lang="en").text
    assert 'aria-sort="ascending"' in page
    assert page.index("/alerts/info") < page.index("/alerts/critical")


def test_tasks_oldest_first_are_the_same_list_from_its_other_end(world: tuple[Client, World]) -> None:
    """S-804: over files and pages, with a filter; no page repeats or loses a task."""
    client, rows = world
    for n in range(7):
        rows.task(f"t{n}", "succeeded" if n % 2 else "failed", ago=n * HOUR)
    rows.publish()

    def pages(**more: Any) -> list[str]:
        found = [data(client, "/api/v1/tasks", page_size=3, page=n, **more) for n in (1, 2, 3, 4)]
        assert {one["total"] for one in found} == {len([row for one in found for row in one["items"]])}
        return [row["task_key"] for one in found for row in one["items"]]

    assert pages() == pages(sort="-created_at") == [f"t{n}" for n in range(7)]
    assert pages(sort="created_at") == [f"t{n}" for n in reversed(range(7))]
    assert pages(sort="created_at", status="failed") == ["t6", "t4", "t2", "t0"]
    page = client.get("/tasks", show="all", sort="created_at", lang="zh-CN").text
    assert 'aria-sort="ascending"' in page
    assert "sort=-created_at" in page
    assert page.index("/tasks/t6?") < page.index("/tasks/t0?")


def test_tasks_and_jobs_whose_key_holds_a_slash_are_reached_like_others(serve: Serve) -> None:
    sources = [
        {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"},
        {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
    ]
    client = serve({"sources": sources})
    rows = World(client.settings, client.clock)
    rows.source()
    rows.source("sched")
    rows.task("img/2026/ä b")
    rows.job("etl/daily", source="sched")
    rows.job_run("etl/daily", "success", 10.0, source="sched")
    rows.publish()
    task, job = quote("img/2026/ä b", safe=""), quote("etl/daily", safe="")
    assert client.get(f"/api/v1/tasks/{task}").json()["data"]["task"]["task_key"] == "img/2026/ä b"
    assert client.get(f"/api/v1/tasks/{task}/timeline").json()["data"]["timeline"]
    assert client.get(f"/api/task/status/{task}?source=shop").json()["text_id"] == "img/2026/ä b"
    assert client.get(f"/api/v1/scheduler/jobs/{job}/runs").json()["data"]["total"] == 1
    for page in (f"/tasks/{task}", f"/scheduler-monitoring/jobs/{job}?source=sched"):
        assert client.get(page).status_code == 200


def test_a_minute_without_row_is_zero_in_what_the_source_measures_and_unknown_in_the_rest(serve: Serve) -> None:
    client = serve({"sources": [SHOP, SHOP | {"id": "market"}]})
    rows = World(client.settings, client.clock)
    at = client.clock.now() - HOUR
    day = at.replace(hour=0)
    for source, workers in (("shop", None), ("market", 2)):
        rows.source(source)
        rows.minute("e", at, source=source)
        values = {"s": source, "h": at, "w": workers}
        rows.write(
            (
                (
                    "INSERT INTO mart.endpoint_hourly_stats (source_id, endpoint, stat_hour, tasks_submitted, queue_depth_end, "
                    "total_workers, active_workers, idle_workers, idle_spells, state, quality, revision) "
                    "VALUES ($s, 'e', $h, 1, 0, $w, $w, $w, $w, 'closed', 'exact', 1)"
                ),
                values,
            ),
            rows._changed("mart.endpoint_hourly_stats", day),
        )
    rows.publish()
    counts = ("tasks_submitted", "late_events", "total_workers", "idle_spells", "avg_execution_ms", "source")
    seen = {}
    for source in ("shop", "market"):
        path, window = "/api/v1/endpoints/e/stats", {"source": source, "granularity": "minute", "from_": at.isoformat()}
        filled = data(client, path, fill="true", **window)
        seen[source] = tuple(filled["rows"][1][name] for name in counts)
        assert len(filled["rows"]) == 60
        stored = data(client, path, **window)
        assert len(stored["rows"]) == 1
        unknown = {name for name, value in stored["summary"].items() if value is None}
        assert (filled["summary"]["late_events"], "late_events" in unknown) == (None, True)
        assert filled["summary"]["tasks_submitted"] == stored["summary"]["tasks_submitted"] == 1
    assert seen == {"shop": (0, None, None, None, None, "none"), "market": (0, None, 0, 0, None, "none")}
    latest = {row["source_id"]: row["latest"]["active_workers"] for row in data(client, "/api/v1/endpoints")["items"]}
    assert latest == {"shop": None, "market": 0}
    scraped = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("mp_endpoint_active_workers")
    ]
    assert scraped == ['mp_endpoint_active_workers{source="market",endpoint="e"} 0']


def test_registered_jobs_that_never_ran_are_listed_by_the_command_as_by_the_api(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from monitoring_pipelines.cli.app import run

    client = serve({"sources": [SHOP]})
    World(client.settings, client.clock).publish()
    served = [job["id"] for job in data(client, "/api/v1/scheduler/jobs", scope="self")["jobs"]]
    assert run(["--config", str(client.settings.file), "--json", "jobs", "--scope", "self"]) == 0
    shown = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["job_id"] for job in shown] == served
    assert served
    assert {job["last_status"] for job in shown} == {"never"}


def test_health_sees_the_gravest_of_any_number_of_alerts_and_no_exercise(world: tuple[Client, World]) -> None:
    from sqlalchemy import insert

    from monitoring_pipelines.state import StateStore, tables

    client, rows = world
    rows.publish()
    now = client.clock.now()

    def alert(name: str, age: timedelta, severity: str, is_drill: bool = False) -> dict[str, Any]:
        return {
            "alert_id": name, "fingerprint": name, "open_fingerprint": name, "type": "target.down", "alertname": "T",
            "source_id": "sched", "labels": {}, "severity": severity, "severity_label": severity, "state": "firing",
            "message": "m", "active_at": now - age, "last_seen_at": now, "occurrences": 1, "is_drill": is_drill,
        }  # fmt: skip

    state = StateStore.of(client.settings)

    def resources(*alerts: dict[str, Any]) -> str:
        with state.begin() as con:
            con.execute(insert(tables.alert), alerts)
        found = data(client, "/api/monitoring/health")
        status: str = found["checks"]["resources"]["status"]
        assert found["overall_status"] == status, "everything else is in order"
        return status

    assert resources(alert("drill", HOUR, "critical", is_drill=True)) == "HEALTHY"
    assert resources(*(alert(f"m{n}", timedelta(minutes=n), "medium") for n in range(600))) == "WARNING"
    assert resources(alert("oldest", timedelta(days=9), "critical")) == "CRITICAL"
    health = {row["id"]: row["health"] for row in data(client, "/api/v1/sources")}
    assert health["sched"] == "unhealthy"
    state.dispose()


def test_the_queue_is_counted_whole_and_its_oldest_task_found_however_long_it_is(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.task("first", "queued", ago=2 * HOUR, outcome=None, outputs=0)
    rows.task("t", "queued", ago=HOUR, outcome=None, outputs=0)
    rows.write(
        (
            (
                "INSERT INTO raw.task BY NAME SELECT * EXCLUDE (n) REPLACE (task_key || n AS task_key, created_at + n * INTERVAL 1 MILLISECOND "
                "AS created_at, md5_number_lower(concat_ws(chr(31), source_id, task_key || n)) AS key_hash) "
                "FROM raw.task, range(10000) numbers(n) WHERE task_key = 't'"
            ),
            {},
        ),
        ("INSERT INTO meta.publish_task SELECT key_hash FROM raw.task WHERE task_key LIKE 't_%'", {}),
    )
    rows.publish()
    queue = data(client, "/api/monitoring/health")["checks"]["queue"]
    assert queue == {"status": "ERROR", "pending_tasks": 10002, "oldest_wait_s": 7200.0}


def test_intensities_of_the_heat_map_have_two_decimals(world: tuple[Client, World]) -> None:
    """M-106: two failures of three are 66.67, not 66.66666666666667."""
    client, rows = world
    for name, failures in (("a", 3), ("b", 2)):
        rows.job(name, name, source="sched")
        for n in range(failures):
            rows.job_run(name, "failure", 10, ago=timedelta(minutes=n + 1), source="sched")
    rows.publish()
    heat = data(client, "/api/v1/scheduler/metrics")["heatmap"]
    assert [(row["category"], row["intensity"], row["color"]) for row in heat] == [
        ("a", 100, "red"), ("b", 66.67, "amber")
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/api/monitoring/data-consistency/check", "/api/v1/checks/runs"])
def test_a_check_started_with_async_is_202_and_its_run_can_be_asked_for_at_once(serve: Serve, path: str) -> None:
    """S-102; the source does not answer, so the run ends with an error and that is stored under the id given."""
    import time

    client = serve({"sources": [SHOP]})
    assert client.post(f"{path}?async=1", {"type": "quick"}).status_code == 400
    begun = client.post(f"{path}?async=true", {"type": "quick"})
    assert begun.status_code == 202, begun.text
    document = client.get("/openapi.json").json()
    assert problem_of(document, "POST", path, 202, begun.json()) is None
    run_id = begun.json()["data"]["run_id"]
    assert begun.json()["data"] == {"run_id": run_id, "status": "running"}
    run = data(client, f"/api/v1/checks/runs/{run_id}")["check_run"]
    assert (run["type"], run["trigger"], run["window_hours"]) == ("quick", "api", 1)
    while run["status"] == "running":
        time.sleep(0.1)
        run = data(client, f"/api/v1/checks/runs/{run_id}")["check_run"]
    assert run["status"] == "error"
    whole = client.post(path, {"type": "quick"})
    assert (whole.status_code, whole.json()["data"]["run_status"]) == (200, "error")
    assert problem_of(document, "POST", path, 200, whole.json()) is None
    assert data(client, f"/api/v1/checks/runs/{whole.json()['data']['run_id']}")["check_run"]["status"] == "error"


def test_a_check_run_made_again_under_its_id_is_answered_with_what_it_found_now(serve: Serve) -> None:
    """S-703: a due time has one run; making it again may end with the same status and other results."""
    from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
    from monitoring_pipelines.state import StateStore, checks

    client = serve({"sources": [SHOP]})
    state, due = StateStore.of(client.settings), client.clock.now() - timedelta(hours=1)
    for n, check in enumerate(("orphans", "duplicates")):
        at = due + timedelta(minutes=n)
        run = checks.start(state, CheckRun(f"made{n}", "quick", "schedule", "running", due, at))
        outcome = CheckOutcome("shop", check, "passed")
        checks.finish(state, replace(run, status="healthy", ended_at=at, outcomes=(outcome,)))
        assert run.run_id == "made0"
        answer = data(client, "/api/v1/checks/runs/made0")
        assert [row["check_id"] for row in answer["check_results"]] == [check]


def test_a_task_of_a_source_whose_clock_is_ahead_has_gone_on_for_no_time(world: tuple[Client, World]) -> None:
    client, rows = world
    rows.task("ahead", "running", ago=timedelta(seconds=-5))
    rows.task("waits", "queued", ago=timedelta(seconds=-5), outcome=None, outputs=0)
    rows.publish()
    assert [task["duration"] for task in data_of(client, "/api/monitor/stats")["active_list"]] == [0, 0]
    assert data(client, "/api/monitoring/health")["checks"]["queue"]["oldest_wait_s"] == 0


def data_of(client: Client, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_lists_of_jobs_show_a_switch_at_once(serve: Serve) -> None:
    """S-426: they are packed once and made anew when one of the product's own jobs is switched, by whatever process."""
    from monitoring_pipelines.state import StateStore, self_jobs

    client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    world.publish()
    state, base = StateStore.of(client.settings), "/api/v1/scheduler"
    for enabled in (True, False, True):
        with state.begin() as con:
            self_jobs.switch(con, ["maintenance_job"], enabled, "test", client.clock.now())
        (job,) = [
            one
            for one in client.get(f"{base}/jobs", scope="self").json()["data"]["jobs"]
            if one["id"] == "maintenance_job"
        ]
        assert (job["enabled"] is not False) == (job["next_run_time"] is not None) == enabled
        (job,) = [
            one
            for one in client.get(f"{base}/configs", scope="self").json()["data"]["configs"]
            if one["job_id"] == "maintenance_job"
        ]
        assert (job["enabled"] is not False) == enabled
        (job,) = [
            one
            for one in client.get(f"{base}/status", scope="self").json()["data"]["jobs"]
            if one["id"] == "maintenance_job"
        ]
        assert (job["next_run_time"] is not None) == enabled
