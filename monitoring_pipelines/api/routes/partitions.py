"""``/partitions``: partition by time with what was computed and what the checks say (S-820, M-101)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api import partition_rows
from monitoring_pipelines.api.answers import bad, responses, v1
from monitoring_pipelines.api.params import Instant, SourceParam, chosen_sources, fixed_window
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published.partitions import LENGTH, Grain

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["statistics"])
#: Longest range by grain.
LONGEST: dict[Grain, timedelta] = {"hour": timedelta(days=7), "day": timedelta(days=400)}
DEFAULT: dict[Grain, timedelta] = {"hour": timedelta(hours=24), "day": timedelta(days=30)}


@router.get("/partitions", responses=responses("v1", data="Partitions"))
def listed(
    request: Request,
    source: SourceParam = None,
    grain: Annotated[
        Grain, Query(description="Partitions of an hour (tables of minutes and hours) or of a day")
    ] = "hour",
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Per source and table the partitions that the range touches, oldest first: state, rows, revision, completeness, and
    the checks of each (audits and expectations that failed, by name). ``absent`` was never computed or waits for it;
    ``empty`` was, and holds nothing. Beside them the check runs per source and hour in which they were due. Default: the
    last 24 hours or 30 days; at most 7 days of hours, 400 of days.
    """
    services = services_of(request)
    first, last = fixed_window(start, end, services.moment(), DEFAULT[grain])
    if last - first > LONGEST[grain]:
        raise bad(f"from: more than {LONGEST[grain].days} days are too long for grain {grain}")
    first, last = whole(grain, first, last)
    chosen = chosen_sources(services, source)
    with services.published.look() as look:
        items = partition_rows.rows(services, look, chosen, grain, first, last)
        runs = partition_rows.runs(services, chosen, first, last)
        return v1(request, {
            "grain": grain, "from": first, "to": last, "items": items, "total": len(items),
            "runs": [
                {"source_id": name, "from": at, "runs": due} for name, hours in runs.items() for at, due in sorted(hours.items())
            ],
        }, as_of=look.as_of)  # fmt: skip


def whole(grain: Grain, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The partitions that ``[start, end)`` touches.

    Raises:
        ApiError: 400: the last of them ends when no time can be written any more.
    """
    length = LENGTH[grain]
    try:
        return start - (start - datetime.min) % length, end + (datetime.min - end) % length
    except OverflowError:
        raise bad("to: too far in the future") from None
