"""``/repair``: plans, approval, runs, journal (S-260, R-903)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring_pipelines.api import children
from monitoring_pipelines.api.access import Needs, Principal, require
from monitoring_pipelines.api.answers import bad, conflict, missing, responses, v1
from monitoring_pipelines.api.params import (
    WHOLE,
    AsyncParam,
    PageParam,
    SourceParam,
    chosen_sources,
    list_of,
    sort_by,
    window,
    words,
)
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.compensation import approve as approvals
from monitoring_pipelines.compensation.model import CLASSES, ItemState, RepairRefused
from monitoring_pipelines.errors import Refused, UsageError
from monitoring_pipelines.state import repair as stored
from monitoring_pipelines.state.alerts import find_alert
from monitoring_pipelines.state.ids import new_id

router = APIRouter(route_class=StrictRoute, prefix="/api/v1/repair", tags=["repair"])
Operator = Annotated[Principal, Depends(Needs("operator"))]
Admin = Annotated[Principal, Depends(Needs("admin"))]
#: A dry run needs an operator, rolling back an admin (S-002).
Reverter = Annotated[Principal, Depends(Needs("operator", at_times="admin"))]
_BEGUN = responses("v1", 404, 409, accepted="RepairRunStarted")
PlanSort = Annotated[str | None, sort_by(stored.PLAN_ORDERS)]
ItemSort = Annotated[str | None, sort_by(stored.ITEM_ORDERS)]
JournalSort = Annotated[str | None, sort_by(stored.JOURNAL_ORDERS)]
ObjectId = Annotated[str, Path(min_length=1, max_length=40)]
PlanState = Literal["building", "ready", "approved", "applied", "paused", "aborted", "stale", "rejected", "partially_applied",
                    "rolled_back"]  # fmt: skip
PLAN_STATES = get_args(PlanState)


@router.get("/plans", responses=responses("v1", data="RepairPlans"))
def plans(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    state: Annotated[str | None, list_of(PLAN_STATES)] = None,
    sort: PlanSort = None,
) -> Response:
    """Plans with their counters, newest first unless sorted otherwise."""
    services = services_of(request)
    if source is not None:
        chosen_sources(services, source)
    states = words(state, "state", PLAN_STATES) or ()
    with services.state.read() as con:
        rows = stored.list_plans(con, source, states, page.size, page.offset, sort)
        total = stored.count_plans(con, source, states)
    return v1(request, page.wrap(rows, total))


_Time = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]


class PlanBody(BaseModel):
    """What to plan: a window, the last hours, or tasks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[str, Field(min_length=1, max_length=32)]
    start: _Time | None = Field(None, alias="from")
    end: _Time | None = Field(None, alias="to")
    hours: Annotated[int, Field(ge=1, le=17520), WHOLE] | None = None
    task_ids: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=10_000)]
        | None
    ) = None
    max_tasks: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = None
    mode: Literal["only_if_empty", "add_missing"] | None = None
    #: Alert that the plan answers, so that both show each other.
    alert_id: Annotated[str, Field(min_length=1, max_length=40)] | None = None


@router.post("/plans", responses=responses("v1", 404, 409, data="WholeRepairPlan", accepted="RepairPlanStarted"))
def make_plan(request: Request, body: PlanBody, who: Operator, at_once: AsyncParam = False) -> Response:
    """Make a plan: the plan, or 202 and its id with ``async`` or after ``api.sync_check_timeout_s``; writes nothing."""
    services = services_of(request)
    chosen_sources(services, body.source)
    if body.source == "_self":
        raise bad("source: the product itself has nothing to repair")
    given = [body.task_ids is not None, body.hours is not None, body.start is not None or body.end is not None]
    if sum(given) > 1:
        raise bad("from: give one of from and to, hours, or task_ids")
    if body.alert_id is not None and find_alert(services.state, body.alert_id) is None:
        raise missing("unknown alert")
    now = services.clock.now()
    first, last = window(body.start, body.end, now, timedelta(hours=body.hours) if body.hours else None)
    if first is not None and last is None:  # a window that was only begun ends now, as in the job
        first, last = window(body.start, now.isoformat(), now)
    if body.task_ids is None and first is None:
        raise bad("from: give from (with or without to), hours, or task_ids")
    plan_id, is_made = children.plan(
        services, wait=not at_once, actor=who.name, source_id=body.source,
        window_from=first.isoformat() if first else None, window_to=last.isoformat() if last else None,
        task_ids=body.task_ids, max_tasks=body.max_tasks, mode=body.mode, alert_id=body.alert_id,
    )  # fmt: skip
    if not is_made:
        return v1(request, {"plan_id": plan_id, "state": "building"}, status=202)
    return v1(request, whole_plan(services, plan_id))


def whole_plan(services: Services, plan_id: str) -> dict[str, Any]:
    """A plan with its approval and runs; 404 when unknown."""
    try:
        with services.state.read() as con:
            plan = stored.get_plan(con, plan_id)
            return plan | {"approval": stored.get_approval(con, plan_id), "runs": stored.list_runs(con, plan_id)}
    except UsageError:
        raise missing("unknown repair plan") from None


@router.get("/plans/{plan_id}", responses=responses("v1", 404, data="WholeRepairPlan"))
def plan(request: Request, plan_id: ObjectId) -> Response:
    """One plan: scope, counters, approval, runs."""
    return v1(request, whole_plan(services_of(request), plan_id))


@router.get("/plans/{plan_id}/items", responses=responses("v1", 404, data="RepairItems"))
def items(
    request: Request,
    plan_id: ObjectId,
    page: PageParam,
    item_class: Annotated[Literal[CLASSES] | None, Query(alias="class")] = None,  # type: ignore[valid-type]
    run_state: ItemState | None = None,
    sort: ItemSort = None,
) -> Response:
    """Tasks of a plan with the rows it proposes, in its order unless sorted otherwise."""
    services = services_of(request)
    whole_plan(services, plan_id)
    with services.state.read() as con:
        rows = stored.get_items(con, plan_id, item_class, page.size, page.offset, sort, run_state)
        total = stored.count_items(con, plan_id, item_class, run_state)
    return v1(request, page.wrap(rows, total))


class ApproveBody(BaseModel):
    """What the approver saw."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plan_hash: Annotated[str, Field(min_length=1, max_length=128)]
    note: Annotated[str, Field(max_length=2000)] | None = None


@router.post("/plans/{plan_id}/approve", responses=responses("v1", 404, 409, data="WholeRepairPlan"))
def approve(request: Request, plan_id: ObjectId, body: ApproveBody, who: Admin) -> Response:
    """Approve a plan; the approver is the token's name."""
    services = services_of(request)
    whole_plan(services, plan_id)
    try:
        approvals.approve(
            services.settings,
            services.state,
            services.clock,
            plan_id,
            who.name,
            plan_hash=body.plan_hash,
            note=body.note,
        )
    except Refused as error:
        raise conflict(f"approve: {error.code}", error.code) from None
    except UsageError as error:
        raise bad(error.message) from None
    return v1(request, whole_plan(services, plan_id))


class RejectBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: Annotated[str, Field(max_length=2000)] | None = None


@router.post("/plans/{plan_id}/reject", responses=responses("v1", 404, 409, data="WholeRepairPlan"))
def reject(request: Request, plan_id: ObjectId, who: Admin, body: RejectBody | None = None) -> Response:
    """Reject a plan that was not applied."""
    services = services_of(request)
    whole_plan(services, plan_id)
    try:
        approvals.reject(services.state, services.clock, plan_id, who.name, body.note if body else None)
    except RepairRefused as error:
        raise conflict(f"reject: {error.code}", error.code) from None
    return v1(request, whole_plan(services, plan_id))


@router.post("/plans/{plan_id}/apply", status_code=202, responses=_BEGUN)
def apply(request: Request, plan_id: ObjectId, who: Admin) -> Response:
    """Apply an approved plan: 202 and the id of the run; refusals are 409 with the reason word."""
    services = services_of(request)
    whole_plan(services, plan_id)
    return _begin(request, services, "apply", who, plan_id=plan_id)


def _begin(request: Request, services: Services, action: str, who: Principal, **more: Any) -> Response:
    run_id = new_id(services.clock.now())
    children.repair(services, action, run_id, actor=who.name, **more)
    with services.state.read() as con:
        state = stored.run_state(con, run_id)
    return v1(request, {"run_id": run_id, "state": state or "starting"}, status=202)


def found_run(services: Services, run_id: str) -> dict[str, Any]:
    """The run; 404 when unknown."""
    try:
        with services.state.read() as con:
            return stored.get_run(con, run_id)
    except UsageError:
        raise missing("unknown repair run") from None


@router.get("/runs/{run_id}", responses=responses("v1", 404, data="RepairRun"))
def run(request: Request, run_id: ObjectId) -> Response:
    """One run with its counters (R-411) and verification."""
    return v1(request, found_run(services_of(request), run_id))


@router.get("/runs/{run_id}/journal", responses=responses("v1", 404, data="RepairJournal"))
def journal(request: Request, run_id: ObjectId, page: PageParam, sort: JournalSort = None) -> Response:
    """Rows a run inserted or removed, oldest first unless sorted otherwise."""
    services = services_of(request)
    found_run(services, run_id)
    with services.state.read() as con:
        rows = stored.journal_rows(con, run_id=run_id, limit=page.size, offset=page.offset, sort=sort)
        total = stored.count_journal(con, run_id)
    return v1(request, page.wrap(rows, total))


@router.post("/runs/{run_id}/resume", status_code=202, responses=_BEGUN)
def resume(request: Request, run_id: ObjectId, who: Admin) -> Response:
    """Go on with a run that crashed, paused or left failed items."""
    services = services_of(request)
    found_run(services, run_id)
    return _begin(request, services, "resume", who, run_id=run_id)


@router.post("/runs/{run_id}/verify", status_code=202, responses=_BEGUN)
def verify(request: Request, run_id: ObjectId, who: Operator) -> Response:
    """Compare the table with the journal of the run's plan."""
    services = services_of(request)
    found_run(services, run_id)
    return _begin(request, services, "verify", who, run_id=run_id)


class RollbackBody(BaseModel):
    """How to roll back; a dry run only says what would happen."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dry_run: bool = False
    task_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=10_000)] | None = (
        None
    )


@router.post("/runs/{run_id}/rollback", status_code=202, responses=_BEGUN)
def rollback(request: Request, run_id: ObjectId, who: Reverter, body: RollbackBody | None = None) -> Response:
    """Remove what a run inserted: 202 and the id of the rollback run. Only a dry run needs no admin token."""
    services = services_of(request)
    wanted = body or RollbackBody()
    if not wanted.dry_run:
        require(who, "admin")
    found_run(services, run_id)
    return _begin(
        request, services, "rollback", who, run_id=run_id, dry_run=wanted.dry_run, task_ids=wanted.task_ids or None
    )
