"""One sweep over attempts that may be over their time limit (C-320).

What belongs here: bringing derived timeouts up to date, beating, and saying what is over its limit. What does not: the
rule that makes an attempt a timeout (``dbt_like_sql/core``, M-217).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.pipeline import refresh_core
from monitoring_pipelines.quality.runs import evaluate
from monitoring_pipelines.state import heartbeats

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality.model import CheckOutcome
    from monitoring_pipelines.state import StateStore

COMPONENT = "sweeper"
CHECKS = ("tasks.timeouts", "tasks.slots")


def sweep(pipe: Pipeline, state: StateStore) -> list[CheckOutcome]:
    """Derived timeouts that are due take effect; attempts over their limit and slots of every source.

    Due every ``checks.sweep_s`` seconds; its own heartbeat is ``sweeper``.
    """
    refresh_core(pipe)
    done = evaluate(pipe, state, CHECKS, sources=[source.id for source in pipe.sources])
    with state.begin() as con:
        heartbeats.beat(con, COMPONENT, pipe.settings.checks.sweep_s, pipe.clock.now())
    return done
