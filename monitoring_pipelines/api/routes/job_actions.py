"""Starting, enabling and disabling jobs, one or several (S-425, S-426).

What belongs here: actions on jobs, and why one cannot be started. What does not: what is known of jobs (``compat_scheduler``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring_pipelines.api.access import Needs, Principal, principal_of, require
from monitoring_pipelines.api.answers import ApiError, answered, conflict, responses, v1
from monitoring_pipelines.api.dagster_client import DagsterClient
from monitoring_pipelines.api.params import NO_TWICE, OR_SELF, SourceParam, chosen_sources
from monitoring_pipelines.api.routes.compat_scheduler import JobId, find_job
from monitoring_pipelines.api.services import Services, audit, services_of
from monitoring_pipelines.api.strict import StrictRoute
from monitoring_pipelines.published import jobs
from monitoring_pipelines.self_jobs import product_jobs
from monitoring_pipelines.state import self_jobs

log = logging.getLogger(__name__)
router = APIRouter(route_class=StrictRoute, prefix="/api/v1/scheduler", tags=["scheduler"])
Operator = Annotated[Principal, Depends(Needs("operator"))]
#: Triggering needs an operator, switching jobs an admin (S-426).
Switcher = Annotated[Principal, Depends(Needs("operator", at_times="admin"))]


@router.post("/jobs/{job_id:path}/trigger", responses=responses("v1", 404, 409, data="JobStarted"))
def trigger(request: Request, job_id: JobId, _who: Operator, source: SourceParam = None) -> Response:
    """Run a job once now; its schedule stays as it is."""
    services = services_of(request)
    row = find_job(services, job_id, source)
    run_id = start_job(services, row, principal_of(request).name)
    audit(request, "job.trigger", job_id, {"run_id": run_id})
    return v1(request, {"job_id": job_id, "run_id": run_id})


def why_not_startable(services: Services, row: Mapping[str, Any]) -> str | None:
    """The reason word why a job cannot be started now (S-425); None when it can."""
    if row["source_id"] != jobs.SELF and services.settings.source(row["source_id"]).trigger_hook is None:
        return "not_triggerable"
    if row["enabled"] is False:
        return "disabled"
    if row["source_id"] != jobs.SELF:
        return "running" if row["running_count"] else None
    own = product_jobs(services.settings).get(row["job_id"])
    return f"needs_{own.scope}" if own is not None and own.scope in ("plan", "source") else None


#: Dagster's own tag for the partition of a run.
PARTITION_TAG = "dagster/partition"
_WHY = {
    "not_triggerable": "jobs of a mapped scheduler are started there; its source has no trigger_hook",
    "disabled": "the job is disabled",
    "running": "the job is running",
    "needs_plan": "the job works on a repair plan: it is started from the plan's page, or in Dagster with its id",
    "needs_source": "the job loads one new source: a sensor starts it when one is added",
}


def start_job(services: Services, row: Mapping[str, Any], actor: str) -> str | None:
    """Start a job once: the product's through Dagster, a mapped one through its source's hook (S-425).

    Returns:
        The id of the run; None when the hook did not say one.

    Raises:
        ApiError: 409 when it is off, running, or has no hook; 503 without Dagster or when the hook refuses.
    """
    why = why_not_startable(services, row)
    if why is not None:
        raise conflict(_WHY[why], why)
    if row["source_id"] != jobs.SELF:
        return _call_hook(services, row, actor)
    if services.dagster_url is None:
        raise ApiError(503, "this server was started without the address of Dagster", "dagster_unavailable")
    client = DagsterClient(services.dagster_url)
    running = client.running(row["job_id"])
    if running is not None:
        raise conflict("the job is running", "running")
    tags = {"trigger": "manual", "actor": actor}
    own = product_jobs(services.settings).get(row["job_id"])
    partition = own.partition(services.clock.now()) if own else None
    return client.launch(row["job_id"], tags | ({PARTITION_TAG: partition} if partition else {}))


def _call_hook(services: Services, row: Mapping[str, Any], actor: str) -> str | None:
    """Ask the source's own scheduler; what the hook answers beyond a run id is not shown."""
    import json

    from monitoring_pipelines.alerts.channels.http import post_json

    source = services.settings.source(row["source_id"])
    url, hook = source.trigger_url(), source.trigger_hook
    if url is None or hook is None:
        raise conflict(_WHY["not_triggerable"], "not_triggerable")
    answer = post_json(url, {"job_id": row["job_id"], "source": source.id, "actor": actor}, hook.timeout_s)
    if answer.error is not None or answer.status is None:
        log.warning("trigger hook of %s: %s", source.id, answer.error)
        raise ApiError(503, f"the trigger hook of {source.id} does not answer", "hook_unavailable")
    if answer.status == 409:
        raise conflict("the scheduler refuses to start the job now", "running")
    if not 200 <= answer.status < 300:
        raise ApiError(503, f"the trigger hook of {source.id} answered {answer.status}", "hook_failed")
    try:
        said = json.loads(answer.body)
    except ValueError:
        return None
    run_id = said.get("run_id") if isinstance(said, dict) else None
    return str(run_id)[:255] if run_id is not None else None


class BatchBody(BaseModel):
    """What to do with which jobs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Literal["enable", "disable", "trigger"]
    job_ids: Annotated[
        # The audit log of PostgreSQL cannot hold the character 0: what was done for other ids would leave no row.
        list[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]],
        Field(min_length=1, max_length=1000, json_schema_extra={"uniqueItems": True}),
        NO_TWICE,
    ]
    #: Needed for ids that several sources have (S-104).
    source: Annotated[str, Field(max_length=32)] | None = Field(None, description=OR_SELF)


@router.post("/jobs/batch", responses=responses("v1", 404, 409, data="JobsChanged"))
def batch(request: Request, body: BatchBody, who: Switcher) -> Response:
    """Enable, disable or trigger several jobs, of one source where it is named; a result per id. Enabling and disabling need an
    admin token.
    """
    services = services_of(request)
    if body.action != "trigger":
        require(who, "admin")
    if body.source is not None:
        chosen_sources(services, body.source)
    results = [_one_of_batch(services, job_id, body.source, body.action, who.name) for job_id in body.job_ids]
    audit(request, f"job.{body.action}", ",".join(body.job_ids), {"results": results})
    done = sum(result["success"] for result in results)
    shown = [
        one | {"message": answered(request.headers, one["message"])} if "message" in one else one for one in results
    ]
    return v1(request, {"action": body.action, "results": shown, "succeeded": done, "failed": len(results) - done})


def _one_of_batch(services: Services, job_id: str, source: str | None, action: str, actor: str) -> dict[str, Any]:
    try:
        row = find_job(services, job_id, source)
        done = {"job_id": job_id, "source_id": row["source_id"], "success": True}
        if action == "trigger":
            return done | {"run_id": start_job(services, row, actor)}
        if row["source_id"] != jobs.SELF:
            raise conflict("jobs of a mapped scheduler are switched there", "not_triggerable")
        with services.state.begin() as con:
            self_jobs.switch(con, [job_id], action == "enable", actor, services.clock.now())
    except ApiError as error:
        return {
            "job_id": job_id, "source_id": source, "success": False, "status": error.status, "message": error.message,
            "reason": error.reason,
        }  # fmt: skip
    return done
