"""What happened when: the workers of an endpoint side by side, and the time in which the product itself did not look.

What belongs here: spans for timelines and charts. What does not: sums over them (``workers``, the statistics).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TASK
from monitoring_pipelines.published.workers import Span, common, merged

#: Longest window of lanes; more would be drawn thinner than a pixel.
LONGEST = timedelta(hours=6)
MOST_WORKERS = 60
#: Attempts are looked for in tasks created up to this long before the window.
_REACH = timedelta(days=1)
_TICK = "minute_tick_job"
#: Ticks further apart than this left the source unwatched between them.
_MISSED = timedelta(minutes=3)


def lanes(
    look: Look, source_id: str, endpoint: str, start: datetime, end: datetime
) -> tuple[list[dict[str, Any]], int]:
    """Per worker that was online or worked in [start, end): ``{worker_key, online, work}``; and how many there were.

    ``online`` are spans, ``work`` are (from, to, outcome), outcome None while the attempt goes on. At most
    ``MOST_WORKERS``, those that worked last first.
    """
    found: dict[str, dict[str, Any]] = {}

    def lane(worker: str) -> dict[str, Any]:
        return found.setdefault(worker, {"worker_key": worker, "online": [], "work": []})

    values = {"source": source_id, "endpoint": endpoint, "start": start, "end": end}
    if look.has("core.worker_interval"):
        for worker, first, last in look.tuples(
            f"SELECT worker_key, from_at, coalesce(to_at, $end) FROM {look.table('core.worker_interval', None, end)} "
            "WHERE source_id = $source AND endpoint = $endpoint AND state <> 'busy' AND from_at < $end "
            "AND (to_at IS NULL OR to_at > $start)",
            values,
        ):
            lane(worker)["online"].append((first, last))
    if look.has(TASK):
        for worker, first, last, outcome in look.tuples(
            "SELECT a.worker_key, a.started_at, coalesce(a.ended_at, $end), a.outcome FROM "
            f"(SELECT unnest(attempt_list) AS a FROM {look.table(TASK, start - _REACH, end)} "
            "WHERE source_id = $source AND endpoint = $endpoint) "
            "WHERE a.worker_key IS NOT NULL AND a.started_at < $end AND coalesce(a.ended_at, $end) > $start",
            values,
        ):
            lane(worker)["work"].append((max(first, start), min(last, end), outcome))
    for one in found.values():
        one["online"] = common(merged(one["online"]), [(start, end)])
        one["work"].sort(key=lambda part: part[0])
    ordered = sorted(found.values(), key=lambda one: (_last(one), one["worker_key"]), reverse=True)
    return ordered[:MOST_WORKERS], len(ordered)


def _last(lane: dict[str, Any]) -> datetime:
    ends: Sequence[datetime] = [part[1] for part in (*lane["work"], *lane["online"])]
    return max(ends, default=datetime.min)


def blind(look: Look, start: datetime, end: datetime) -> list[Span]:
    """Spans of [start, end) in which the product itself made no tick: its own blind time.

    Only what lies between two of its ticks counts; before the first one it was not installed.
    """
    if not look.has("raw.job_run"):
        return []
    question = ("blind", str(end - start))
    return look.once(question, ["raw.job_run"], lambda: _blind(look, start, end), start, end)


def _blind(look: Look, start: datetime, end: datetime) -> list[Span]:
    # Gaps are found where the rows are: two hundred days of ticks are 300,000 rows.
    found = look.tuples(
        "SELECT before, started_at FROM (SELECT started_at, max(greatest(started_at, ended_at)) OVER (ORDER BY started_at "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before "
        f"FROM {look.table('raw.job_run', start - timedelta(days=8), end)} "
        "WHERE source_id = '_self' AND job_id = $job AND outcome = 'success' AND started_at < $end) "
        f"WHERE started_at - before > INTERVAL {int(_MISSED.total_seconds())} SECOND ORDER BY started_at",
        {"job": _TICK, "end": end},
    )
    return common(found, [(start, end)])
