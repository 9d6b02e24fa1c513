"""Shapes of rows of statistics: their columns and types are those of the SQL models.

What belongs here: stored rows and what is merged of them. What does not: other objects.
"""

from __future__ import annotations

from monitoring_pipelines.api.shapes.words import (
    DATE,
    HEALTH,
    INT,
    NUM,
    SEVERITY,
    TEXT,
    TIME,
    Schema,
    listed,
    null,
    obj,
    of_duckdb,
    one_of,
    paged,
    ref,
)
from monitoring_pipelines.published.endpoints import COLUMN, LATEST, TOTALS, derived, table_of

GRAINS = tuple(COLUMN)
#: Files of an older version lack columns that came later, and a grain has its own bucket.
_ALWAYS = ("source_id", "endpoint")


def shapes() -> dict[str, Schema]:
    """Every shape by its name."""
    row = _columns("endpoint")
    known = TOTALS
    totals = {name: row[name] for name in (*known, *derived(dict.fromkeys(known)), "max_execution_ms")}
    merged: dict[str, Schema] = {"n": INT, "stored_rows": INT, "quality": null(TEXT), "coverage": null(NUM)}
    summary = row | merged | {"percentile_source": TEXT, "error_bound": null(NUM)}
    output = _columns("output") | {"health": HEALTH, "severity": null(SEVERITY)}
    return {
        "EndpointStatistics": _row(row | {"source": one_of(("stored", "none"))}),
        "EndpointSummary": obj(summary, [name for name in summary if name not in merged]),
        "EndpointSeries": obj({
            "source_id": TEXT, "endpoint": TEXT, "granularity": one_of(GRAINS), "from": TIME, "to": TIME,
            "closed_through": null(TIME), "rows": listed(ref("EndpointStatistics")), "summary": ref("EndpointSummary"),
        }),
        "Endpoint": obj({
            "source_id": TEXT, "endpoint": TEXT, "registered_status": null(TEXT),
            "latest": null(obj({name: row[name] for name in LATEST})), "totals_24h": null(obj(totals)),
        }),
        "Endpoints": paged(ref("Endpoint")),
        "Partition": obj({
            "partition": TEXT, "from": TIME, "state": TEXT, "rows": INT, "revision": null(INT), "tasks_with_outputs": null(INT),
            "success_tasks": null(INT), "completion_health": null(HEALTH), "checks": obj({
                "state": one_of(("failed", "passed", "outdated", "unchecked", "unknown")), "evaluated": INT,
                "failed": listed(obj({"check": TEXT, "bad_rows": null(INT)})), "checked_at": null(TIME),
            }),
        }),
        "Partitions": obj({
            "grain": one_of(("hour", "day")), "from": TIME, "to": TIME, "total": INT,
            "items": listed(obj({"source_id": TEXT, "table": TEXT, "cells": listed(ref("Partition"))})),
            "runs": listed(obj({"source_id": TEXT, "from": TIME, "runs": listed(obj(
                {"run_id": TEXT, "type": TEXT, "scheduled_at": TIME, "status": TEXT}
            ))})),
        }),
        "OutputStatistics": _row(output),
        "Completeness": paged_of_grain(ref("OutputStatistics")),
    }  # fmt: skip


def paged_of_grain(item: Schema) -> Schema:
    """A page of stored rows; ``state`` where the table was never published."""
    page = paged(item, granularity=one_of(GRAINS), state=one_of(("no_data",)))
    page["required"].remove("state")
    return page


def _columns(family: str) -> dict[str, Schema]:
    """Columns of the three grains of a family."""
    from monitoring_pipelines.orchestration.catalog import load_catalog

    tables = {table_of(family, grain) for grain in COLUMN}
    found = {
        column.name: of_duckdb(column.type)
        for table in load_catalog().tables.values()
        if table.name in tables
        for column in table.columns
    }
    return found | dict.fromkeys(_ALWAYS, TEXT) | {"stat_minute": TIME, "stat_hour": TIME, "stat_date": DATE}


def _row(columns: dict[str, Schema]) -> Schema:
    return obj(columns, [name for name in columns if name not in _ALWAYS])
