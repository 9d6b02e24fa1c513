"""Runs of jobs: of one job, and of all jobs of a category with what they ended in and when, as the heat map counts (S-815, S-816).

What belongs here: lists of runs. What does not: figures of jobs and their list (``scheduler``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, chart, render, spans_of
from monitoring_pipelines.api.pages.scheduler import TONES, called, why_not
from monitoring_pipelines.api.params import FromParam, PageParam, SourceParam, ToParam
from monitoring_pipelines.api.routes.compat_scheduler import JobId, Scope, find_job
from monitoring_pipelines.api.routes.job_runs import CategoryParam, RunSort, keys_of, run_filter
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.entities import JOB_RUN_OUTCOMES
from monitoring_pipelines.published import jobs, timeline
from monitoring_pipelines.published.job_runs import FAILED, RunFilter, runs
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.lake import LakeMissing

STRINGS = {
    "runs.title": ("任务执行记录", "Runs of jobs"),
    "runs.outcome_failed": ("失败（含超时）", "Failed (timeouts too)"),
    "runs.outcome_finished": ("已结束", "Finished"),
    "runs.outcome_unrun": ("错过与跳过", "Missed and skipped"),
    "runs.window": ("结束于 {start} 至 {end}", "Ended {start} to {end}"),
    "runs.none": ("没有符合条件的执行记录", "No run matches"),
    "runs.everything": ("全部执行记录", "All runs"),
    "runs.gone": (
        "累计次数还包含 {n} 次更早的执行，其记录已按保留期删除",
        "{n} older ones are counted as well; retention has removed their rows",
    ),
}
router = APIRouter(include_in_schema=False, prefix="/scheduler-monitoring")
#: Runs in the chart of a job.
CHARTED = 200
_WORD = f"({'|'.join(JOB_RUN_OUTCOMES)})"
OutcomeParam = Annotated[str, Query(max_length=200, pattern=f"^({_WORD}(,{_WORD})*)?$")]
#: What several outcomes together are called: the filter of a figure that counts them.
TOGETHER = {
    ",".join(FAILED): "runs.outcome_failed", ",".join(("success", *FAILED)): "runs.outcome_finished",
    "missed,skipped": "runs.outcome_unrun",
}  # fmt: skip


def outcomes(view: View, chosen: str) -> list[tuple[str, str]]:
    """What the filter offers: (value, text); a list nobody has a name for stands as it is."""
    known = {"": view.t("common.all")} | {value: view.t(key) for value, key in TOGETHER.items()}
    known |= {word: view.word("jobstatus", word) for word in JOB_RUN_OUTCOMES}
    return list((known if chosen in known else known | {chosen: chosen}).items())


@router.get("/runs")
def listed(
    request: Request, page: PageParam, scope: Scope | None = None, category: CategoryParam = None,
    outcome: OutcomeParam = "", start: FromParam = None, end: ToParam = None, sort: RunSort = None,
) -> Response:  # fmt: skip
    """The runs of all jobs of a scope or category, newest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    wanted = run_filter(services, outcome, start or None, end or None)
    found: list[dict[str, Any]] = []
    total, as_of = 0, None
    try:
        with services.published.look() as look:
            as_of = look.as_of
            keys = keys_of(services, look, scope, category)
            found, total = runs(look, keys, page.offset, page.size, sort, wanted)
    except LakeMissing:
        found = []
    return render(
        request, "job_runs.html", title=view.t("runs.title"), as_of=as_of, view=view, page=page.wrap(found, total),
        tones=TONES, scope=scope, category=category, outcome=outcome, outcomes=outcomes(view, outcome),
        during=view.span_said("runs.window", wanted.start, wanted.end), with_jobs=True, no_runs="runs.none", sort=sort,
        # Jobs without a category are asked for by an empty one.
        bare="?category=" if category == "" else "",
        query={"scope": scope, "category": category, "outcome": outcome, "from": start, "to": end, "sort": sort},
    )  # fmt: skip


@router.get("/jobs/{job_id:path}")
def one(
    request: Request, job_id: JobId, page: PageParam, source: SourceParam = None, outcome: OutcomeParam = "",
    start: FromParam = None, end: ToParam = None, sort: RunSort = None,
) -> Response:  # fmt: skip
    """One job and its runs."""
    view = View(request)
    services = services_of(request)
    wanted = run_filter(services, outcome, start or None, end or None)
    row = called(view, [find_job(services, job_id, source or None)])[0]
    key = [(row["source_id"], job_id)]
    with services.published.look() as look:
        newest, total = runs(look, key, 0, CHARTED)
        found = newest[page.offset : page.offset + page.size]
        if sort is not None or wanted != RunFilter() or page.offset + page.size > CHARTED < total:
            found, total = runs(look, key, page.offset, page.size, sort, wanted)
        spec = durations(view, look, row, newest)
        as_of = look.as_of
    return render(
        request, "job.html", title=row["job_name"], as_of=as_of, view=view, job=row, page=page.wrap(found, total),
        tones=TONES, spec=spec, ours=row["source_id"] == jobs.SELF, outcome=outcome, outcomes=outcomes(view, outcome),
        during=view.span_said("runs.window", wanted.start, wanted.end), with_jobs=False, sort=sort, gone=gone(row, wanted, total),
        no_runs="jobs.no_runs" if wanted == RunFilter() else "runs.none",
        query={"source": row["source_id"], "outcome": outcome, "from": start, "to": end, "sort": sort},
        why=lambda one: why_not(view, one),
    )  # fmt: skip


def gone(job: Mapping[str, Any], wanted: RunFilter, total: int) -> int:
    """Runs in the counters of a job that a list of all of these outcomes no longer has: counters never fall (M-502)."""
    if wanted.start or wanted.end or not wanted.outcomes or "running" in wanted.outcomes:
        return 0
    # A timeout is a failure among the counters, and an outcome of its own among the runs.
    counted = sum(
        job[f"{word}_count"] - (job["timeout_count"] if word == "failure" else 0) for word in set(wanted.outcomes)
    )
    return max(counted - total, 0)


def durations(view: View, look: Look, job: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Durations of the newest runs over time, with the SLA as a line; None without runs."""
    known = [row for row in reversed(rows) if row["ended_at"] is not None and row["duration_ms"] is not None]
    if not known:
        return None
    series = [(view.t("jobs.duration"), [float(row["duration_ms"]) for row in known], "--s1")]
    if job["sla_seconds"]:
        series.append((view.t("jobs.sla"), [1000 * float(job["sla_seconds"])] * len(known), "--s3"))
    unseen = timeline.blind(look, known[0]["ended_at"], view.services.moment())
    return chart([row["ended_at"] for row in known], series, view.zone, unit="ms", blind=spans_of(unseen))
