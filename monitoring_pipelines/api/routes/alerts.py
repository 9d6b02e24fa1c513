"""``/alerts``, ``/silences`` and ``/notifications`` (S-240 to S-243)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring_pipelines.alerts import actions
from monitoring_pipelines.api import alert_rows
from monitoring_pipelines.api.access import Needs, Principal
from monitoring_pipelines.api.answers import bad, conflict, missing, responses, v1
from monitoring_pipelines.api.params import (
    Flag,
    Instant,
    PageParam,
    SourceParam,
    chosen_sources,
    instant,
    list_of,
    sort_by,
    window,
    words,
)
from monitoring_pipelines.api.services import audit, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.errors import Refused, UsageError
from monitoring_pipelines.severity import Severity
from monitoring_pipelines.state import alerts as stored

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["alerts"])
Operator = Annotated[Principal, Depends(Needs("operator"))]
AlertId = Annotated[str, Path(min_length=1, max_length=40)]
SortParam = Annotated[str | None, sort_by(stored.ALERT_ORDERS)]
SearchParam = Annotated[
    str | None, Query(max_length=200, description="Part of message, name, type, source, id or labels, any case")
]
MessageState = Literal["pending", "sent", "failed", "abandoned", "suppressed"]
MessageKind = Literal["firing", "repeat", "severity_up", "resolved", "test", "digest"]
SilenceSort = Annotated[str | None, sort_by(stored.SILENCE_ORDERS)]
MessageSort = Annotated[str | None, sort_by(stored.NOTIFICATION_ORDERS)]
STATES = (*alert_rows.OPEN_STATES, "resolved")


@router.get("/alerts", responses=responses("v1", data="Alerts"))
def listed(
    request: Request,
    page: PageParam,
    state: Annotated[str | None, list_of(STATES)] = None,
    severity: Severity | None = None,
    type: Annotated[str | None, Query(max_length=191)] = None,  # noqa: A002 - the parameter's name
    source: SourceParam = None,
    open: Flag | None = None,  # noqa: A002 - the parameter's name
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
    q: SearchParam = None,
    sort: SortParam = None,
) -> Response:
    """Alerts, newest first unless sorted otherwise."""
    services = services_of(request)
    first, last = window(start, end, services.clock.now())
    rows, total = stored.list_alerts(
        services.state, states=words(state, "state", STATES) or (), severities=[severity] if severity else (),
        types=() if type is None else [type], source_ids=() if source is None else chosen_sources(services, source), open_only=open,
        start=first, end=last, text=q, page=page.number, page_size=page.size, sort=sort, remember=services.of_state,
    )  # fmt: skip
    return v1(request, page.wrap([alert_rows.shown(row) for row in rows], total))


@router.get("/alerts/{alert_id}", responses=responses("v1", 404, data="OneAlert"))
def one(request: Request, alert_id: AlertId) -> Response:
    """One alert with its history and messages."""
    found = alert_rows.one(services_of(request).state, alert_id)
    if found is None:
        raise missing("unknown alert")
    return v1(request, found)


@router.get("/alerts/{alert_id}/events", responses=responses("v1", 404, data="AlertEvents"))
def history(request: Request, alert_id: AlertId, page: PageParam) -> Response:
    """The history of an alert, oldest first."""
    state = services_of(request).state
    if stored.find_alert(state, alert_id) is None:
        raise missing("unknown alert")
    return v1(request, page.cut(stored.events_of(state, alert_id)))


class Note(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: Annotated[str, Field(max_length=2000)] | None = None


@router.post("/alerts/{alert_id}/ack", responses=responses("v1", 404, 409, data="Alert"))
def acknowledge(request: Request, alert_id: AlertId, body: Note, who: Operator) -> Response:
    """Acknowledge a firing alert: it repeats no more."""
    services = services_of(request)
    try:
        row = actions.acknowledge(services.state, alert_id, who.name, body.note, services.clock.now())
    except actions.NotFound:
        raise missing("unknown alert") from None
    except Refused:
        raise conflict("only a firing alert can be acknowledged", "not_firing") from None
    audit(request, "alert.acknowledge", alert_id, {"note": body.note})
    return v1(request, alert_rows.shown(row))


@router.delete("/alerts/{alert_id}/ack", responses=responses("v1", 404, data="Alert"))
def withdraw(request: Request, alert_id: AlertId, who: Operator) -> Response:
    """Take the acknowledgement back."""
    services = services_of(request)
    try:
        row = actions.withdraw_acknowledgement(services.state, alert_id, who.name, services.clock.now())
    except actions.NotFound:
        raise missing("unknown alert") from None
    audit(request, "alert.withdraw_acknowledgement", alert_id)
    return v1(request, alert_rows.shown(row))


class MatcherBody(BaseModel):
    """One condition on an alert."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=191)]
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: Annotated[str, Field(max_length=500, description="For =~ and !~ a pattern (RE2) of the whole value")]


class SilenceBody(BaseModel):
    """What to silence, and how long."""

    model_config = ConfigDict(extra="forbid", strict=True)

    matchers: Annotated[list[MatcherBody], Field(min_length=1, max_length=20)]
    starts_at: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})] | None = None
    ends_at: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
    comment: Annotated[str, Field(max_length=2000)] | None = None


@router.get("/silences", responses=responses("v1", data="Silences"))
def silences(
    request: Request,
    page: PageParam,
    active: Annotated[Flag | None, Query(description="true: in force or to come; false: over; default: all")] = None,
    sort: SilenceSort = None,
) -> Response:
    """Silences, newest first unless sorted otherwise."""
    services = services_of(request)
    rows, total = stored.list_silences(
        services.state, services.clock.now(), active=active, page=page.number, page_size=page.size, sort=sort
    )
    return v1(request, page.wrap(rows, total))


@router.post("/silences", responses=responses("v1", data="Silence"))
def silence(request: Request, body: SilenceBody, who: Operator) -> Response:
    """Silence alerts that match, from ``starts_at`` (default now) to ``ends_at``."""
    services = services_of(request)
    now = services.clock.now()
    starts, ends = instant(body.starts_at, "starts_at") or now, instant(body.ends_at, "ends_at")
    assert ends is not None
    if ends <= max(starts, now):
        raise bad("ends_at: it must be later than starts_at and than now")
    matchers = [matcher.model_dump() for matcher in body.matchers]
    try:
        row = actions.create_silence(services.state, matchers, starts, ends, who.name, body.comment, now)
    except UsageError as error:
        raise bad(f"matchers: {error.message}") from None
    audit(request, "silence.create", row["silence_id"], {"matchers": matchers, "ends_at": ends})
    return v1(request, row)


@router.delete("/silences/{silence_id}", responses=responses("v1", 404, data="Silence"))
def end_silence(request: Request, silence_id: AlertId, _who: Operator) -> Response:
    """End a silence now."""
    services = services_of(request)
    try:
        row = actions.end_silence(services.state, silence_id, services.clock.now())
    except actions.NotFound:
        raise missing("unknown silence") from None
    audit(request, "silence.end", silence_id)
    return v1(request, row)


@router.get("/notifications", responses=responses("v1", data="Notifications"))
def notifications(
    request: Request,
    page: PageParam,
    channel: Annotated[str | None, Query(max_length=191)] = None,
    state: MessageState | None = None,
    kind: MessageKind | None = None,
    sort: MessageSort = None,
) -> Response:
    """Messages, newest first unless sorted otherwise, each with its state and reason."""
    services = services_of(request)
    rows, total = stored.list_notifications(
        services.state, channel=channel, state_word=state, kind=kind, page=page.number, page_size=page.size, sort=sort,
        remember=services.of_state,
    )  # fmt: skip
    return v1(request, page.wrap([alert_rows.message(row) for row in rows], total))
