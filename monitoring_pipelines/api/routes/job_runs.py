"""Runs of jobs: of one (S-427), and of all jobs of a scope or category, as the failure heat map counts them (M-505).

What belongs here: reading runs. What does not: figures of jobs and starting them (``compat_scheduler``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import responses, v1
from monitoring_pipelines.api.params import FromParam, PageParam, SourceParam, ToParam, list_of, sort_by, window
from monitoring_pipelines.api.routes.compat_scheduler import JobId, Scope, find_job, job_rows
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.entities import JOB_RUN_OUTCOMES
from monitoring_pipelines.published.job_runs import RUN_ORDERS, RunFilter, runs
from monitoring_pipelines.published.reader import Look

router = APIRouter(route_class=StrictRoute, prefix="/api/v1/scheduler", tags=["scheduler"])
RunSort = Annotated[str | None, sort_by(RUN_ORDERS)]
OutcomeParam = Annotated[str | None, list_of(JOB_RUN_OUTCOMES)]
CategoryParam = Annotated[
    str | None, Query(max_length=255, description="Only runs of jobs of this category; empty: of jobs without one")
]


def run_filter(services: Services, outcome: str | None, start: str | None, end: str | None) -> RunFilter:
    """What the parameters ask for; 400 when the window has no length."""
    first, last = window(start, end, services.clock.now())
    return RunFilter(tuple(outcome.split(",")) if outcome else (), first, last)


@router.get("/jobs/{job_id:path}/runs", responses=responses("v1", 404, data="JobRuns"))
def of_job(
    request: Request, job_id: JobId, page: PageParam, source: SourceParam = None, outcome: OutcomeParam = None,
    start: FromParam = None, end: ToParam = None, sort: RunSort = None,
) -> Response:  # fmt: skip
    """The runs of a job, newest first unless sorted otherwise; ``from`` and ``to`` are about when they ended."""
    services = services_of(request)
    wanted = run_filter(services, outcome, start, end)
    name = find_job(services, job_id, source)["source_id"]
    with services.published.look() as look:
        rows, total = runs(look, [(name, job_id)], page.offset, page.size, sort, wanted)
        return v1(request, page.wrap(rows, total, source_id=name), as_of=look.as_of, look=look)


@router.get("/runs", responses=responses("v1", data="RunsOfJobs"))
def of_all(
    request: Request, page: PageParam, scope: Scope | None = None, category: CategoryParam = None,
    outcome: OutcomeParam = None, start: FromParam = None, end: ToParam = None, sort: RunSort = None,
) -> Response:  # fmt: skip
    """The runs of all jobs of a scope or category, newest first unless sorted otherwise; ``from`` and ``to`` are about when
    they ended.
    """
    services = services_of(request)
    wanted = run_filter(services, outcome, start, end)
    with services.published.look() as look:
        rows, total = runs(look, keys_of(services, look, scope, category), page.offset, page.size, sort, wanted)
        return v1(request, page.wrap(rows, total), as_of=look.as_of, look=look)


def keys_of(services: Services, look: Look, scope: Scope | None, category: str | None) -> list[tuple[str, str]]:
    """(source, job id) of the jobs of a scope; of one category unless None, where nothing stands for jobs without one."""
    return [
        (row["source_id"], row["job_id"])
        for row in job_rows(services, look, scope)
        if category is None or (row["category"] or "") == category
    ]
