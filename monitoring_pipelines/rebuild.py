"""Statistics of a range computed again from the stored rows, as if nothing had been computed before (M-805).

What belongs here: which keys a range touches, and the order core, windows, publishing. What does not: the stages
(``pipeline``). Used after a change of a definition or a doubt; the schedule never needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.connect import transaction

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.pipeline import Pipeline, WindowDone


@dataclass
class Rebuilt:
    """What a rebuild did."""

    tasks: int = 0
    workers: int = 0
    windows: list[WindowDone] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def restated(self) -> int:
        """Rows of closed statistics that are different now (M-804)."""
        return sum(window.restated for window in self.windows)


#: Tasks with any row in the range: events, row times, or attempts that reach into it.
_TASKS = """
SELECT source_id, task_key FROM raw.task_event WHERE "at" >= $start AND "at" < $end AND source_id = ANY($sources)
UNION SELECT source_id, task_key FROM raw.task WHERE created_at < $end AND source_id = ANY($sources)
  AND coalesce(ended_at, updated_at, $end) >= $start
UNION SELECT source_id, task_key FROM raw.task WHERE created_at IS NULL AND source_id = ANY($sources)
  AND coalesce(started_at, ended_at) < $end AND coalesce(ended_at, $end) >= $start
UNION SELECT source_id, task_key FROM core.task_attempt WHERE started_at < $end AND source_id = ANY($sources)
  AND coalesce(ended_at, $end) >= $start
"""
#: Every worker with evidence in the range, and those that lived through it without any.
_WORKERS = """
SELECT source_id, worker_key FROM raw.worker_snapshot WHERE "at" >= $start AND "at" < $end AND source_id = ANY($sources)
UNION SELECT source_id, worker_key FROM raw.worker_event WHERE "at" >= $start AND "at" < $end
  AND source_id = ANY($sources)
UNION SELECT source_id, worker_key FROM core.worker_life WHERE start_at < $end AND source_id = ANY($sources)
  AND coalesce(end_at, $end) >= $start
UNION SELECT source_id, worker_key FROM raw.worker WHERE source_id = ANY($sources)
  AND coalesce(ready_at, created_at, $start) < $end AND coalesce(terminated_at, $end) >= $start
"""


def rebuild(pipe: Pipeline, start: datetime, end: datetime, tell: Callable[[str], None] = lambda text: None) -> Rebuilt:
    """Compute core rows, hours and days that ``[start, end)`` touches again, then publish.

    Args:
        pipe: What to work on.
        start: Start of an hour, naive UTC.
        end: End of an hour; what lies after now is left out.
        tell: Called with a line per step.

    Raises:
        WarehouseBusy: Another process kept the warehouse.
    """
    from monitoring_pipelines import pipeline
    from monitoring_pipelines.warehouse.core_tables import ensure_core

    began = time.monotonic()
    done = Rebuilt()
    sources = [source.id for source in pipe.sources]
    with pipe.warehouse.writer("rebuild: keys") as con:
        ensure_core(con)
        with transaction(con):
            done.tasks = _mark(con, "meta.dirty_task (source_id, task_key, marked_at)", _TASKS, "", pipe, start, end)
            columns = "meta.dirty_worker (source_id, worker_key, since, marked_at)"
            done.workers = _mark(con, columns, _WORKERS, "$start, ", pipe, start, end)
    tell(f"{done.tasks:,} tasks and {done.workers:,} workers of {len(sources)} sources")
    pipeline.refresh_core(pipe)
    tell("core rows computed")
    for part in pipeline.compute_range(pipe, pipeline.HOUR_TABLES, start, end):
        done.windows += part
        tell(f"{len(done.windows):,} windows computed, up to {part[-1].end:%Y-%m-%d %H:%M}" if part else "")
    first = start - (start - datetime.min) % pipeline.DAY
    for part in pipeline.compute_range(pipe, pipeline.DAY_TABLES, first, end):
        done.windows += part
    pipeline.publish_pending(pipe, everything=True)
    done.seconds = time.monotonic() - began
    return done


def _mark(
    con: duckdb.DuckDBPyConnection, target: str, keys: str, since: str, pipe: Pipeline, start: datetime, end: datetime
) -> int:
    """Insert the keys of the range into a dirty table; returns how many."""
    values = {"start": start, "end": end, "now": pipe.clock.now(), "sources": [source.id for source in pipe.sources]}
    sql = f"INSERT INTO {target} SELECT source_id, COLUMNS(c -> c <> 'source_id'), {since}$now FROM ({keys})"
    row = con.execute(sql, values).fetchone()
    return int(row[0]) if row else 0
