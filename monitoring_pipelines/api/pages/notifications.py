"""Notifications: every message, with its state and why it was not sent (S-243, S-819).

What belongs here: the list. What does not: messages about one alert, which its page has (``alerts``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam
from monitoring_pipelines.api.routes.alerts import MessageKind, MessageSort, MessageState
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.state import alerts as stored

STRINGS = {
    "notifications.none": ("没有符合条件的通知", "No notification matches"),
}
router = APIRouter(include_in_schema=False)
ChannelParam = Annotated[str | None, Query(max_length=191)]


def shown_messages(
    services: Services, channel: str | None, state: str, kind: str, sort: str | None, page: int, page_size: int
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the list and how many there are, newest first unless sorted otherwise."""
    return stored.list_notifications(
        services.state, channel=channel or None, state_word=state or None, kind=kind or None, page=page,
        page_size=page_size, sort=sort, remember=services.of_state,
    )  # fmt: skip


@router.get("/alerts/notifications")
def listed(
    request: Request, page: PageParam, channel: ChannelParam = None, state: Literal[MessageState, ""] = "",
    kind: Literal[MessageKind, ""] = "", sort: MessageSort = None,
) -> Response:  # fmt: skip
    """The list, newest first unless sorted otherwise."""
    view = View(request)
    services = services_of(request)
    rows, total = shown_messages(services, channel, state, kind, sort, page.number, page.size)
    return render(
        request, "notifications.html", title=view.t("alerts.messages"), as_of=view.now, view=view, page=page.wrap(rows, total),
        channel=channel, channels=[one.id for one in services.settings.channels], state=state, kind=kind,
        states=get_args(MessageState), kinds=get_args(MessageKind),
        query={"channel": channel, "state": state, "kind": kind, "sort": sort}, sort=sort,
    )  # fmt: skip
