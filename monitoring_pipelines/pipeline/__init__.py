"""One tick, domain level: extract, core, close, windows, publish, for all sources; and the same over a range.

What belongs here: the order of the stages. What does not: the stages themselves (``source``, ``warehouse``), schedules
and retries (``orchestration``).

Every stage finds its work in the warehouse, not in the time at which it was started, and leaves a state from which the
next one goes on: a killed tick, a week of downtime and a second tick at the same time need no special path.
"""

from __future__ import annotations

from collections.abc import Iterable

from monitoring_pipelines.pipeline.base import DAY, HOUR, Pipeline
from monitoring_pipelines.pipeline.reconciliation import reconcile, unverified_days
from monitoring_pipelines.pipeline.results import (
    Backlog,
    CoreRefresh,
    Extraction,
    Published,
    Reconciled,
    Tick,
    WindowDone,
    Windows,
)
from monitoring_pipelines.pipeline.stages import extract, is_extracting, loaded_sources, publish_pending, refresh_core
from monitoring_pipelines.pipeline.windows import (
    TICK_HOURS,
    audit,
    backlog,
    compute_due,
    compute_range,
    stored_windows,
)
from monitoring_pipelines.warehouse.families import DAY_TABLES, HOUR_TABLES

__all__ = [
    "DAY", "DAY_TABLES", "HOUR", "HOUR_TABLES", "TICK_HOURS", "Backlog", "CoreRefresh", "Extraction", "Pipeline",
    "Published", "Reconciled", "Tick", "WindowDone", "Windows", "audit", "backlog", "compute_due", "compute_range",
    "extract", "is_extracting", "loaded_sources", "publish_pending", "reconcile", "refresh_core", "stored_windows",
    "tick", "unverified_days",
]  # fmt: skip


def tick(pipe: Pipeline, only: Iterable[str] | None = None) -> Tick:
    """Everything that is due now. Safe to repeat, to kill, and to run twice at once.

    Args:
        pipe: What to work on.
        only: Ids of the sources to extract; None: all enabled ones.

    Raises:
        SourceUnavailable, SchemaDrift, ...: Every source failed; what was stored before is still brought up to date.
    """
    extraction = extract(pipe, only)
    return Tick(extraction, refresh_core(pipe), compute_due(pipe), publish_pending(pipe))
