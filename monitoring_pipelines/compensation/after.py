"""What follows a run: verification, the touched tasks read again, the report (R-412, R-601, R-910).

What belongs here: the order of these, and that a failure of one is told and does not undo the run. What does not: the
run itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.report import write_report
from monitoring_pipelines.compensation.target import output_mapping
from monitoring_pipelines.compensation.verify import Verifier
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.pipeline import Pipeline

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
        extract_again(settings, state, clock, run["source_id"], run["plan_id"])
    write_report(settings, state, run_id)
    with state.read() as con:
        return store.get_run(con, run_id)


def _verified(settings: Settings, state: StateStore, clock: Clock, plan_id: str) -> dict[str, Any]:
    try:
        return Verifier(settings, state, clock).check(plan_id)
    except ProductError as error:
        log.warning("plan %s could not be verified: %s", plan_id, error.message)
        return {"not_verified": error.message}


def extract_again(settings: Settings, state: StateStore, clock: Clock, source_id: str, plan_id: str) -> bool:
    """Tell the warehouse which outputs are repaired, read the source, bring statistics up to date (R-412).

    Returns:
        False when that has to wait for the next tick; the run stays what it is.
    """
    from monitoring_pipelines.pipeline import Pipeline, loaded_sources, tick

    pipe = Pipeline.of(settings, clock)
    if source_id not in loaded_sources(pipe):
        return False
    try:
        _tell_origins(pipe, state, source_id, plan_id)
        tick(pipe, only=[source_id])
    except ProductError as error:
        log.warning("%s: statistics follow with the next tick: %s", source_id, error.message)
        return False
    return True


def _tell_origins(pipe: Pipeline, state: StateStore, source_id: str, plan_id: str) -> None:
    """Keys of inserted rows as the warehouse knows outputs: repaired, placeholder, or removed again."""
    from monitoring_pipelines.warehouse.output_refresh import forget_repaired, record_repaired

    mapping = output_mapping(pipe.settings.source(source_id))
    column = mapping.columns["output_key"].column
    if column is None:
        return  # a computed key: the rows count as the application's
    with state.read() as con:
        rows = store.journal_rows(con, plan_id=plan_id)
        placeholders = store.placeholder_keys(con, source_id)
    keys: dict[str, set[str]] = {"repair": set(), "placeholder": set(), "gone": set()}
    # Ids of two processes are in no order within a millisecond; a row is inserted before it is removed.
    for row in sorted(rows, key=lambda row: (row["at"], row["op"] != "insert")):
        image = row["after"] or row["before"] or {}
        key = next((value for name, value in image.items() if name.lower() == column.lower()), None)
        if key is None or row["state"] != "committed":
            continue
        for found in keys.values():
            found.discard(key)
        origin = "placeholder" if row["natural_key"] in placeholders else "repair"
        keys["gone" if row["op"] != "insert" else origin].add(key)
    now = pipe.clock.now()
    with pipe.warehouse.writer("repaired outputs") as con:
        for origin in ("repair", "placeholder"):
            if keys[origin]:
                record_repaired(con, source_id, sorted(keys[origin]), now, origin)
        if keys["gone"]:
            forget_repaired(con, source_id, sorted(keys["gone"]), now)
