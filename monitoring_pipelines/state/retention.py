"""Removing what the state store need not remember any more (retention.*_days, S-506).

What belongs here: which part of the store follows which setting. What does not: how each part is removed (its own
repository).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete

from monitoring_pipelines.state import alerts, checks, counters, partition_checks, self_jobs
from monitoring_pipelines.state.tables import collected, recovery_request, silence

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state.store import StateStore

#: Samples that an extraction cycle has moved into the warehouse are kept this long, in case it is rebuilt.
MOVED_FOR = timedelta(days=1)


def prune(state: StateStore, settings: Settings, now: datetime) -> dict[str, int]:
    """Remove everything past its retention; open alerts, running jobs and repair plans stay.

    Returns:
        Rows (of checks: runs) removed by part.
    """
    days = settings.retention
    removed = {
        "check_runs": checks.prune(state, now, days.check_days),
        "partition_checks": partition_checks.prune(state, now, days.check_days),
        "alerts": alerts.prune(state, now, days.alert_days, days.notification_days),
        # The warehouse keeps them as job runs of `_self`.
        "job_runs": self_jobs.prune(state, now, days.raw_days),
    }
    limit = now - timedelta(days=days.alert_days)
    with state.begin() as con:
        removed["samples"] = con.execute(delete(collected).where(collected.c.moved_at < now - MOVED_FOR)).rowcount
        removed["silences"] = con.execute(delete(silence).where(silence.c.ends_at < limit)).rowcount
        counters.RECOVERIES.before_removal(con, recovery_request.c.at < limit, now)
        removed["recovery_requests"] = con.execute(
            delete(recovery_request).where(recovery_request.c.at < limit)
        ).rowcount
    return removed
