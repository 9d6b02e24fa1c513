"""Delivery attempts per channel over all time and all sources (M-702, S-311).

What belongs here: adding the product's own attempts and those of mapped notifications. What does not: sending.
"""

from __future__ import annotations

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.state import StateStore

_TABLE = "mart.notification_daily_stats"


def channel_counters(state: StateStore, look: Look | None) -> dict[str, tuple[int, int]]:
    """Channel in upper case → (successful, failed) attempts, by name."""
    from sqlalchemy import case, func, select

    from monitoring_pipelines.state.tables import notification_attempt as attempt

    counts: dict[str, tuple[int, int]] = {}

    def add(channel: str, ok: int, failed: int) -> None:
        known = counts.get(channel.upper(), (0, 0))
        counts[channel.upper()] = (known[0] + ok, known[1] + failed)

    done = func.sum(case((attempt.c.ok, 1), else_=0))
    with state.read() as con:
        for row in con.execute(select(attempt.c.channel, done, func.count()).group_by(attempt.c.channel)):
            add(row[0], int(row[1]), int(row[2] - row[1]))
    if look is not None and look.has(_TABLE):
        mapped = look.tuples(
            "SELECT channel, coalesce(sum(attempts_ok), 0)::BIGINT, coalesce(sum(attempts_failed), 0)::BIGINT "
            f"FROM {look.table(_TABLE)} WHERE source_id <> '_self' GROUP BY channel"
        )
        for channel, ok, failed in mapped:
            add(channel, int(ok), int(failed))
    return dict(sorted(counts.items()))
