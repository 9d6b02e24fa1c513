"""Runs whose process is gone: found by the lock nobody holds, shown as failed, open to resume (R-403, R-408).

What belongs here: telling a run that works from one that was killed. What does not: going on with it (``runs``).

A run that works holds the source's advisory lock, and the server (or the kernel) lets go of it when the process ends. So
a run that says ``running`` while the lock is free has nobody who works on it. What it did is in the journal.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.compensation.session import lock_name
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings

log = logging.getLogger(__name__)
#: A run is stored before it takes the lock; it gets this long.
_START_S = 60
REASON = "interrupted: its process ended without a word"


def end_interrupted(
    state: StateStore, source_id: str, now: datetime, *, older_than: datetime, but: str | None = None
) -> list[str]:
    """End the writing runs of a source that still say ``running``; the caller knows that nobody works on them.

    Args:
        state: The state store.
        source_id: The source.
        now: When they are found, naive UTC.
        older_than: Only runs that started before.
        but: The caller's own run.

    Returns:
        Ids of the runs.
    """
    with state.begin() as con:
        open_runs = [
            run for run in store.running(con, source_id) if run["run_id"] != but and run["started_at"] <= older_than
        ]
        for run in open_runs:
            store.update_run(con, run["run_id"], state="failed", reason=REASON, ended_at=now)
            audit.record(con, now, "product", f"repair.{run['kind']}.failed", run["run_id"], {"reason": REASON})
            if run["kind"] in ("apply", "resume") and store.get_plan(con, run["plan_id"])["state"] == "approved":
                store.update_plan(con, run["plan_id"], state="partially_applied")
    return [run["run_id"] for run in open_runs]


def find_interrupted(settings: Settings, state: StateStore, clock: Clock) -> list[str]:
    """Look for killed runs of every source (with the reading account) and end them; their ids.

    A source that is read from a replica cannot be asked: the lock is the primary's. There the next run that gets the
    lock ends them.
    """
    now = clock.now()
    ended: list[str] = []
    with state.read() as con:
        waiting = {
            run["source_id"] for run in store.running(con) if now - run["started_at"] > timedelta(seconds=_START_S)
        }
    for source in settings.enabled_sources:
        if source.id not in waiting or source.read_replica:
            continue
        try:
            free = _lock_is_free(settings, source)
        except ProductError as error:
            log.info("%s: whether a repair run works cannot be seen: %s", source.id, error.message)
            continue
        if free:
            ended += end_interrupted(state, source.id, now, older_than=now - timedelta(seconds=_START_S))
    return ended


def _lock_is_free(settings: Settings, source: SourceSettings) -> bool:
    from monitoring_pipelines.source.engine import connect

    dsn = source.read_dsn()
    if dsn.startswith("sqlite:"):
        from monitoring_pipelines.warehouse.lock import FairLock

        return FairLock(settings.data_path / f"repair-{source.id}.lock.d").holder() is None
    with connect(dsn, settings, snapshot=False) as connection:
        return str(connection.query("select is_free_lock(%s)", [lock_name(source.id)])[0][0]) == "1"
