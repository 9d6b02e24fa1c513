"""A number in a table leads to a list of as many (S-804).

What belongs here: numbers of checks and repairs. What does not: runs of jobs (``test_runs_of_jobs``), the demo (``e2e``).
"""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines.state import tables as t

from .conftest import SOURCE, Client, Serve, data, with_world
from .stored import fill


def linked(page: str, target: str) -> list[tuple[str, int]]:
    """Links whose address has ``target`` in it and whose text is a number."""
    found = re.findall(rf'<a href="([^"]*{target}[^"]*)">(?:<b>)?([\d,]+)(?:</b>)?</a>', page)
    return [(html.unescape(link), int(n.replace(",", ""))) for link, n in found]


def total_of(client: Client, link: str) -> int:
    """How many the list says it has."""
    found = re.findall(r"([\d,]+) in all", client.get(link, lang="en").text)
    return int(found[-1].replace(",", "")) if found else 0


def test_findings_of_a_check_run_lead_to_them(serve: Serve) -> None:
    client, _ = with_world(serve, [SOURCE])
    state, now = StateStore.of(client.settings), client.clock.now()
    for n in range(3):
        begun = CheckRun(f"r{n}", "quick", "schedule", "running", now - timedelta(minutes=n), now)
        checks.start(state, begun)
        found = tuple(
            Finding("shop", "c", "missing_task_outputs", "high", f"{k}", now, labels={"endpoint": f"{k}"})
            for k in range(n)
        )
        outcome = CheckOutcome("shop", "c", "findings" if found else "passed", now, now, findings=found)
        checks.finish(state, replace(begun, status="issues_detected", ended_at=now, outcomes=(outcome,)))
    numbers = linked(client.get("/checks", lang="en").text, "#findings")
    assert sorted(n for _, n in numbers) == [0, 1, 2]
    for link, n in numbers:
        assert total_of(client, link) == n, link


def test_classes_of_a_plan_lead_to_their_tasks(serve: Serve) -> None:
    client, _ = with_world(serve, [SOURCE])
    with_plan(client, ["eligible", "eligible", "no_remote_id"])
    page = client.get("/repair/plans/P1", lang="en").text
    numbers = linked(page[page.index("<table") :], "#items")
    assert [n for _, n in numbers] == [2, 1, 3]
    for link, n in numbers:
        assert total_of(client, link) == n, link


def test_counters_of_a_repair_lead_to_lists_of_as_many_and_nowhere_where_none_is(serve: Serve) -> None:
    """A later run changes what became of the tasks of an earlier one: then no list has as many."""
    client, _ = with_world(serve, [SOURCE])
    with_plan(
        client, ["eligible"] * 5 + ["no_remote_id"], eligible=5, tasks_committed=2, already_present=1, failed=0,
        not_reached=2, rows_inserted=1, rows_planned=9,
    )  # fmt: skip
    state = StateStore.of(client.settings)
    outcomes = ["deleted", "deleted", "modified_since"]
    with state.begin() as con:
        for seq, word in enumerate(("committed", "committed", "already_present", "not_reached", "pending")):
            con.execute(t.repair_item.update().where(t.repair_item.c.seq == seq).values(run_state=word))
        run = dict(con.execute(t.repair_run.select()).mappings().one())
        con.execute(t.repair_run.insert().values(run | {
            "run_id": "B1", "kind": "rollback", "counters": {"rows_journaled": 3, "deleted": 2, "modified_since": 1,
            "already_absent": 0, "blocked_by_reference": 0}, "verification": {"selection": {"run_id": "R1"}, "rows": [
                {"task_key": f"t{n}", "pk": {"id": n}, "natural_key": "k", "outcome": word} for n, word in enumerate(outcomes)
            ]},
        }))  # fmt: skip
    page = client.get("/repair/runs/R1", lang="en").text
    facts = page[page.index("Counters</h2>") : page.index("</dl>", page.index("Counters</h2>"))]
    numbers = linked(facts, "#")
    # Not those that were not reached, of which there are fewer by now, and not the rows that were planned.
    assert sorted(n for _, n in numbers) == [0, 1, 1, 2, 5]
    for link, n in numbers:
        assert total_of(client, "/repair/runs/R1" + link if link[0] == "#" else link) == n, link
    assert data(client, "/api/v1/repair/plans/P1/items", class_="eligible", run_state="committed")["total"] == 2
    file = client.get("/download/plan_items.csv", plan="P1", class_="eligible", run_state="committed").text
    assert len(file.splitlines()) == 3
    numbers = linked(client.get("/repair/runs/B1", lang="en").text, "#rows")
    assert sorted(n for _, n in numbers) == [0, 0, 1, 2, 3]
    for link, n in numbers:
        assert f"({n})" in client.get(link, lang="en").text, link


def test_successes_of_a_channel_lead_to_as_many_messages_and_nowhere_where_a_source_sent_some_itself(
    serve: Serve,
) -> None:
    """M-702: attempts are counted; of those that failed, and of those of a source, there is no list."""
    client, world = with_world(serve, [SOURCE])
    fill(client.settings, client.clock)
    now = client.clock.now()
    tried = [("N1", 1, "ops", True), ("N2", 1, "mail", False), ("N2", 2, "mail", True)]
    with StateStore.of(client.settings).begin() as con:
        known = dict(con.execute(t.notification.select()).mappings().one())
        con.execute(t.notification.insert().values(known | {"notification_id": "N2", "channel": "mail", "attempts": 2}))
        con.execute(t.notification_attempt.insert(), [
            {"notification_id": id_, "attempt_no": n, "channel": channel, "at": now, "ok": ok} for id_, n, channel, ok in tried
        ])  # fmt: skip
    world.messages("MAIL", now - timedelta(days=1), ok=4)
    world.publish()
    page = client.get("/scheduler-monitoring", lang="en").text
    numbers = linked(page, "/alerts/notifications")
    assert [n for _, n in numbers] == [1]
    assert total_of(client, numbers[0][0]) == 1
    assert re.search(r'<td class="key">MAIL</td><td class="n">5</td><td class="n">1</td>', page)


def test_the_window_of_the_task_monitor_stays_with_what_is_chosen_and_can_be_taken_away(serve: Serve) -> None:
    """From inclusive, to exclusive, by creation; the same in the file."""
    client, world = with_world(serve, [SOURCE])
    now = client.clock.now()
    for hours in (1, 2, 3):
        world.task(f"t{hours}", "succeeded", ago=timedelta(hours=hours))
    world.publish()
    during = {"from": f"{now - timedelta(hours=3)}Z", "to": f"{now - timedelta(hours=1)}Z"}
    page = client.get("/tasks", show="all", lang="en", **during).text
    assert "2 in all" in page
    assert page.count('type="hidden" name="from"') == page.count('type="hidden" name="to"') == 1
    file = next(html.unescape(one) for one in re.findall(r'href="(/download/tasks.csv[^"]*)"', page))
    assert len(client.get(file).text.splitlines()) == 3
    away = re.search(r'<a href="([^"]*)">At any time</a>', page)
    assert away
    assert "3 in all" in client.get(html.unescape(away[1]), lang="en").text
    for wrong in ({"from": "soon"}, {"from": "2026-02-03", "to": "2026-02-02"}):
        assert client.request("GET", "/tasks", params=wrong).status_code == 400, wrong


def with_plan(client: Client, classes: list[str], **counters: Any) -> None:
    """The plan P1 with such tasks and its run R1 with such counters; a row of the journal."""
    fill(client.settings, client.clock)
    with StateStore.of(client.settings).begin() as con:
        con.execute(t.repair_item.delete())
        con.execute(t.repair_item.insert(), [
            {"plan_id": "P1", "seq": n, "task_key": f"t{n}", "tries": 0, "run_state": "pending", "rows": [], "class": name}
            for n, name in enumerate(classes)
        ])  # fmt: skip
        known = {name: classes.count(name) for name in classes}
        con.execute(t.repair_plan.update().values(
            counters={"candidates": len(classes), "classes": known, "eligible": known["eligible"]}
        ))  # fmt: skip
        con.execute(t.repair_run.update().values(counters=counters))


def test_a_window_of_other_years_is_shown_with_its_years(serve: Serve) -> None:
    client, _ = with_world(serve, [SOURCE])
    page = client.get("/tasks?show=all&from=2020-01-01&to=2030-01-01", lang="en").text
    assert "2020-01-01" in page[page.index("Created 20") :]
    assert "2030-01-01" in page[page.index("Created 20") :]
