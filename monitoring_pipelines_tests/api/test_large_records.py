"""Lists and pages that read only what they show: newest samples, large check runs, journals, alerts by gravity."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.state import StateStore, checks, tables

from .conftest import SOURCE, Client, Serve, data, with_world
from .world import World


@pytest.fixture
def shop(serve: Serve) -> tuple[Client, World]:
    return with_world(serve, [SOURCE, SOURCE | {"id": "other"}])


def test_a_process_that_was_silent_for_weeks_is_listed_with_its_last_sample(shop: tuple[Client, World]) -> None:
    """S-250: its newest sample, however old; a new one takes its place; a figure has a trend only of the last day."""
    client, world = shop
    now = client.clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    ages = {"gone": timedelta(days=20), "slow": timedelta(days=2), "live": timedelta(minutes=1)}
    for name, age in ages.items():
        for back in range(12):
            world.sample(name, now - age - back * timedelta(minutes=1))
    world.sample("edge", midnight - timedelta(days=1))
    world.sample("edge", midnight - timedelta(days=1, microseconds=1))
    world.sample("live", now - timedelta(days=9), source="other")
    world.publish()

    def listed() -> dict[tuple[str, str], str]:
        return {(row["source_id"], row["process_id"]): row["at"] for row in data(client, "/api/v1/processes")["items"]}

    expected = {("shop", name): (now - age).isoformat() + "Z" for name, age in ages.items()}
    expected["shop", "edge"] = (midnight - timedelta(days=1)).isoformat() + "Z"
    expected["other", "live"] = (now - timedelta(days=9)).isoformat() + "Z"
    assert listed() == expected
    classes = {
        (row["source_id"], row["process_id"]): row["trends"].get("rss", {}).get("class")
        for row in data(client, "/api/v1/processes")["items"]
    }
    assert classes["shop", "live"] == "stable"
    assert classes["shop", "gone"] is None

    world.sample("gone", now - timedelta(seconds=30))
    world.publish()
    assert listed() == expected | {("shop", "gone"): (now - timedelta(seconds=30)).isoformat() + "Z"}
    assert [row["process_id"] for row in data(client, "/api/v1/processes", source="other")["items"]] == ["live"]
    assert client.get("/api/v1/processes/live/samples").status_code == 400, "two sources have it"
    assert client.get("/api/v1/processes/nobody/samples").status_code == 404


def test_pages_of_samples_follow_each_other_over_hours_and_days(shop: tuple[Client, World]) -> None:
    """S-250, S-103: newest first, whatever files they are in, each once, and never those of another process."""
    client, world = shop
    now = client.clock.now()
    gaps = [timedelta(seconds=30), timedelta(minutes=9), timedelta(hours=1), timedelta(hours=5, seconds=1)]
    times = [now - timedelta(minutes=1)]
    while times[-1] > now - timedelta(days=2):
        times.append(times[-1] - gaps[len(times) % len(gaps)])
    for at in times:
        world.sample("one", at)
        world.sample("two", at)
    world.sample("one", times[3], source="other")
    world.publish()
    for start in (now - timedelta(days=3), times[7]):
        wanted = [at.isoformat() + "Z" for at in times if at >= start]
        asked = {"from": start.isoformat() + "Z", "to": now.isoformat() + "Z", "source": "shop", "page_size": 7}
        pages = [data(client, "/api/v1/processes/one/samples", page=n, **asked) for n in range(1, len(wanted) // 7 + 3)]
        assert [row["at"] for page in pages for row in page["items"]] == wanted
        assert {(row["source_id"], row["process_id"]) for page in pages for row in page["items"]} == {("shop", "one")}
        assert {page["total"] for page in pages} == {len(wanted)}, "also of a page behind the last"


def found(n: int, at: Any, severity: str) -> Finding:
    return Finding("shop", "orphans", f"kind_{n}", severity, f"finding {n}", at, {}, (), {"n": str(n)})  # type: ignore[arg-type]


def test_a_large_check_run_shows_its_findings_page_by_page_and_the_api_has_all(shop: tuple[Client, World]) -> None:
    """S-233, S-804: the gravest first, the number is that of all, and every finding is on one page."""
    client, _ = shop
    state, now = StateStore.of(client.settings), client.clock.now()
    run = checks.start(state, CheckRun("run-1", "full", "manual", "running", now, now))
    running = data(client, "/api/v1/checks/runs/run-1")
    assert (running["check_run"]["status"], running["findings"]) == ("running", [])
    findings = tuple(found(n, now, "critical" if n >= 290 else "low") for n in range(300))
    outcome = CheckOutcome("shop", "orphans", "findings", findings=findings)
    checks.finish(state, replace(run, status="issues_detected", ended_at=now, outcomes=(outcome,)))

    whole = data(client, "/api/v1/checks/runs/run-1")
    assert [one["alert_type"] for one in whole["findings"]] == [f"kind_{n}" for n in range(300)]
    assert whole["check_results"][0]["findings"] == whole["findings"]
    assert whole["check_run"]["alerts_by_severity"] == {"low": 290, "critical": 10}
    assert data(client, "/api/v1/checks/runs/run-1") == whole, "what is kept is the same"

    order = [f"kind_{n}" for n in (*range(290, 300), *range(290))]
    for number in range(1, 8):
        asked = {"lang": "en", "page": number}
        page = client.request("GET", "/checks/run-1", headers={"Accept": "text/html"}, params=asked).text
        assert re.findall(r"type=(kind_\d+)", page) == order[50 * number - 50 : 50 * number]
        assert "(300)" in page


def test_pages_of_a_journal_follow_each_other_without_gap_or_repetition(shop: tuple[Client, World]) -> None:
    """S-260, S-103: oldest first, the total that of the run alone."""
    client, _ = shop
    state, now = StateStore.of(client.settings), client.clock.now()
    common = {"source_id": "shop", "actor": "admin", "state": "finished", "kind": "apply", "started_at": now}
    rows = [
        {"journal_id": f"J{n:03}", "run_id": f"run-{n % 2}", "source_id": "shop", "op": "insert", "target_table": "output",
         "task_key": f"t{n}", "natural_key": f"t{n}", "pk": {"id": str(n)}, "actor": "admin", "at": now, "state": "committed"}
        for n in range(240)
    ]  # fmt: skip
    with state.begin() as con:
        con.execute(insert(tables.repair_run), [common | {"run_id": name} for name in ("run-0", "run-1", "run-2")])
        con.execute(insert(tables.repair_journal), rows)
    pages = [data(client, "/api/v1/repair/runs/run-1/journal", page=n, page_size=50) for n in (1, 2, 3, 4)]
    assert [one["task_key"] for page in pages for one in page["items"]] == [f"t{n}" for n in range(1, 240, 2)]
    assert [(page["total"], page["pages"], len(page["items"])) for page in pages] == [
        (120, 3, 50), (120, 3, 50), (120, 3, 20), (120, 3, 0),
    ]  # fmt: skip
    assert data(client, "/api/v1/repair/runs/run-2/journal")["total"] == 0
    page = client.request("GET", "/repair/runs/run-1", headers={"Accept": "text/html"}, params={"page": 3}).text
    assert re.findall(r">(t\d+)<", page) == [f"t{n}" for n in range(201, 240, 2)]


def test_pages_of_alerts_in_any_order_have_every_alert_once(shop: tuple[Client, World]) -> None:
    """S-103, S-804: equal ones newest first, the last page too."""
    client, _ = shop
    state, now = StateStore.of(client.settings), client.clock.now()
    words = ("low", "critical", "medium", "high")
    rows = [
        {"alert_id": f"A{n:03}", "fingerprint": f"f{n}", "type": "kind", "alertname": "kind", "source_id": "shop", "labels": {},
         "severity": words[n % 4], "severity_label": "warning", "state": "resolved", "occurrences": 1, "is_drill": False,
         "active_at": now - timedelta(minutes=n // 8), "last_seen_at": now, "resolved_at": now}
        for n in range(90)
    ]  # fmt: skip
    with state.begin() as con:
        con.execute(insert(tables.alert), rows)
    gravity = {word: n for n, word in enumerate(("critical", "high", "medium", "low"))}
    expected = sorted(rows, key=lambda row: row["alert_id"], reverse=True)
    expected.sort(key=lambda row: row["active_at"], reverse=True)
    expected.sort(key=lambda row: gravity[row["severity"]])
    pages = [data(client, "/api/v1/alerts", sort="-severity", page=n, page_size=40) for n in (1, 2, 3)]
    assert [one["alert_id"] for page in pages for one in page["items"]] == [row["alert_id"] for row in expected]
    assert {page["total"] for page in pages} == {90}
    files = client.request("GET", "/download/alerts.csv", params={"show": "all", "sort": "-severity"}).text.splitlines()
    assert len(files) == 1 + 90

    with state.begin() as con:  # what is kept of an order is made anew after a commit
        con.execute(insert(tables.alert), [rows[1] | {"alert_id": "A999", "fingerprint": "f999", "active_at": now}])
    again = data(client, "/api/v1/alerts", sort="-severity", page=1, page_size=2)
    assert (again["items"][0]["alert_id"], again["total"]) == ("A999", 91)


def test_more_alerts_than_a_database_takes_parameters_are_all_given(shop: tuple[Client, World]) -> None:
    """S-103: a limit above their number gives all, newest first."""
    client, _ = shop
    state, now, count = StateStore.of(client.settings), client.clock.now(), 40_000
    common = {"type": "kind", "alertname": "kind", "source_id": "shop", "labels": {}, "severity": "low", "severity_label": "low",
              "state": "resolved", "occurrences": 1, "is_drill": False, "active_at": now, "last_seen_at": now,
              "resolved_at": now}  # fmt: skip
    with state.begin() as con:
        con.execute(
            insert(tables.alert), [common | {"alert_id": f"A{n:05}", "fingerprint": f"f{n}"} for n in range(count)]
        )
    given = data(client, "/api/monitoring/alerts", limit=str(count + 1))
    assert [one["alert_id"] for one in given["alerts"]] == [f"A{n:05}" for n in reversed(range(count))]
