"""``/checks/runs`` (S-233) and starting a check."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring_pipelines.api import children
from monitoring_pipelines.api.access import Needs, Principal
from monitoring_pipelines.api.answers import ApiError, bad, missing, packed, responses, v1, v1_body
from monitoring_pipelines.api.params import WHOLE, AsyncParam, PageParam, SourceParam, chosen_sources, sort_by
from monitoring_pipelines.api.services import Services, audit, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.quality.files import finding_dict, run_dict
from monitoring_pipelines.quality.model import CheckRun
from monitoring_pipelines.severity import Severity
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state.ids import new_id

router = APIRouter(route_class=StrictRoute, prefix="/api/v1/checks", tags=["checks"])
RunId = Annotated[str, Path(min_length=1, max_length=40)]
SortParam = Annotated[str | None, sort_by(stored.RUN_ORDERS)]
FindingSort = Annotated[str | None, sort_by(stored.FINDING_ORDERS)]
FindingSeverity = Severity | None
RunType = Literal["quick", "full", "deep"]


@router.get("/runs", responses=responses("v1", data="CheckRuns"))
def listed(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    type: Literal["quick", "full", "deep", "manual", "report"] | None = None,  # noqa: A002 - the parameter's name
    status: Literal["running", "healthy", "issues_detected", "error", "skipped", "missed"] | None = None,
    sort: SortParam = None,
) -> Response:
    """Check runs, executed or not, newest first unless sorted otherwise."""
    services = services_of(request)
    if source is not None:
        chosen_sources(services, source)
    runs, total = stored.page(
        services.state, run_type=type, status=status, source_id=source, number=page.number, size=page.size, sort=sort
    )
    counts = stored.counts_of(services.state, [run.run_id for run in runs])
    return v1(request, page.wrap([brief(run, counts.get(run.run_id, {})) for run in runs], total))


def brief(run: CheckRun, counts: dict[str, int]) -> dict[str, Any]:
    """A run as a line of a list."""
    names = ("run_id", "type", "trigger", "status", "scheduled_at", "started_at", "ended_at", "window_from",
             "window_to", "window_hours", "error", "failed_sources", "dagster_run_id")  # fmt: skip
    shown = {name: getattr(run, name) for name in names}
    return shown | {"alerts_by_severity": counts, "total_alerts": sum(counts.values())}


@router.get("/runs/{run_id}", responses=responses("v1", 404, data="WholeCheckRun"))
def one(request: Request, run_id: RunId) -> Response:
    """A run with its results and findings."""
    services = services_of(request)
    progress = stored.progress_of(services.state, run_id)
    if progress is None:
        raise missing("unknown check run")
    if progress[0] == "running":
        return v1(request, _whole(services, run_id))
    # A run that has ended changes only by being made again (S-703), and may have thousands of findings: the one that was asked
    # last is kept.
    kept = services.newest(
        ("check run",), (run_id, *progress), lambda: packed(v1_body(_whole(services, run_id), None), None)
    )
    return kept.answer(request)


def _whole(services: Services, run_id: str) -> dict[str, Any]:
    run = stored.load(services.state, run_id)
    if run is None:
        raise missing("unknown check run")
    return whole(services, run)


def whole(services: Services, run: CheckRun) -> dict[str, Any]:
    """A run with everything it found."""
    results = []
    findings: list[dict[str, Any]] = []
    for outcome in run.outcomes:
        own = [finding_dict(services.settings, found) for found in outcome.findings]
        results.append(vars(outcome) | {"findings": own})
        findings += own
    counts = stored.severity_counts(run.findings)
    return {"check_run": brief(run, counts), "check_results": results, "findings": findings}


@router.get("/runs/{run_id}/findings", responses=responses("v1", 404, data="Findings"))
def findings(
    request: Request, run_id: RunId, page: PageParam, severity: FindingSeverity = None, source: SourceParam = None,
    sort: FindingSort = None,
) -> Response:  # fmt: skip
    """What a run found, the gravest first unless sorted otherwise."""
    services = services_of(request)
    return v1(request, page.wrap(*found_by(services, run_id, severity, source, sort, page.number, page.size)))


def found_by(
    services: Services, run_id: str, severity: str | None, source: str | None, sort: str | None, page: int, size: int
) -> tuple[list[dict[str, Any]], int]:
    """A page of what a run found, and how many there are; 404 when the run is unknown."""
    if source is not None:
        chosen_sources(services, source)
    if stored.progress_of(services.state, run_id) is None:
        raise missing("unknown check run")
    rows, total = stored.findings_page(
        services.state, run_id, severity=severity, source_id=source, number=page, size=size, sort=sort
    )
    return [finding_dict(services.settings, found) for found in rows], total


class CheckBody(BaseModel):
    """What to check."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: RunType
    hours_back: Annotated[int, Field(ge=1, le=720), WHOLE] | None = None
    source: Annotated[str, Field(max_length=32)] | None = None


@router.post("/runs", responses=responses("v1", 404, 409, data="CheckReport", accepted="CheckStarted"))
def start(
    request: Request, body: CheckBody, _who: Annotated[Principal, Depends(Needs("operator"))],
    at_once: AsyncParam = False,
) -> Response:  # fmt: skip
    """Run a check now: its result, or 202 and its id with ``async`` or after ``api.sync_check_timeout_s``."""
    services = services_of(request)
    if body.type == "deep" and body.hours_back is not None:
        raise bad("hours_back: not for deep checks")
    checked_source(services, body.source)
    started = run(request, body.type, body.hours_back, body.source, wait=not at_once)
    if started.run is None:
        return v1(request, {"run_id": started.run_id, "status": "running"}, status=202)
    return v1(request, run_dict(services.settings, started.run))


def checked_source(services: Services, source: str | None) -> None:
    """Refuse a source that cannot be checked.

    Raises:
        ApiError: 400 for an unknown name, and for the product itself.
    """
    if source is not None:
        chosen_sources(services, source)
    if source == "_self":
        raise bad("source: the product itself has no data to check")


def run(
    request: Request, run_type: RunType, hours_back: int | None, source: str | None, *, wait: bool
) -> children.Started:
    """Run a check. The audit log has that it was asked for before it begins, then what came of it: a crash leaves the first.

    Raises:
        ApiError: As ``children.check``.
    """
    services = services_of(request)
    run_id = new_id(services.clock.now())
    asked = {"type": run_type, "hours_back": hours_back, "source": source}
    audit(
        request, "check.run", run_type,
        {name: value for name, value in asked.items() if value is not None} | {"run_id": run_id},
    )  # fmt: skip
    try:
        started = children.check(services, run_id, run_type, hours_back, source, wait=wait)
    except Exception as error:
        why = error.reason if isinstance(error, ApiError) else getattr(error, "code", None)
        audit(request, "check.run.outcome", run_type, {"run_id": run_id, "error": why or type(error).__name__})
        raise
    status = "running" if started.run is None else started.run.status
    audit(request, "check.run.outcome", run_type, {"run_id": run_id, "status": status})
    return started
