"""What follows a run: verification, the touched tasks read again, the report (R-412, R-601, R-910).

What belongs here: the order of these, and that a failure of one is told and does not undo the run. What does not: the
run itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.report import write_report
from monitoring_pipelines.compensation.verify import Verifier
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings

log = logging.getLogger(__name__)


def after_run(settings: Settings, state: StateStore, clock: Clock, run: dict[str, Any]) -> dict[str, Any]:
    """Verify, extract, report. The run's rows are committed whatever happens here.

    Returns:
        The stored row of ``repair_run`` with verification and report.
    """
    run_id = run["run_id"]
    wrote = run["state"] not in ("refused", "locked") and not run["dry_run"]
    if wrote and run["kind"] in ("apply", "resume"):
        with state.begin() as con:
            store.update_run(con, run_id, verification=_verified(settings, state, clock, run["plan_id"]))
    if wrote and run["kind"] in ("apply", "resume", "rollback"):
        extract_again(settings, clock, run["source_id"])
    write_report(settings, state, run_id)
    with state.read() as con:
        return store.get_run(con, run_id)


def _verified(settings: Settings, state: StateStore, clock: Clock, plan_id: str) -> dict[str, Any]:
    try:
        return Verifier(settings, state, clock).check(plan_id)
    except ProductError as error:
        log.warning("plan %s could not be verified: %s", plan_id, error.message)
        return {"not_verified": error.message}


def extract_again(settings: Settings, clock: Clock, source_id: str) -> bool:
    """Read the source again, after its journal, which says which outputs are repaired; bring statistics up to date (R-412).

    Returns:
        False when that has to wait for the next tick; the run stays what it is.
    """
    from monitoring_pipelines.pipeline import Pipeline, loaded_sources, tick

    pipe = Pipeline.of(settings, clock)
    if source_id not in loaded_sources(pipe):
        return False
    try:
        tick(pipe, only=[source_id])
    except ProductError as error:
        log.warning("%s: statistics follow with the next tick: %s", source_id, error.message)
        return False
    return True
