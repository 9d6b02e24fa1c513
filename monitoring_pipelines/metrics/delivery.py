"""Delivery attempts per channel over all time and all sources (M-702, S-311).

What belongs here: adding the product's own attempts and those of mapped notifications. What does not: sending.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.state import StateStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TABLE = "mart.notification_daily_stats"


def channel_counters(state: StateStore, look: Look | None) -> dict[str, tuple[int, int]]:
    """Channel in upper case → (successful, failed) attempts, by name."""
    from monitoring_pipelines.state import counters

    counts: dict[str, tuple[int, int]] = {}

    def add(channel: str, ok: int, failed: int) -> None:
        known = counts.get(channel.upper(), (0, 0))
        counts[channel.upper()] = (known[0] + ok, known[1] + failed)

    with state.read() as con:
        for (channel, ok), n in counters.ATTEMPTS.total(con).items():
            add(channel, *((n, 0) if ok else (0, n)))
    if look is not None and look.has(_TABLE):
        for channel, ok, failed in look.once(("mapped notifications",), (_TABLE,), lambda: _mapped(look)):
            add(channel, int(ok), int(failed))
    return dict(sorted(counts.items()))


def _mapped(look: Look) -> list[tuple[str, int, int]]:
    return look.tuples(
        "SELECT channel, coalesce(sum(attempts_ok), 0)::BIGINT, coalesce(sum(attempts_failed), 0)::BIGINT "
        f"FROM {look.table(_TABLE)} WHERE source_id <> '_self' GROUP BY channel"
    )


#: Latency figures look at so many successful posts (S-330).
LATENCY_OF = 100


@dataclass(frozen=True)
class Gateway:
    """How fast a channel's receiver answered its newest successful posts, ms; None without any."""

    mean_ms: float | None
    p95_ms: float | None
    last_at: datetime | None


def gateways(con: Connection) -> dict[str, Gateway]:
    """Channel → answer times of its last ``LATENCY_OF`` successful posts, and when it was last tried (S-330, S-815)."""
    from sqlalchemy import func, select

    from monitoring_pipelines.state.tables import notification_attempt as attempt

    found = {}
    tried = select(attempt.c.channel, func.max(attempt.c.at)).group_by(attempt.c.channel).order_by(attempt.c.channel)
    for channel, last_at in con.execute(tried).all():
        newest = (
            select(attempt.c.latency_ms)
            .where(attempt.c.channel == channel, attempt.c.ok, attempt.c.latency_ms.is_not(None))
            .order_by(attempt.c.at.desc())
            .limit(LATENCY_OF)
        )
        values = sorted(con.execute(newest).scalars())
        mean = sum(values) / len(values) if values else None
        found[channel] = Gateway(mean, values[-(-95 * len(values) // 100) - 1] if values else None, last_at)
    return found
