"""Silences: those in force or to come, those that are over, or all (S-242, S-804).

What belongs here: the list. What does not: silencing, which an alert's page offers (``alerts``).
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.api.params import PageParam
from monitoring_pipelines.api.routes.alerts import SilenceSort
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.state import alerts as stored

STRINGS = {
    "silences.none": ("没有符合条件的静默规则", "No silence matches"),
    "silences.none_active": ("没有生效的静默规则", "No silence is in force"),
    "silences.first": ("仅显示最新 {n} 条。", "These are the newest {n}."),
    "silences.active": ("生效或待生效", "In force or to come"),
    "silences.over": ("已结束", "Over"),
    "silences.starts": ("自", "From"),
    "silences.created": ("创建时间", "Created"),
}
router = APIRouter(include_in_schema=False)
ShowSilences = Literal["active", "over", "all"]
#: Which silences a word of ``show`` means, as the API's ``active`` says it.
ACTIVE: dict[ShowSilences, bool | None] = {"active": True, "over": False, "all": None}


def shown_silences(
    services: Services, show: ShowSilences, sort: str | None, page: int, page_size: int
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the list and how many there are, newest first unless sorted otherwise; ``is_over`` says whether one can be ended."""
    now = services.clock.now()
    rows, total = stored.list_silences(
        services.state, now, active=ACTIVE[show], page=page, page_size=page_size, sort=sort
    )
    return [row | {"is_over": row["deleted_at"] is not None or row["ends_at"] <= now} for row in rows], total


@router.get("/alerts/silences")
def listed(request: Request, page: PageParam, show: ShowSilences = "active", sort: SilenceSort = None) -> Response:
    """The list, newest first unless sorted otherwise."""
    view = View(request)
    rows, total = shown_silences(services_of(request), show, sort, page.number, page.size)
    return render(
        request, "silences.html", title=view.t("alerts.silences"), as_of=view.now, view=view, page=page.wrap(rows, total),
        show=show, shows=tuple(ACTIVE), active=ACTIVE[show], query={"show": show, "sort": sort}, sort=sort,
    )  # fmt: skip
