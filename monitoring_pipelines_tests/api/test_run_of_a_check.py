"""A check run leads to the run of Dagster that made it, and says when there is none (S-233).

What belongs here: the page and the API about one run. What does not: that Dagster hands its id on (``dagster/test_check_jobs``).
"""

from __future__ import annotations

import re
from datetime import timedelta

from monitoring_pipelines.quality.model import CheckRun, RunStatus
from monitoring_pipelines.state import StateStore, checks
from monitoring_pipelines_tests.api.conftest import NOW, Serve, data

DAGSTER = "http://dagster.example:3000"
MADE_BY = "0f2c7b1e-aaaa-bbbb-cccc-123456789012"


def test_a_check_run_leads_to_its_own_run_of_dagster_or_says_that_it_has_none(serve: Serve) -> None:
    client = serve(dagster_url=DAGSTER)
    state = StateStore.of(client.settings)
    cases: dict[str, tuple[str, RunStatus, str | None, str]] = {
        "by_dagster": ("schedule", "healthy", MADE_BY, MADE_BY),
        "by_api": ("api", "healthy", None, "none: made by the API or the command line"),
        "by_hand": ("manual", "issues_detected", None, "none: made by the API or the command line"),
        "not_made": ("schedule", "missed", None, "none: it was not executed"),
        "late": ("schedule", "skipped", MADE_BY, MADE_BY),
        "older": ("schedule", "healthy", None, "–"),
    }
    for n, (run_id, (trigger, status, made_by, _)) in enumerate(cases.items()):
        due = NOW - timedelta(minutes=n)
        checks.finish(state, CheckRun(run_id, "quick", trigger, status, due, due, due, dagster_run_id=made_by))
    for run_id, (_, _, made_by, shown) in cases.items():
        page = client.get(f"/checks/{run_id}", lang="en").text
        said = re.search(r"<dt>Run of Dagster</dt><dd>(.*?)</dd>", page)
        assert said
        own, _, all_of_type = said[1].partition(" · ")
        assert re.sub("<[^>]*>", "", own) == shown, run_id
        assert ("href" in own) == (made_by is not None), run_id
        assert made_by is None or f'href="{DAGSTER}/runs/{made_by}"' in own
        assert "type%3Dquick_check" in all_of_type
        assert data(client, f"/api/v1/checks/runs/{run_id}")["check_run"]["dagster_run_id"] == made_by
    state.dispose()


def test_without_the_address_of_dagster_the_id_of_the_run_still_stands_there(serve: Serve) -> None:
    client = serve()
    state = StateStore.of(client.settings)
    checks.start(state, CheckRun("r", "full", "schedule", "running", NOW, NOW, dagster_run_id=MADE_BY))
    state.dispose()
    page = client.get("/checks/r", lang="en").text
    assert f"<dt>Run of Dagster</dt><dd>{MADE_BY}</dd>" in page
