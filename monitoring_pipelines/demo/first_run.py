"""From an empty warehouse to all statistics, in the foreground and with nothing left over.

What belongs here: the order in which a demonstration calls the pipeline. What does not: the stages (``pipeline``),
which a permanent installation runs through its schedules and sensors instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.pipeline import Pipeline

Say = Callable[[str], None]


def first_run(settings: Settings, clock: Clock, say: Say, log: logging.Logger | None = None) -> Pipeline:
    """Load all sources and compute every due hour and day.

    Args:
        settings: The configuration.
        clock: The time up to which statistics are computed.
        say: Hears what is being done, one line per stage.
        log: Log of the pipeline.

    Returns:
        The pipeline, for further ticks.
    """
    from monitoring_pipelines import pipeline

    pipe = pipeline.Pipeline.of(settings, clock, log)
    tick = pipeline.tick(pipe)
    for source, error in tick.extraction.failed.items():
        say(f"source {source} could not be read: {error}")
    say(f"sources read in {tick.extraction.seconds:.1f} s")
    _work_off(pipe, say)
    pipeline.compute_due(pipe)
    pipeline.publish_pending(pipe, everything=True)
    return pipe


def _work_off(pipe: Pipeline, say: Say) -> None:
    """Compute what the tick left to partition runs, hours first and days from them.

    Nobody else uses a new warehouse, so it is held for all of it: many hours fit into one window then.
    """
    from monitoring_pipelines.warehouse import windows

    now = pipe.clock.now()
    with pipe.warehouse.writer("first computation") as con:
        hours = windows.due_work(con, now).hours
        windows.refresh_due(con, hours, now)
        days = windows.due_work(con, now).days
        for due in days:
            windows.refresh_day(con, due.day, now, due.source_id)
    say(f"{len({due.hour for due in hours})} hours and {len({due.day for due in days})} days computed")
