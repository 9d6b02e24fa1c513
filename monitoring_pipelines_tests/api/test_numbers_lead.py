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

from .conftest import SOURCE, Client, Serve, with_world
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
