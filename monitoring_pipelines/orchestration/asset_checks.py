"""Audits as asset checks: the invariants M-901 to M-911, evaluated over the partitions of a run.

What belongs here: one check per audit, and the windows they look at.
What does not: the audits (``dbt_like_sql/audits``) and alerts; a failed check colours the asset and stops nothing.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    ResourceParam,
    multi_asset_check,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.metadata import key_of
from monitoring_pipelines.orchestration.resources import POOL, SourceResource, StateResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of
from monitoring_pipelines.warehouse.families import ENDPOINT, FAMILIES, Family

if TYPE_CHECKING:
    from monitoring_pipelines.orchestration.catalog import Audit
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.warehouse.audits import AuditResult

#: Without a partition the checks look at the hours before the running one.
DEFAULT_WINDOW = timedelta(hours=24)


def build_asset_checks(audits: Sequence["Audit"]) -> list[AssetChecksDefinition]:
    """The audits of every family on its hour table, which is computed with its minutes, and on its day table."""
    checks = []
    for family in FAMILIES.values():
        own = [audit for audit in audits if audit.family == family.name]
        prefix = "" if family.name == ENDPOINT else f"{family.name}_"
        if own:
            checks.append(_checks(f"{prefix}hour_invariants", family, family.table("hour"), own))
            checks.append(_checks(f"{prefix}day_invariants", family, family.table("day"), own))
    return checks


def predicate(audit: str, table: str) -> str:
    """Name of an audit as a check of ``table``: what holds, without its rule number (which its description gives)."""
    if re.fullmatch(r"m903_(\w+_)?sums_add_up", audit):
        return "day_equals_sum_of_hours" if "daily" in table else "hour_equals_sum_of_minutes"
    return re.sub(r"^m\d+_", "", audit)


def _checks(name: str, family: Family, table: str, audits: Sequence["Audit"]) -> AssetChecksDefinition:
    key = key_of(table)

    @multi_asset_check(
        name=name,
        specs=[
            AssetCheckSpec(
                predicate(audit.name, table),
                asset=key,
                description=f"{audit.rule}: {audit.description}",
                metadata={"audit": audit.name},
            )
            for audit in audits
        ],
        can_subset=True,
        pool=POOL,
    )
    def check(
        context: AssetCheckExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        state: ResourceParam[StateResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[AssetCheckResult]:
        from monitoring_pipelines import pipeline

        pipe = pipeline_of(context, warehouse, source, clock)
        start, end = check_window(context, clock)
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        wanted = frozenset(audit.name for audit in audits if predicate(audit.name, table) in selected)
        results = pipeline.audit(pipe, start, end, names=wanted)
        remember(state.store, pipe, family, results, start, end)
        for result in results:
            yield AssetCheckResult(
                asset_key=key,
                check_name=predicate(result.name, table),
                passed=result.passed,
                severity=AssetCheckSeverity.ERROR,
                metadata=result_metadata(result, start, end),
            )

    return check


def remember(
    state: "StateStore",
    pipe: "Pipeline",
    family: Family,
    results: Sequence["AuditResult"],
    start: datetime,
    end: datetime,
) -> None:
    """Keep what was said of each partition for the matrix of the page, which Dagster's own marks do not tell apart."""
    from monitoring_pipelines.state import partition_checks

    having = [source.id for source in pipe.sources if any(source.mapped(entity) for entity in family.entities)]
    partition_checks.record(state, results, family.name, having, start, end, pipe.clock.now())


def result_metadata(result: "AuditResult", start: datetime, end: datetime) -> dict[str, Any]:
    """What the UI shows of one evaluation."""
    return {
        "bad_rows": result.bad_rows,
        "window_start": start.isoformat() + "Z",
        "window_end": end.isoformat() + "Z",
        "sample": json.dumps(result.sample, default=str, ensure_ascii=False),
    }


def default_window(clock: Clock) -> tuple[datetime, datetime]:
    """The complete hours of the last day."""
    now = clock.now().replace(minute=0, second=0, microsecond=0)
    return now - DEFAULT_WINDOW, now


def check_window(context: AssetCheckExecutionContext, clock: Clock) -> tuple[datetime, datetime]:
    """The partitions of the run, else the last day."""
    if {PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG} & set(context.run.tags):
        window = context.partition_time_window
        return window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
    return default_window(clock)
