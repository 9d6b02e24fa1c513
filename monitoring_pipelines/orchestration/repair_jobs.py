"""Jobs of repair: plan, apply, resume, verify, roll back; and the sensor that may make plans (R-901…R-903).

What belongs here: typed config for the Launchpad, tags, progress in the run's log. What does not: the steps
(``compensation``), any schedule, any approval.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from dagster import (
    AssetKey,
    AssetObservation,
    Config,
    DefaultSensorStatus,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    ResourceParam,
    RunConfig,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    sensor,
)
from pydantic import Field

from monitoring_pipelines.alerts.links import dashboard_of
from monitoring_pipelines.clock import Clock, parse_instant
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.errors import ProductError, UsageError
from monitoring_pipelines.orchestration.resources import Place, SourceResource, StateResource
from monitoring_pipelines.orchestration.steps import failure_of

#: No retry by itself: resume is explicit (R-902).
_TAGS = {"dagster/max_retries": "0", "type": "repair"}
#: Alert that an automatic plan answers.
_ALERT = "missing_task_outputs"
_AUTO_HOURS = 24


class PlanConfig(Config):
    """What to plan: a window, hours or task ids."""

    source_id: str = Field(description="Source whose lost outputs are looked for.")
    window_from: str | None = Field(default=None, description="Start of the window, RFC 3339 with offset.")
    window_to: str | None = Field(default=None, description="End of the window, exclusive.")
    hours: float | None = Field(default=None, description="Instead of a window: the last so many hours.")
    task_ids: list[str] | None = Field(default=None, description="Instead of a window: exactly these tasks.")
    max_tasks: int | None = Field(default=None, description="Most candidates; default: repair.max_tasks.")
    mode: str | None = Field(default=None, description="only_if_empty or add_missing; default: repair.mode.")
    batch_size: int | None = Field(default=None, description="Tasks per batch when applied.")
    recoverers: list[str] | None = Field(default=None, description="Ids of recoverers to ask; default: all.")
    alert_id: str | None = Field(default=None, description="Alert this plan answers.")


class ApplyConfig(Config):
    """An approved plan. There is no approval in a job."""

    plan_id: str = Field(description="The plan; it must be approved.")
    batch_size: int | None = Field(default=None, description="Tasks per batch; default: the plan's.")
    rate_per_s: float | None = Field(default=None, description="Most tasks per second.")


class RunIdConfig(Config):
    """An earlier run."""

    run_id: str = Field(description="The repair run.")


class RollbackConfig(Config):
    """What to roll back."""

    run_id: str = Field(description="The apply or resume run whose rows are removed.")
    task_ids: list[str] | None = Field(default=None, description="Only rows of these tasks.")
    dry_run: bool = Field(default=False, description="Only say what would happen to each row.")


def _actor(context: OpExecutionContext) -> str:
    user = context.run.tags.get("user") or context.run.tags.get("dagster/user")
    return f"dagster:{user}" if user else "dagster"


@contextmanager
def _readable() -> Iterator[None]:
    """A refusal or a stop is the run's failure in words, not a stack trace; nothing is retried (R-902)."""
    try:
        yield
    except ProductError as error:
        raise failure_of(error) from None


def _tag(context: OpExecutionContext, **tags: str | None) -> None:
    given = {name: value for name, value in tags.items() if value}
    if given:
        context.instance.add_run_tags(context.run_id, given)


def _progress(context: OpExecutionContext, source_id: str) -> Callable[[int, int, dict[str, Any]], None]:
    """Progress as observations: figures that the UI draws and programs read."""

    def told(done: int, total: int, counters: dict[str, Any]) -> None:
        figures = {name: value for name, value in counters.items() if isinstance(value, (int, float, str))}
        context.log_event(
            AssetObservation(AssetKey(["repair", source_id]), metadata={"done": done, "total": total, **figures})
        )
        waits = f", waits: {counters['waits']}" if counters.get("waits") else ""
        context.log.info(f"{done} of {total}{waits}")

    return told


def _finished(
    context: OpExecutionContext, source: SourceResource, state: StateResource, clock: Clock, run: dict[str, Any]
) -> None:
    """Verification, statistics and report; the run fails when the repair did not end well."""
    from monitoring_pipelines.compensation.after import after_run

    run = after_run(source.settings, state.store, clock, run)
    counters = {f"{n}": v for n, v in (run["counters"] or {}).items() if isinstance(v, (int, float, str, bool))}
    result = (run["verification"] or {}).get("result")
    context.add_output_metadata({**counters, "state": run["state"], "report": run["report_path"] or "",
                                 "page": MetadataValue.url(f"{dashboard_of(source.settings)}/repair/runs/{run['run_id']}"),
                                 **({"verification": result} if result else {})})  # fmt: skip
    if run["state"] in ("paused", "failed"):
        raise ProductError(f"repair run {run['run_id']} {run['state']}: {run['reason']}", "resume it when it is over")


@op(name="plan", description="Look for lost outputs and propose rows. Writes nothing to the source.")
def plan_op(
    context: OpExecutionContext,
    config: PlanConfig,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Make a plan (R-301…R-313)."""
    from monitoring_pipelines.compensation.model import PlanRequest
    from monitoring_pipelines.compensation.plan import Planner, error_of

    with _readable():
        start, end = _window(config, clock.now())
        request = PlanRequest(
            config.source_id, start, end, tuple(config.task_ids) if config.task_ids is not None else None,
            config.max_tasks, config.mode, config.batch_size, tuple(config.recoverers) if config.recoverers else None,
            config.alert_id,
        )  # fmt: skip
        _tag(context, source=config.source_id, alert_id=config.alert_id)

        def progress(done: int, total: int) -> None:
            if done % 100 == 0 or done == total:
                context.log.info(f"{done} of {total} candidates")

        plan = Planner(source.settings, state.store, clock).make(request, _actor(context), progress)
        _tag(context, plan_id=plan["plan_id"])
        counters = plan["counters"]
        context.add_output_metadata({
            "plan_id": plan["plan_id"], "state": plan["state"], "plan_hash": plan["plan_hash"],
            "candidates": counters["candidates"], "rows_planned": counters["rows_planned"], **counters["classes"],
            "page": MetadataValue.url(f"{dashboard_of(source.settings)}/repair/plans/{plan['plan_id']}"),
            **_next_step(plan),
        })  # fmt: skip
        error = error_of(plan)
        if error is not None:
            raise error


def _next_step(plan: dict[str, Any]) -> dict[str, str]:
    """What somebody does with the plan; nothing for one without rows to insert."""
    if not plan["counters"]["rows_planned"] or plan["state"] not in ("ready", "approved"):
        return {}
    apply = f"launch apply_compensation_job with plan_id {plan['plan_id']}"
    approve = f"approve it on the page, or with `mp repair approve {plan['plan_id']} --by NAME`, then "
    return {"next": apply if plan["state"] == "approved" else approve + apply}


def _window(config: PlanConfig, now: datetime) -> tuple[datetime | None, datetime | None]:
    given = [config.hours is not None, config.window_from is not None, config.task_ids is not None]
    if sum(given) > 1:
        raise UsageError("hours, window_from and task_ids exclude each other", "keep one of them and delete the others")
    if config.hours is not None:
        return now - timedelta(hours=config.hours), now
    if config.task_ids is not None or config.window_from is None:
        return None, None
    return parse_instant(config.window_from), parse_instant(config.window_to) if config.window_to else now


@op(name="apply", description="Insert the rows of an approved plan, verify them, write the report.")
def apply_op(
    context: OpExecutionContext,
    config: ApplyConfig,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Apply (R-401…R-412); a refusal fails the run before anything is written."""
    from monitoring_pipelines.compensation.runs import Applier
    from monitoring_pipelines.state import repair as store

    with _readable():
        with state.store.read() as con:
            plan = store.get_plan(con, config.plan_id)
        _tag(context, plan_id=config.plan_id, source=plan["source_id"], alert_id=plan["alert_id"])
        run = Applier(source.settings, state.store, clock).apply(
            config.plan_id, _actor(context), batch_size=config.batch_size, rate_per_s=config.rate_per_s,
            progress=_progress(context, plan["source_id"]),
        )  # fmt: skip
        _tag(context, repair_run_id=run["run_id"])
        _finished(context, source, state, clock, run)


def _about(context: OpExecutionContext, state: StateResource, run_id: str) -> dict[str, Any]:
    """The repair run an op is about; the Dagster run gets its tags."""
    from monitoring_pipelines.state import repair as store

    with state.store.read() as con:
        run = store.get_run(con, run_id)
        plan = store.get_plan(con, run["plan_id"])
    _tag(context, plan_id=run["plan_id"], source=run["source_id"], alert_id=plan["alert_id"])
    return run


@op(name="resume", description="Go on with a repair run that crashed, paused or left failed tasks.")
def resume_op(
    context: OpExecutionContext,
    config: RunIdConfig,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Resume (R-408)."""
    from monitoring_pipelines.compensation.runs import Applier

    with _readable():
        about = _about(context, state, config.run_id)
        run = Applier(source.settings, state.store, clock).resume(
            config.run_id, _actor(context), progress=_progress(context, about["source_id"])
        )
        _tag(context, repair_run_id=run["run_id"])
        _finished(context, source, state, clock, run)


@op(name="verify", description="Read back what a repair run inserted and compare it with the journal.")
def verify_op(
    context: OpExecutionContext,
    config: RunIdConfig,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Verify (R-601, R-602)."""
    from monitoring_pipelines.compensation.verify import Verifier

    with _readable():
        _about(context, state, config.run_id)
        run = Verifier(source.settings, state.store, clock).verify(config.run_id, _actor(context))
        _tag(context, repair_run_id=run["run_id"])
        _finished(context, source, state, clock, run)
        if run["verification"]["result"] != "verified":
            raise ProductError("verification failed: rows are missing, modified or there twice", "see the report")


@op(name="rollback", description="Delete what a repair run inserted, where it is unchanged.")
def rollback_op(
    context: OpExecutionContext,
    config: RollbackConfig,
    source: ResourceParam[SourceResource],
    state: ResourceParam[StateResource],
    clock: ResourceParam[Clock],
) -> None:
    """Roll back (R-701…R-705)."""
    from monitoring_pipelines.compensation.rollback import Rollbacker

    with _readable():
        about = _about(context, state, config.run_id)
        run = Rollbacker(source.settings, state.store, clock).rollback(
            _actor(context), run_id=config.run_id, task_ids=config.task_ids, dry_run=config.dry_run,
            progress=_progress(context, about["source_id"]),
        )  # fmt: skip
        _tag(context, repair_run_id=run["run_id"])
        _finished(context, source, state, clock, run)


def _job(name: str, description: str, step: Callable[[], Any], prefilled: dict[str, Any]) -> JobDefinition:
    config = {"ops": {name.partition("_")[0]: {"config": prefilled}}}

    @job(name=name, description=description, tags=_TAGS, executor_def=in_process_executor, config=config)
    def definition() -> None:
        step()

    return definition


def build_repair_jobs(settings: Settings) -> list[JobDefinition]:
    """The five jobs; none of them has a schedule. The Launchpad opens with a configuration to be completed."""
    able = [source.id for source in settings.enabled_sources if source.is_repairable]
    plan = {"source_id": able[0] if able else "ID of a source", "hours": _AUTO_HOURS}
    run = {"run_id": "ID of a repair run"}
    return [
        _job("plan_compensation_job", "Plan the repair of lost outputs. Writes nothing to the source.", plan_op, plan),
        _job(
            "apply_compensation_job", "Apply an approved plan. Fails when it is not approved.", apply_op,
            {"plan_id": "ID of an approved plan"},
        ),
        _job("resume_compensation_job", "Go on with an interrupted repair run.", resume_op, run),
        _job("verify_compensation_job", "Verify the rows of a repair run.", verify_op, run),
        _job("rollback_compensation_job", "Undo a repair run by its journal.", rollback_op, run | {"dry_run": True}),
    ]  # fmt: skip


def build_repair_sensors(place: Place, plan_job: Any) -> list[SensorDefinition]:
    """The sensor that answers missing outputs with a plan, never with an apply; stopped unless ``auto_plan`` (R-901)."""

    @sensor(
        name="auto_plan_sensor",
        job=plan_job,
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.RUNNING if place.settings.repair.auto_plan else DefaultSensorStatus.STOPPED,
        description="Makes a repair plan when outputs are missing; at most one open plan per source. Never applies.",
    )
    def auto_plan_sensor(_context: SensorEvaluationContext) -> list[RunRequest] | SkipReason:
        from monitoring_pipelines.compensation.model import OPEN_PLAN_STATES
        from monitoring_pipelines.state import alerts as stored
        from monitoring_pipelines.state import repair as store

        state = place.state
        rows, _ = stored.list_alerts(state.store, states=("firing",), types=(_ALERT,), open_only=True, page_size=100)
        wanted = []
        with state.store.read() as con:
            for alert in rows:
                plans = store.list_plans(con, alert["source_id"], limit=20)
                answered = any(p["alert_id"] == alert["alert_id"] or p["state"] in OPEN_PLAN_STATES for p in plans)
                if not answered and place.settings.repair.recoverers:
                    wanted.append(_request(alert))
        return wanted or SkipReason("no missing outputs without a plan")

    return [auto_plan_sensor]


def _request(alert: dict[str, Any]) -> RunRequest:
    config = PlanConfig(source_id=alert["source_id"], hours=_AUTO_HOURS, alert_id=alert["alert_id"])
    return RunRequest(
        run_key=f"plan-{alert['alert_id']}", run_config=RunConfig(ops={"plan": config}),
        tags={"alert_id": alert["alert_id"], "source": alert["source_id"]},
    )  # fmt: skip
