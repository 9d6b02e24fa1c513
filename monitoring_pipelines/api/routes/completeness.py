"""``/completeness``: stored rows, tasks without output, before and after a date (S-230 to S-232)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api import summaries
from monitoring_pipelines.api.answers import bad, responses, v1
from monitoring_pipelines.api.params import (
    Day,
    Instant,
    Integer,
    PageParam,
    SourceParam,
    bounded,
    chosen_sources,
    fixed_window,
    sort_by,
)
from monitoring_pipelines.api.routes.endpoints import check_range
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published import completeness
from monitoring_pipelines.published.endpoints import COLUMN, choose_grain, table_of
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.severity import health_of, severity_of

router = APIRouter(route_class=StrictRoute, prefix="/api/v1/completeness", tags=["completeness"])
MissingSort = Annotated[str | None, sort_by(completeness.MISSING_ORDERS)]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_LONGEST_DAYS = 400


@router.get("", responses=responses("v1", data="Completeness"))
def stored_rows(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    granularity: Literal["minute", "hour", "day", "auto"] = "auto",
    endpoint: Annotated[str | None, Query(max_length=255)] = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Rows of the completeness statistics with their bands, newest first; default: the last 24 h."""
    services = services_of(request)
    first, last = fixed_window(start, end, services.moment(), 24 * HOUR)
    grain = choose_grain(granularity, first, last)
    check_range(grain, first, last)
    table, column = table_of("output", grain), COLUMN[grain]
    chosen = chosen_sources(services, source)
    with services.published.look() as look:
        if not look.has(table):
            return v1(request, page.wrap([], 0, granularity=grain, state="no_data"), as_of=look.as_of, look=look)
        where = f'source_id IN $sources AND "{column}" >= $start AND "{column}" < $end'
        values: dict[str, Any] = {"sources": tuple(chosen), "start": first, "end": last}
        if endpoint is not None:
            where += " AND endpoint = $endpoint"
            values["endpoint"] = endpoint
        found = f"FROM {look.table(table, first, last)} WHERE {where}"
        total = look.value(f"SELECT count(*) {found}", values)
        rows = look.rows(
            f'SELECT * {found} ORDER BY "{column}" DESC, source_id, endpoint LIMIT {page.size} OFFSET {page.offset}',
            values,
        )
        bands = summaries.bands_of(services)
        for row in rows:
            n, w = row.get("success_tasks") or 0, row.get("tasks_with_outputs") or 0
            row["health"], row["severity"] = health_of(w, n, bands), severity_of(w, n, bands)
        return v1(request, page.wrap(rows, total, granularity=grain), as_of=look.as_of, look=look)


@router.get("/missing", responses=responses("v1", data="TasksWithoutOutput"))
def without_output(
    request: Request,
    page: PageParam,
    source: SourceParam = None,
    hours: Annotated[Integer, bounded(1, 720)] = 24,
    sort: MissingSort = None,
) -> Response:
    """Settled succeeded tasks without valid output, those that ended last first unless sorted otherwise."""
    services = services_of(request)
    now = services.moment()
    chosen = [name for name in chosen_sources(services, source) if name != "_self"]
    with services.published.look() as look:
        rows, total = missing_rows(services, look, chosen, hours, page.offset, page.size, sort)
        rows = [dict(row) for row in rows]
        for row in rows:
            row["age_s"] = round((now - row["effective_end"]).total_seconds(), 3)
        return v1(request, page.wrap(rows, total, hours=hours), as_of=look.as_of, look=look)


def missing_rows(
    services: Services, look: Look, chosen: list[str], hours: int, offset: int, limit: int, sort: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """A page of the missing list and its total."""
    now = services.moment()
    settled = (look.as_of or now) - timedelta(seconds=services.settings.checks.settle_s)
    return services.recall(
        look.lake.version, ("missing", tuple(chosen), now, hours, offset, limit, sort),
        lambda: completeness.missing_page(
            look, summaries.index_of(services), chosen, now - hours * HOUR, now, settled, offset, limit, sort
        ),
    )  # fmt: skip


@router.get("/tasks", responses=responses("v1", data="TasksBehindAFigure"))
def behind_a_figure(
    request: Request,
    page: PageParam,
    kind: Literal["with_output", "settling", "duplicates"],
    source: SourceParam = None,
    hours: Annotated[Integer, bounded(1, 720)] = 24,
) -> Response:
    """Succeeded tasks behind a figure of completeness, those that ended last first, with their numbers of output rows."""
    services = services_of(request)
    chosen = [name for name in chosen_sources(services, source) if name != "_self"]
    with services.published.look() as look:
        rows, total = task_rows(services, look, kind, chosen, hours, page.offset, page.size)
        return v1(request, page.wrap(rows, total, kind=kind, hours=hours), as_of=look.as_of, look=look)


def task_rows(
    services: Services, look: Look, kind: str, chosen: list[str], hours: int, offset: int, limit: int,
    sort: str | None = None,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """A page of the tasks behind a figure (S-813) and their total; ``missing`` are those of ``missing_rows``.

    Raises:
        ApiError: 400: ``sort`` for others than missing ones, of which there may be millions.
    """
    if kind == "missing":
        return missing_rows(services, look, chosen, hours, offset, limit, sort)
    if sort is not None:
        raise bad("sort: only tasks without output can be ordered")
    now = services.moment()
    settled = (look.as_of or now) - timedelta(seconds=services.settings.checks.settle_s)
    return services.recall(
        look.lake.version, (kind, tuple(chosen), now, hours, offset, limit),
        lambda: completeness.task_page(
            look, summaries.index_of(services), chosen, kind, now - hours * HOUR, now, settled, offset, limit
        ),
    )  # fmt: skip


@router.get("/split", responses=responses("v1", data="Split"))
def before_and_after(
    request: Request,
    source: SourceParam = None,
    on: Annotated[
        Day | None, Query(alias="date", description="Local date; without it only days and change point")
    ] = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Completeness per local day, before and after a local date, and where the rate changed most."""
    services = services_of(request)
    first, last = fixed_window(start, end, services.moment(), 30 * DAY)
    if last - first > _LONGEST_DAYS * DAY:
        raise bad(f"from: more than {_LONGEST_DAYS} days are too long")
    chosen = [name for name in chosen_sources(services, source) if name != "_self"]
    with services.published.look() as look:
        rows = [
            split_row(services, look, name, on, first, last) for name in chosen if summaries.has_outputs(services, name)
        ]
        return v1(request, {"date": on, "from": first, "to": last, "sources": rows}, as_of=look.as_of, look=look)


def split_row(
    services: Services, look: Look, name: str, on: date | None, start: datetime, end: datetime
) -> dict[str, Any]:
    """Days, split and change point of one source (C-108, C-109)."""
    as_of = look.manifest.sources.get(name, {}).get("as_of") or services.clock.now()
    settled = as_of - timedelta(seconds=services.settings.checks.settle_s)
    days = services.recall(
        look.lake.version, ("days", name, start, end),
        lambda: completeness.daily(
            look, summaries.index_of(services), name, start, end, settled, services.settings.timezone
        ),
    )  # fmt: skip
    return {
        "source_id": name,
        "days": [{"date": day} | figure.as_metrics() for day, figure in days.items()],
        "split": None if on is None else completeness.split(days, on),
        "change_point": completeness.change_point(days, services.settings.checks.change_point_min_points),
    }
