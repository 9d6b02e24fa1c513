"""From an empty warehouse to all statistics, in the foreground and with nothing left over.

What belongs here: the order in which a demonstration calls the pipeline. What does not: the stages (``pipeline``),
which a permanent installation runs through its schedules and sensors instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality.model import CheckRun

Say = Callable[[str], None]
#: Hours of one transaction: the demo's hours are small, and planning a query costs as much as a thousand rows.
CHUNK_HOURS = 48


@dataclass(frozen=True)
class FirstRun:
    """What a first run leaves for those who go on."""

    pipe: Pipeline
    checked: CheckRun


def first_run(settings: Settings, clock: Clock, say: Say, log: logging.Logger | None = None) -> FirstRun:
    """Load all sources, compute every due hour and day, check once.

    Args:
        settings: The configuration.
        clock: The time up to which statistics are computed.
        say: Hears what is being done, one line per stage.
        log: Log of the pipeline.

    Returns:
        The pipeline, for further ticks, and what the check found.
    """
    from monitoring_pipelines import pipeline

    told = _Told(say)
    pipe = pipeline.Pipeline.of(settings, clock, log or told.log)
    # Nobody else uses a new warehouse.
    with pipe.warehouse.kept_open("first computation"):
        extraction = pipeline.extract(pipe)
        for source, error in extraction.failed.items():
            say(f"source {source} could not be read: {error}")
        say(f"{told.rows:,} rows loaded and compared with the sources in {extraction.seconds:.1f} s")
        pipeline.refresh_core(pipe)
        _compute(pipe, say)
        pipeline.compute_due(pipe)
        published = pipeline.publish_pending(pipe, everything=True)
        say(f"{published.metadata()['files']} Parquet files published")
    return FirstRun(pipe, _check(pipe, say))


def _check(pipe: Pipeline, say: Say) -> CheckRun:
    """One full check, so that the first page shows what is missing instead of waiting for the next due time."""
    from monitoring_pipelines.quality.runs import execute
    from monitoring_pipelines.state import StateStore

    run = execute(pipe, StateStore.of(pipe.settings), "full", trigger="manual")
    say(f"full check: {len(run.findings)} findings")
    return run


class _Told(logging.Handler):
    """Adds up the rows of the tables and days that the pipeline's log calls compared, and says so now and then."""

    def __init__(self, say: Say, every_s: float = 2.0) -> None:
        super().__init__(logging.INFO)
        self.log = logging.Logger("first run", logging.INFO)
        self.log.addHandler(self)
        self.rows = 0
        self._say, self._every_s, self._last = say, every_s, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by several threads, one after another."""
        from monitoring_pipelines.source.reconcile import ReconcileResult

        for result in record.args if isinstance(record.args, tuple) else ():
            if isinstance(result, ReconcileResult):
                self.rows += result.source_rows
                if time.monotonic() - self._last >= self._every_s:
                    self._last = time.monotonic()
                    self._say(f"… {self.rows:,} rows; {result.source_id} has reached {result.day or 'undated rows'}")


def _compute(pipe: Pipeline, say: Say) -> None:
    """Compute all of history, hours first and days from them."""
    from monitoring_pipelines.warehouse import windows

    now = pipe.clock.now()
    began = told = time.monotonic()
    with pipe.warehouse.writer("first computation") as con:
        windows.close_minutes(con, now, pipe.settings.stats.backfill_days)
        due = windows.due_work(con, now).hours
        hours = sorted({item.hour for item in due})
        for at in range(0, len(hours), CHUNK_HOURS):
            chosen = set(hours[at : at + CHUNK_HOURS])
            windows.refresh_due(con, [d for d in due if d.hour in chosen], now, chunk_hours=CHUNK_HOURS)
            if time.monotonic() - told >= 2.0:
                told = time.monotonic()
                say(f"… {at + len(chosen)} of {len(hours)} hours")
        days = windows.due_work(con, now).days
        for day in days:
            windows.refresh_day(con, day.day, now, day.source_id, day.family)
    days_count = len({day.day for day in days})
    say(f"{len(hours)} hours and {days_count} days computed in {time.monotonic() - began:.1f} s")
