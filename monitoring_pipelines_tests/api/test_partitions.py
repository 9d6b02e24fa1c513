"""The matrix of partitions: what was computed, what the checks say of it, per source, on the page and in the API (S-820)."""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from monitoring_pipelines.api import partition_rows
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding, RunStatus
from monitoring_pipelines.state import StateStore, checks, partition_checks
from monitoring_pipelines.warehouse.audits import AuditResult
from monitoring_pipelines_tests.api.conftest import SOURCE, Client, Serve, data, with_world
from monitoring_pipelines_tests.api.world import World

HOUR = timedelta(hours=1)
TABLE = "mart.endpoint_hourly_stats"
AUDIT = "m901_active_and_idle_are_all"


@pytest.fixture
def shops(serve: Serve) -> tuple[Client, World, datetime]:
    """Two sources, and the hour that closed last."""
    client, world = with_world(serve, [SOURCE, SOURCE | {"id": "depot"}])
    return client, world, client.clock.now() - HOUR


def computed(world: World, source: str, through: datetime) -> None:
    world.write(
        ("INSERT INTO meta.window_progress VALUES ($s, 'endpoint', $t)", {"s": source, "t": through}),
    )


def cells_of(client: Client, source: str, table: str = TABLE) -> dict[str, dict[str, Any]]:
    """Partition → cell of one row of the answer."""
    items = data(client, "/api/v1/partitions", source=source)["items"]
    rows = [row for row in items if row["table"] == table and row["source_id"] == source]
    assert len(rows) == 1
    return {cell["partition"]: cell for cell in rows[0]["cells"]}


def shown(client: Client, source: str) -> str:
    return html.unescape(client.get("/partitions", source=source, lang="en").text)


def key(at: datetime) -> str:
    return at.strftime("%Y-%m-%d-%H:%M")


def test_an_hour_that_was_never_computed_is_not_drawn_like_one_without_tasks(
    shops: tuple[Client, World, datetime],
) -> None:
    client, world, last = shops
    world.hour("e", last - 3 * HOUR, source="shop")
    computed(world, "shop", last - HOUR)
    world.write((
        "INSERT INTO meta.dirty_hour (source_id, family, hour, marked_at, reason) VALUES ('shop', 'endpoint', $h, $h, 'late')",
        {"h": last - 5 * HOUR},
    ))  # fmt: skip
    world.publish()
    cells = cells_of(client, "shop")
    states = {n: cells[key(last - n * HOUR)]["state"] for n in (0, 1, 2, 3, 4, 5)}
    assert states == {0: "absent", 1: "absent", 2: "empty", 3: "closed", 4: "empty", 5: "absent"}
    page = shown(client, "shop")
    local = f"{last - 2 * HOUR + timedelta(hours=8):%m-%d %H}:00"
    assert f"{local}: zero" in page
    assert re.search(r"not computed, 0 rows[^>]*>(<[^>]+>)*∅", page)


def test_an_audit_that_failed_shows_in_the_cell_of_its_partition_and_source_only(
    shops: tuple[Client, World, datetime],
) -> None:
    client, world, last = shops
    for name in ("shop", "depot"):
        for n in range(3):
            world.hour("e", last - n * HOUR, source=name)
        computed(world, name, last + HOUR)
    world.publish()
    state = StateStore.of(client.settings)
    bad = AuditResult("M-901", AUDIT, "x", 2, places={(TABLE, "shop", last): 2})
    good = AuditResult("M-902", "m902_values_in_range", "y", 0)
    partition_checks.record(
        state, [bad, good], "endpoint", ["shop", "depot"], last - HOUR, last + HOUR, client.clock.now()
    )
    mine, other = cells_of(client, "shop"), cells_of(client, "depot")
    assert mine[key(last)]["checks"]["state"] == "failed"
    assert mine[key(last)]["checks"]["failed"] == [{"check": AUDIT, "bad_rows": 2}]
    assert mine[key(last - HOUR)]["checks"]["state"] == "passed"
    assert mine[key(last - 2 * HOUR)]["checks"]["state"] == "unchecked"
    assert other[key(last)]["checks"] == mine[key(last - HOUR)]["checks"]
    page = shown(client, "shop")
    assert re.search(rf'class="cell unhealthy" title="[^"]*failed: {AUDIT} \(2 rows\)[^"]*">.*?✗1', page)
    assert AUDIT not in shown(client, "depot")


def test_only_what_was_checked_is_green(shops: tuple[Client, World, datetime]) -> None:
    """What changed after its last audit counts as not checked."""
    client, world, last = shops
    for n in range(3):
        world.hour("e", last - n * HOUR)
    computed(world, "shop", last + HOUR)
    world.write((f"UPDATE {TABLE} SET restated_at = $t WHERE stat_hour = $h", {"t": client.clock.now(), "h": last}))
    world.publish()
    ok = AuditResult("M-901", AUDIT, "x", 0)
    before = client.clock.now() - timedelta(minutes=5)
    partition_checks.record(
        StateStore.of(client.settings), [ok], "endpoint", ["shop"], last - HOUR, last + HOUR, before
    )
    page = shown(client, "shop")
    row = next(part for part in page.split("<tr>") if "Endpoints · hour" in part)
    tones = re.findall(r'class="cell (\w+)"', row)
    assert tones[:3] == ["neutral", "healthy", "neutral"]
    assert "changed since it was checked" in row
    assert cells_of(client, "shop")[key(last)]["checks"]["state"] == "outdated"


def test_what_an_audit_said_that_is_no_more_is_not_shown(shops: tuple[Client, World, datetime]) -> None:
    """An upgrade renames or removes audits; the next answer about an old hour may never come."""
    client, world, last = shops
    world.hour("e", last)
    world.hour("e", last - HOUR)
    computed(world, "shop", last + HOUR)
    world.publish()
    state, now = StateStore.of(client.settings), client.clock.now()
    gone = AuditResult("M-901", "m901_before_the_upgrade", "x", 1, places={(TABLE, "shop", last): 1})
    partition_checks.record(state, [gone], "endpoint", ["shop"], last - HOUR, last + HOUR, now)
    partition_checks.record(state, [AuditResult("M-901", AUDIT, "x", 0)], "endpoint", ["shop"], last, last + HOUR, now)
    cells = cells_of(client, "shop")
    found = {
        at: (cells[key(at)]["checks"]["state"], cells[key(at)]["checks"]["evaluated"]) for at in (last, last - HOUR)
    }
    assert found == {last: ("passed", 1), last - HOUR: ("unchecked", 0)}
    assert cells[key(last - HOUR)]["checks"]["checked_at"] is None


def deep_run(client: Client, start: datetime, end: datetime, began: datetime, *expectations: dict[str, Any]) -> None:
    """A run with the answer of the suite over hourly statistics of ``shop``; without expectations there was nothing to judge."""
    failed = [one for one in expectations if not one["success"]]
    outcome = CheckOutcome(
        "shop", "expectations.endpoint_stats", "findings" if failed else "passed" if expectations else "insufficient_data",
        start, end, expectation={"expectations": list(expectations)} if expectations else None,
    )  # fmt: skip
    status: RunStatus = "issues_detected" if failed else "healthy"
    run = CheckRun("r1", "deep", "schedule", status, began, began, began + timedelta(minutes=1), outcomes=(outcome,))
    checks.finish(StateStore.of(client.settings), run)


def test_an_expectation_marks_the_hours_whose_rows_break_it(shops: tuple[Client, World, datetime]) -> None:
    client, world, last = shops
    for n in range(3):
        world.hour("e", last - n * HOUR)
    computed(world, "shop", last + HOUR)
    world.publish()
    broken = {"success": False, "hours": {str(last - HOUR)[:13]: 4}}
    deep_run(client, last - 2 * HOUR, last + HOUR, client.clock.now(), broken, {"success": True})
    cells = cells_of(client, "shop")
    assert cells[key(last - HOUR)]["checks"]["failed"] == [{"check": "expectations.endpoint_stats", "bad_rows": 4}]
    assert not cells[key(last)]["checks"]["failed"]


def test_an_expectation_says_of_an_hour_what_it_saw_and_no_more(shops: tuple[Client, World, datetime]) -> None:
    """Alone it passes an hour; of an hour that was computed again since, neither its yes nor its no holds."""
    client, world, last = shops
    hours = [last - n * HOUR for n in range(4)]
    for at in hours:
        world.hour("e", at)
    computed(world, "shop", last + HOUR)
    began = client.clock.now() - timedelta(minutes=10)
    for at in hours[2:]:
        again = {"t": began + timedelta(minutes=5), "h": at}
        world.write((f"UPDATE {TABLE} SET restated_at = $t WHERE stat_hour = $h", again))
    world.publish()
    broken = {"success": False, "hours": {str(at)[:13]: 1 for at in hours[1:3]}}
    deep_run(client, hours[-1], last + HOUR, began, broken)
    cells = cells_of(client, "shop")
    found = [cells[key(at)]["checks"] for at in hours]
    assert [one["state"] for one in found] == ["passed", "failed", "outdated", "outdated"]
    assert [len(one["failed"]) for one in found] == [0, 1, 0, 0]
    assert {(one["evaluated"], one["checked_at"]) for one in found} == {(1, f"{began.isoformat()}Z")}
    audited = AuditResult("M-901", AUDIT, "x", 0)
    partition_checks.record(
        StateStore.of(client.settings), [audited], "endpoint", ["shop"], hours[-1], last + HOUR, client.clock.now()
    )
    states = [cells_of(client, "shop")[key(at)]["checks"]["state"] for at in hours]
    assert states == ["passed", "failed", "outdated", "passed"]


def test_a_suite_that_had_no_rows_to_judge_judged_no_hour(shops: tuple[Client, World, datetime]) -> None:
    client, world, last = shops
    world.hour("e", last)
    computed(world, "shop", last + HOUR)
    world.publish()
    deep_run(client, last, last + HOUR, client.clock.now())
    found = cells_of(client, "shop")[key(last)]["checks"]
    assert (found["state"], found["evaluated"]) == ("unchecked", 0)


def test_check_runs_stand_beside_the_source_they_found_something_at(shops: tuple[Client, World, datetime]) -> None:
    client, world, last = shops
    for name in ("shop", "depot"):
        world.hour("e", last, source=name)
    world.publish()
    found = Finding("shop", "missing_outputs", "missing_task_outputs", "high", "lost", last)
    outcomes = (
        CheckOutcome("shop", "missing_outputs", "findings", findings=(found,)),
        CheckOutcome("depot", "missing_outputs", "passed"),
    )
    run = CheckRun("r1", "quick", "schedule", "issues_detected", last, last, last, outcomes=outcomes)
    checks.finish(StateStore.of(client.settings), run)
    runs = {row["source_id"]: row["runs"] for row in client.get("/api/v1/partitions").json()["data"]["runs"]}
    assert {name: due[0]["status"] for name, due in runs.items()} == {"shop": "issues_detected", "depot": "healthy"}
    for source, tone in (("shop", "unhealthy"), ("depot", "healthy")):
        row = next(part for part in shown(client, source).split("<tr>") if "Check runs" in part)
        assert re.findall(r'class="cell (\w+)"[^>]*><a', row) == [tone]


@pytest.mark.parametrize(
    ("params", "name"),
    [({"grain": "minute"}, "grain"), ({"from": "yesterday"}, "from"), ({"source": "none"}, "source"),
     ({"from": "2026-01-01", "to": "2026-02-01"}, "from"),
     ({"from": "9999-12-31T20:00:00Z", "to": "9999-12-31T23:30:00Z"}, "to"),
     ({"from": "9999-12-20", "to": "9999-12-31T01:00:00Z", "grain": "day"}, "to")],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_names_what_is_wrong(
    shops: tuple[Client, World, datetime], params: dict[str, str], name: str
) -> None:
    client, world, _ = shops
    world.publish()
    answer = client.get("/api/v1/partitions", **params)
    assert answer.status_code == 400
    assert name in answer.json()["message"]


def test_the_link_of_the_page_asks_for_what_the_page_shows(shops: tuple[Client, World, datetime]) -> None:
    client, world, last = shops
    world.hour("e", last)
    computed(world, "shop", last)
    world.publish()
    for choice, number in (("48h", 48), ("30d", 30)):
        page = client.get("/partitions", shown=choice, source="shop", lang="en").text
        link = html.unescape(re.search(r'href="(/api/v1/partitions[^"]+)"', page).group(1))  # type: ignore[union-attr]
        data = client.get(link).json()["data"]
        assert all(len(row["cells"]) == number for row in data["items"])
        assert page.count('<th scope="col" title=') == number


def test_ranges_that_nobody_asks_for_any_more_are_not_kept(shops: tuple[Client, World, datetime]) -> None:
    client, world, last = shops
    world.hour("e", last)
    computed(world, "shop", last)
    world.publish()
    services = Services.of(client.settings, client.clock)
    try:
        for n in range(1, 20):
            with services.published.look() as look:
                start = last - n * HOUR
                (row,) = [
                    row
                    for row in partition_rows.rows(services, look, ["shop"], "hour", start, last + HOUR)
                    if row["table"] == TABLE
                ]
                assert [cell["from"] for cell in row["cells"]] == [start + k * HOUR for k in range(n + 1)]
        kept = [*services._answers, *(one for one in services._newest if one[0] == "partitions")]
        assert kept == [("partitions", "hour", "shop")]
    finally:
        services.close()


def test_our_own_statistics_are_shown_where_we_are_named_and_can_be_chosen(
    shops: tuple[Client, World, datetime],
) -> None:
    """The page shows the rows that the API has for ``_self``; without a name it is of the sources alone, as the API is."""
    client, world, hour = shops
    world.write(
        ("INSERT INTO mart.job_hourly_stats (source_id, job_id, stat_hour, state, revision) VALUES ('_self', 'j', $t, 'closed', 1)",
         {"t": hour}),
        world._changed("mart.job_hourly_stats", hour),
    )  # fmt: skip
    world.hour("e", hour)
    world.publish()
    row = r'<tr><th scope="row">(\w+)</th><td>([^<]+)<'
    assert re.findall(row, shown(client, "_self")) == [("_self", "Jobs · hour")]
    assert "<option selected>_self</option>" in shown(client, "_self")
    listed = client.get("/api/v1/partitions", source="_self").json()["data"]["items"]
    assert [(one["source_id"], one["table"]) for one in listed] == [("_self", "mart.job_hourly_stats")]
    whole = shown(client, "")
    assert {source for source, _ in re.findall(row, whole)} == {"shop"}
    assert "<option>_self</option>" in whole
