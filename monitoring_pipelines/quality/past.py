"""Periods the store does not hold, read from the source into a store of their own (E-903).

What belongs here: whether a period is in the store, and a temporary warehouse for one that is not. What does not: the
report made of it (``report``). Marks and rows of the real store are not touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.source.reconcile import reconcile_day, reconcile_undated
from monitoring_pipelines.warehouse.connect import Warehouse, WarehouseMissing
from monitoring_pipelines.warehouse.core_tables import ensure_core

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import SourceSettings
    from monitoring_pipelines.pipeline import Pipeline

ENTITIES = ("task", "task_output")
#: Tasks are placed by their creation at the source: those that ended in a period may have been created before it.
LONGEST_TASK = timedelta(days=1)


def is_stored(pipe: Pipeline, source_id: str, start: datetime) -> bool:
    """Whether the store has everything of the source from ``start`` on."""
    try:
        with pipe.warehouse.reader("what is stored") as con, without_pandas():
            row = con.execute(
                "SELECT greatest(origin, raw_from), as_of FROM meta.source_state WHERE source_id = ?", [source_id]
            ).fetchone()
    except WarehouseMissing:
        return False
    return row is not None and row[1] is not None and row[0] is not None and row[0] <= start


@contextmanager
def read_period(
    pipe: Pipeline, source: SourceSettings, start: datetime, end: datetime, say: Callable[[str], None]
) -> Iterator[Warehouse]:
    """A temporary warehouse with the tasks and outputs of ``[start, end)``, as the source has them now.

    Raises:
        SourceUnavailable: It cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mp-period-") as folder:
        warehouse = Warehouse(Path(folder) / "period.duckdb", clock=pipe.clock)
        with warehouse.writer("prepare") as con:
            ensure_core(con)
        for entity in ENTITIES:
            if all(table.inline is not None for table in source.mapped(entity)):
                continue
            for day in _days(start - LONGEST_TASK, min(end + LONGEST_TASK, pipe.clock.now())):
                say(f"{source.id}: reading {entity} of {day}")
                with without_pandas():
                    reconcile_day(pipe.settings, source, warehouse, pipe.clock, day, entity, pipe.log)
            with without_pandas():
                reconcile_undated(pipe.settings, source, warehouse, pipe.clock, entity, pipe.log)
        yield warehouse


def _days(start: datetime, end: datetime) -> Iterator[date]:
    day = start.date()
    while day <= end.date():
        yield day
        day += timedelta(days=1)
