"""Delivery attempts per channel over all time and all sources (M-702, S-311).

What belongs here: adding the product's own attempts and those of mapped notifications. What does not: sending.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.warehouse.counters import DAYS
from monitoring_pipelines.warehouse.counters import TABLE as PAST

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
    if look is not None:
        for channel, ok, failed in look.once(("mapped notifications",), (_TABLE, PAST), lambda: _mapped(look)):
            add(channel, int(ok or 0), int(failed or 0))
    return dict(sorted(counts.items()))


def _mapped(look: Look) -> list[tuple[str, int | None, int | None]]:
    """Attempts per channel that the days of a source tell, and those that retention removed."""
    if not look.has(_TABLE):
        return []
    parts = []
    days = f"SELECT source_id, channel, stat_date, attempts_ok, attempts_failed FROM {look.table(_TABLE)}"
    if look.has(PAST):
        removed = f"(SELECT * FROM {look.table(PAST)} WHERE counter = '{_TABLE}')"
        parts.append(
            "SELECT labels[1] AS channel, CASE labels[2] WHEN 'attempts_ok' THEN amount END AS ok, "
            f"CASE labels[2] WHEN 'attempts_failed' THEN amount END AS failed FROM {removed}"
        )
        days = (
            f"SELECT d.* FROM ({days}) AS d LEFT JOIN (SELECT source_id, max(until) AS until FROM {removed} GROUP BY source_id) "
            "USING (source_id) WHERE until IS NULL OR stat_date >= until"
        )
    parts.append(f"SELECT channel, attempts_ok, attempts_failed FROM ({days}) WHERE {DAYS[_TABLE].where}")
    return look.tuples(
        f"SELECT channel, sum(ok)::BIGINT, sum(failed)::BIGINT FROM ({' UNION ALL '.join(parts)}) AS a(channel, ok, failed) "
        "GROUP BY channel"
    )


#: Statistics of messages from coarse to fine: table, its bucket, format of the keys of its partitions.
_LEVELS = (
    (_TABLE, "stat_date", None),
    ("mart.notification_hourly_stats", "stat_hour", "%Y-%m-%d"),
    ("mart.notification_minute_stats", "stat_minute", "%Y-%m-%dT%H"),
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


def mapped_gateways(look: Look) -> dict[str, Gateway]:
    """Channel in upper case → figures of what sources tell of their own messages.

    Answer times are those of its newest day that has any; the last attempt is known to its minute, and to its hour or day
    once the minute is past retention.
    """
    tables = tuple(table for table, *_ in _LEVELS)
    return look.once(("gateways of sources",), tables, lambda: _mapped_gateways(look))


def _mapped_gateways(look: Look) -> dict[str, Gateway]:
    if not look.has(_TABLE):
        return {}
    # The percentile of several sources together cannot be told from theirs.
    times = look.tuples(
        "SELECT channel, sum(latency_sum_ms) / sum(latency_n), CASE WHEN count(*) = 1 THEN max(p95_latency_ms) END "
        f"FROM {look.table(_TABLE)} WHERE source_id <> '_self' AND latency_n > 0 GROUP BY channel, stat_date "
        "QUALIFY row_number() OVER (PARTITION BY channel ORDER BY stat_date DESC) = 1"
    )
    means = {channel: float(mean) for channel, mean, _ in times}
    p95s = {channel: None if p95 is None else float(p95) for channel, _, p95 in times}
    newest = _last_attempts(look)
    return {channel: Gateway(means.get(channel), p95s.get(channel), at) for channel, at in newest.items()}


def _last_attempts(look: Look) -> dict[str, datetime]:
    """Channel → start of the finest stored bucket with its newest attempt."""
    found: dict[str, datetime] = {}
    for table, bucket, pattern in _LEVELS:
        if pattern is None:
            rows = look.table(table)
        else:
            keys = sorted({f"{at:{pattern}}" for at in found.values()} & set(look.files(table)))
            if not keys:
                break
            rows = look.partition(table, keys)
        newest = look.tuples(
            f"SELECT channel, max({bucket})::TIMESTAMP FROM {rows} "
            "WHERE source_id <> '_self' AND attempts_ok + attempts_failed > 0 GROUP BY channel"
        )
        found |= {channel: max(at, found.get(channel, at)) for channel, at in newest}
    return found
