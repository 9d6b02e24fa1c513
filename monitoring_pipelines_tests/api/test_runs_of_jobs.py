"""Lists of runs of jobs by what they ended in and when: the rows behind the failure heat map (M-505, S-427).

What belongs here: which runs a list has. What does not: that pages and API agree (``test_api_links``).
"""

from __future__ import annotations

import html
import re
from datetime import timedelta

from monitoring_pipelines_tests.api.conftest import SOURCE, Serve, data, with_world

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RUNS = "/api/v1/scheduler/runs"
SCHED = SOURCE | {"id": "sched", "preset": "scheduler"}


def test_a_cell_of_the_heat_map_leads_to_the_runs_it_counts_whatever_their_jobs_are_called(serve: Serve) -> None:
    """Timeouts are failures; a job without a category is one of them; a run that ended before the window is not."""
    client, world = with_world(serve, [SCHED])
    ended = {"a": (1, 5, 30), "b/of it": (2, 23.9, 24.1), "plain": (3,), "good": (1,)}
    for job, hours in ended.items():
        world.job(job, "" if job == "plain" else "billing", source="sched")
        for n, ago in enumerate(hours):
            outcome = "success" if job == "good" else ("failure", "timeout")[n % 2]
            world.job_run(job, outcome, 40 * 60_000, ago=ago * HOUR, source="sched")
    world.publish()
    page = client.get("/scheduler-monitoring", scope="all", tab="heatmap", lang="en").text
    linked = [
        (html.unescape(link), int(n))
        for link, n in re.findall(r'<a href="([^"]*outcome=[^"]*)">(?:[^\n]*? )??(\d+)</a>', page)
    ]
    assert [n for n in sorted(n for _, n in linked) if n] == [1, 1, 2, 2, 4]
    for link, n in linked:
        listed = client.get(link, lang="en").text
        api = next(html.unescape(one) for one in re.findall(r'href="(/api/[^"]*/runs[^"]*)"', listed))
        assert data(client, api)["total"] == n, link
        assert (f"{n} in all" if n else "No run matches") in listed, link
        file = next(html.unescape(one) for one in re.findall(r'href="(/download/[^"]*runs.csv[^"]*)"', listed))
        assert len(client.get(file).text.splitlines()) == n + 1, link


def test_runs_of_all_jobs_are_those_of_their_scope_in_the_order_asked_for(serve: Serve) -> None:
    client, world = with_world(serve, [SCHED])
    for n, (job, outcome) in enumerate((("a", "success"), ("b", "missed"), ("a", "timeout"), ("c", "failure"))):
        world.job(job, "x", source="sched")
        world.job_run(job, outcome, 1000 * (n + 1), ago=(n + 1) * HOUR, source="sched")
    world.job_run("minute_tick_job", "failure", 10, source="_self")
    world.publish()

    def asked(**more: str) -> list[tuple[str, str]]:
        return [(row["job_id"], row["outcome"]) for row in data(client, RUNS, **more)["items"]]

    assert asked(scope="mapped") == [("a", "success"), ("b", "missed"), ("a", "timeout"), ("c", "failure")]
    assert asked(scope="mapped", sort="-duration_ms", outcome="failure,timeout") == [("c", "failure"), ("a", "timeout")]
    assert asked(scope="self") == [("minute_tick_job", "failure")]
    assert asked(scope="mapped", category="y") == asked(scope="mapped", category="") == []
    last = data(client, RUNS, scope="mapped", page_size="3", page="2")
    assert [last["total"], len(last["items"])] == [4, 1]
    for wrong in ({"outcome": "lost"}, {"from": "soon"}, {"from": "2026-02-03", "to": "2026-02-02"}, {"job": "a"}):
        assert client.request("GET", RUNS, params=wrong).status_code == 400, wrong


def test_a_window_may_begin_with_the_calendar(serve: Serve) -> None:
    """Nothing is subtracted from the first instant that can be written."""
    client, world = with_world(serve, [SCHED])
    world.job_run("a", "failure", 10, source="sched")
    world.publish()
    assert data(client, RUNS, from_="0001-01-01", scope="mapped")["total"] == 1


def test_successes_and_failures_of_a_job_lead_to_as_many_runs_or_to_how_many_retention_removed(serve: Serve) -> None:
    """M-502, S-804: counters are over all time and so are their lists; a timeout is a failure."""
    client, world = with_world(serve, [SCHED])
    for job, outcomes in {"a": ("success", "success", "failure", "timeout", "missed"), "b/of it": ("success",)}.items():
        world.job(job, "billing", source="sched")
        for n, outcome in enumerate(outcomes):
            world.job_run(job, outcome, 1000, ago=(1 + 30 * n) * HOUR, source="sched")
    world.write(
        (
            (
                "INSERT INTO core.job_past (source_id, job_id, success_count, failure_count, timeout_count, missed_count, "
                "skipped_count, duration_n, total_duration_ms) VALUES ('sched', 'b/of it', 4, 3, 1, 0, 0, 7, 7)"
            ),
            {},
        )
    )
    world.publish()
    page = client.get("/scheduler-monitoring", scope="mapped", lang="en").text
    linked = [
        (html.unescape(link), int(n))
        for link, n in re.findall(r'<a href="([^"]*&amp;outcome=[^"]*#runs)">(\d+)</a>', page)
    ]
    assert [n for _, n in linked] == [2, 2, 5, 3]
    for (link, n), kept in zip(linked, (2, 2, 1, 0), strict=True):
        listed = client.get(link, lang="en").text
        assert (f"{kept} in all" if kept else "No run matches") in listed, link
        removed = [int(one) for one in re.findall(r"(\d+) older ones are counted", listed)]
        assert sum(removed) == n - kept, link
