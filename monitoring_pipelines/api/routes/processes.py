"""``/processes``, ``/targets`` and ``/ingest`` (S-250)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from monitoring_pipelines.api.answers import bad, missing, responses, v1
from monitoring_pipelines.api.params import Instant, PageParam, SourceParam, chosen_sources, fixed_window, one_source
from monitoring_pipelines.api.services import services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published import processes

router = APIRouter(route_class=StrictRoute, prefix="/api/v1", tags=["processes"])
ProcessId = Annotated[str, Path(min_length=1, max_length=255)]
_LONGEST = timedelta(days=31)


@router.get("/processes", responses=responses("v1", data="Processes"))
def listed(request: Request, source: SourceParam = None) -> Response:
    """Processes with their newest sample, the trend of each figure, and how they are: unknown without samples, else the worst
    of their targets and of the thresholds their figures reach.
    """
    services = services_of(request)
    with services.published.look() as look:
        chosen, now = _with_self(chosen_sources(services, source), source), services.clock.now()
        known = processes.targets(look, services.state, services.settings, now, chosen)
        found = processes.healths(look, services.settings, known, now)
        rows = [
            row | {"health_state": found[row["source_id"], row["process_id"]].state}
            for row in processes.newest(look, services.settings, chosen)
        ]
        return v1(request, {"items": rows, "total": len(rows)}, as_of=look.as_of)


def _with_self(chosen: list[str], source: str | None) -> list[str]:
    return chosen if source is not None else [*chosen, "_self"]


@router.get("/processes/{process_id}/samples", responses=responses("v1", 404, data="Samples"))
def samples(
    request: Request,
    process_id: ProcessId,
    page: PageParam,
    source: SourceParam = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    end: Annotated[Instant, Query(alias="to")] = None,
) -> Response:
    """Samples of a process, newest first, its trends and the thresholds of the rules."""
    services = services_of(request)
    first, last = fixed_window(start, end, services.moment(), timedelta(hours=24))
    if last - first > _LONGEST:
        raise bad(f"from: more than {_LONGEST.days} days are too long")
    with services.published.look() as look:
        chosen = _with_self(chosen_sources(services, source), source)
        found = processes.of_process(look, services.settings, chosen, process_id)
        name = one_source(list(found), source, "this process")
        if name is None:
            raise missing("unknown process")
        rows, total = processes.samples(look, name, process_id, first, last, page.offset, page.size)
        more: dict[str, Any] = {"source_id": name, "process_id": process_id}
        more |= {
            "trends": found[name]["trends"],
            "thresholds": processes.thresholds(services.settings),
        }
        return v1(request, page.wrap(rows, total, **more), as_of=look.as_of, look=look)


@router.get("/targets", responses=responses("v1", data="Targets"))
def targets(request: Request, source: SourceParam = None) -> Response:
    """Targets with their newest probe and health state."""
    services = services_of(request)
    chosen = _with_self(chosen_sources(services, source), source)
    with services.published.look() as look:
        rows = processes.targets(look, services.state, services.settings, services.clock.now(), chosen)
        return v1(request, {"items": rows, "total": len(rows)}, as_of=look.as_of)


@router.get("/ingest", responses=responses("v1", data="Ingest"))
def ingest(request: Request, source: SourceParam = None) -> Response:
    """Counters per process and series: newest value, rate over 5 minutes, success rate."""
    services = services_of(request)
    chosen = chosen_sources(services, source)
    with services.published.look() as look:
        rows = processes.ingest(look, chosen)
        return v1(request, {"items": rows, "total": len(rows)}, as_of=look.as_of)
