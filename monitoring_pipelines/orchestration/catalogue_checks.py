"""The check catalogue as asset checks, and the jobs ``quick_check_job``, ``full_check_job``, ``deep_check_job``.

What belongs here: one step that makes a check run or evaluates single checks. What does not: check runs
(``quality.runs``), names and places (``check_specs``), what the UI shows of a result (``check_results``).

Started by its job the step makes a whole check run: extract, check all sources, store (C-021, C-022). Started from the
page of an asset, or with the partitions of a statistics job, it evaluates only the selected checks, over the window of
the partitions or the last day; that is a look, not a check run, and is not stored.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetSelection,
    Failure,
    Field,
    Int,
    Noneable,
    ResourceParam,
    define_asset_job,
    in_process_executor,
    multi_asset_check,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.orchestration.check_results import check_result, unevaluated
from monitoring_pipelines.orchestration.check_specs import Place
from monitoring_pipelines.orchestration.ledger import due_of, trigger_of
from monitoring_pipelines.orchestration.metadata import key_of
from monitoring_pipelines.orchestration.resources import SourceResource, StateResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of
from monitoring_pipelines.self_jobs import ProductJob

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality.model import CheckOutcome

#: Name of the step, and the tag that says which check run a job makes.
STEP = "check_catalogue"
CHECK_TAG = "check"
#: Window of checks that are evaluated alone.
WINDOW = timedelta(hours=24)


def build_catalogue_checks(places: Mapping[str, Place]) -> list[AssetChecksDefinition]:
    """The checks that have a place; empty when there is none."""
    if not places:
        return []
    keys = {_key(place): place_id for place_id, place in places.items()}

    @multi_asset_check(
        name=STEP,
        specs=[_spec(place) for place in places.values()],
        can_subset=True,
        config_schema={
            "hours_back": Field(
                Noneable(Int), default_value=None, is_required=False,
                description="Length of the window in hours, 1 to 720; only for quick and full checks.",
            )
        },
    )  # fmt: skip
    def check_catalogue(
        context: AssetCheckExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        state: ResourceParam[StateResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[AssetCheckResult]:
        pipe = pipeline_of(context, warehouse, source, clock)
        selected = [place_id for key, place_id in keys.items() if key in context.selected_asset_check_keys]
        try:
            wanted = dict.fromkeys(places[place_id].check.id for place_id in selected)
            outcomes, run_id = _outcomes(context, pipe, state, wanted)
        except ProductError as error:
            raise Failure(f"{error.message}\n{error.hint or ''}".strip(), metadata={"code": error.code}) from error
        for place_id in selected:
            place = places[place_id]
            mine = [outcome for outcome in outcomes if outcome.check_id == place.check.id]
            result = check_result(mine, key_of(place.table), place.name, pipe.settings, run_id)
            if result is None:
                context.log.info(f"{place.name}: not evaluated: {unevaluated(mine)}")
            else:
                yield result

    return [check_catalogue]


def build_check_jobs(
    places: Mapping[str, Place], registry: Mapping[str, ProductJob]
) -> list[UnresolvedAssetJobDefinition]:
    """The three jobs; a job without a check that applies does not exist."""
    jobs = []
    for job in registry.values():
        if job.check is None:
            continue
        runs = {job.check, "live"} if job.check == "full" else {job.check}
        mine = [place for place in places.values() if runs & place.check.runs and not place.of_partitions]
        if not mine:
            continue
        jobs.append(
            define_asset_job(
                job.id,
                AssetSelection.checks(*(_key(place) for place in mine)),
                description=f"One {job.check} check run over all sources: extract, check, store. Needs no "
                "configuration; `hours_back` changes the window of quick and full checks.",
                tags={"type": job.id.removesuffix("_job"), CHECK_TAG: job.check},
                executor_def=in_process_executor,
            )
        )
    return jobs


def _outcomes(
    context: AssetCheckExecutionContext, pipe: "Pipeline", state: StateResource, selected: Collection[str]
) -> "tuple[Sequence[CheckOutcome], str | None]":
    """(outcomes of all checks and sources, id of the check run if it is one)."""
    from monitoring_pipelines.quality import registry, runs

    run_type: Any = context.run.tags.get(CHECK_TAG)
    hours_back = context.op_execution_context.op_config.get("hours_back")
    if run_type is None:
        start, end = _window(context, pipe.clock)
        return runs.evaluate(pipe, state.store, selected, window=(start, end)), None
    run = runs.execute(
        pipe, state.store, run_type, due_at=due_of(context.run), trigger=trigger_of(context.run),
        hours_back=hours_back, say=context.log.info, dagster_run_id=context.run.run_id,
    )  # fmt: skip
    context.log.info(f"{run_type} check {run.run_id}: {run.status}, {len(run.findings)} findings")
    # Rules of the alert tick are no part of the run, but this is when their marks in the UI are renewed.
    live = [check_id for check_id in selected if registry.checks().get(check_id) in registry.checks_of("live")]
    return [*run.outcomes, *runs.evaluate(pipe, state.store, live, window=_window(context, pipe.clock))], run.run_id


def _window(context: AssetCheckExecutionContext, clock: Clock) -> tuple[datetime, datetime]:
    """The partitions of the run, else the last day."""
    if {PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG} & set(context.run.tags):
        window = context.partition_time_window
        return window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
    return clock.now() - WINDOW, clock.now()


def _spec(place: Place) -> AssetCheckSpec:
    check = place.check
    return AssetCheckSpec(
        place.name,
        asset=key_of(place.table),
        description=f"{check.title_en} · {check.title_zh} ({check.rule}). Part of: {', '.join(sorted(check.runs))}.",
        metadata={"check_id": check.id, "rule": check.rule, "alert_type": check.alert_type, "runbook": check.runbook},
    )


def _key(place: Place) -> AssetCheckKey:
    return AssetCheckKey(key_of(place.table), place.name)
