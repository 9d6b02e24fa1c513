"""Checks of what the product has proven: equal to the source, and every minute seen by a snapshot.

What belongs here: ``matches_source`` and ``snapshots_cover_every_minute``. What does not: comparing (``source.reconcile``),
counting snapshots (``dbt_like_sql``) and the rules that alert (``alerts.rules``).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    ResourceParam,
    multi_asset_check,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.orchestration.asset_checks import check_window
from monitoring_pipelines.orchestration.metadata import key_of
from monitoring_pipelines.orchestration.resources import SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of

#: C-503, in percent of the snapshots expected.
COVERAGE_WARN, COVERAGE_ERROR = 90, 50
LEAST_EXPECTED = 10
_SHOWN = 20
_PROOFS = """
SELECT source_id, src_table, "day", equal, verified_at FROM meta.reconciliation
WHERE "day" >= $start::TIMESTAMP::DATE AND "day" < $end::TIMESTAMP
QUALIFY row_number() OVER (PARTITION BY source_id, src_table, entity, "day" ORDER BY verified_at DESC) = 1
ORDER BY "day", source_id, src_table
"""
_COVERAGE = """
SELECT source_id, endpoint, sum(snapshots_received)::BIGINT, sum(snapshots_expected)::BIGINT
FROM mart.endpoint_hourly_stats
WHERE stat_hour >= $start::TIMESTAMP AND stat_hour < $end::TIMESTAMP AND snapshots_expected > 0
GROUP BY ALL HAVING sum(snapshots_expected) >= $least::BIGINT ORDER BY 3 / 4, 1, 2
"""
Rows = Sequence[tuple[Any, ...]]


def build_proof_checks(has_sources: bool) -> list[AssetChecksDefinition]:
    """Both checks; none without a source. Without anything to judge they stay "not evaluated"."""
    if not has_sources:
        return []
    return [
        _check(
            "matches_source", AssetKey(["audit", "reconciliation"]), _PROOFS, _proofs,
            "The newest comparison of every table and day of the window left store and source equal (E-609).",
        ),
        _check(
            "snapshots_cover_every_minute", key_of("mart.endpoint_hourly_stats"), _COVERAGE, _coverage,
            f"At least {COVERAGE_WARN} % of the snapshots of online workers are there; below {COVERAGE_ERROR} % is an "
            f"error (C-503). Endpoints with fewer than {LEAST_EXPECTED} expected ones are not judged.",
        ),
    ]  # fmt: skip


def _check(
    name: str, asset: AssetKey, sql: str, judge: Callable[[Rows], tuple[bool, bool, dict[str, Any]]], description: str
) -> AssetChecksDefinition:
    @multi_asset_check(
        name=f"check_{name}", specs=[AssetCheckSpec(name, asset=asset, description=description)], can_subset=True
    )
    def check(
        context: AssetCheckExecutionContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        clock: ResourceParam[Clock],
    ) -> Iterator[AssetCheckResult]:
        start, end = check_window(context, clock)
        rows = _rows(pipeline_of(context, warehouse, source, clock).warehouse.reader(name), sql, start, end)
        if not rows:
            context.log.info(f"{name}: not evaluated: nothing to judge from {start} to {end}")
            return
        passed, is_serious, shown = judge(rows)
        window = {"window_from": f"{start.isoformat()}Z", "window_to": f"{end.isoformat()}Z"}
        severity = AssetCheckSeverity.ERROR if is_serious else AssetCheckSeverity.WARN
        yield AssetCheckResult(
            asset_key=asset, check_name=name, passed=passed, severity=severity, metadata=window | shown
        )

    return check


def _rows(opening: Any, sql: str, start: datetime, end: datetime) -> Rows:
    import duckdb

    with opening as con:
        try:
            given = {"start": start, "end": end, "least": LEAST_EXPECTED}
            return con.execute(sql, {name: value for name, value in given.items() if f"${name}" in sql}).fetchall()
        except duckdb.CatalogException:  # nothing was computed yet
            return []


def _proofs(rows: Rows) -> tuple[bool, bool, dict[str, Any]]:
    unequal = [row for row in rows if not row[3]]
    shown: dict[str, Any] = {"tables_and_days": len(rows), "unequal": len(unequal)}
    shown["oldest_comparison"] = f"{min(row[4] for row in rows).isoformat(timespec='seconds')}Z"
    if unequal:
        shown["differs"] = MetadataValue.md("\n".join(f"* {s} {table} {day}" for s, table, day, *_ in unequal[:_SHOWN]))
    return not unequal, True, shown


def _coverage(rows: Rows) -> tuple[bool, bool, dict[str, Any]]:
    low = [row for row in rows if 100 * row[2] < COVERAGE_WARN * row[3]]
    received, expected = sum(row[2] for row in rows), sum(row[3] for row in rows)
    shown: dict[str, Any] = {
        "endpoints": len(rows),
        "endpoints_below": len(low),
        "snapshots_missing": expected - received,
    }
    shown["worst"] = f"{rows[0][0]} {rows[0][1]}: {rows[0][2]} of {rows[0][3]}"
    if low:
        lines = [f"* {source} {endpoint}: {got} of {due}" for source, endpoint, got, due in low[:_SHOWN]]
        shown["below"] = MetadataValue.md("\n".join(lines))
    return not low, any(100 * row[2] < COVERAGE_ERROR * row[3] for row in low), shown
