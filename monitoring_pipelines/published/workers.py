"""What the workers of an endpoint did in a window: online, busy, idle, and what they do at its end (S-214).

What belongs here: cutting stored intervals and attempts to a window (M-303, M-307). What does not: deriving intervals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TASK

Span = tuple[datetime, datetime]
#: Longest window; longer questions are answered by the statistics.
LONGEST = timedelta(days=2)
#: Attempts are looked for in tasks created up to this long before the window.
_REACH = timedelta(days=1)
#: An attempt may end this long after its task did, by clocks that differ.
_LATE = timedelta(hours=1)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of spans, ascending."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def common(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """What two unions have in common."""
    second = list(other)
    return [
        (max(a, c), min(b, d)) for a, b in one for c, d in second if max(a, c) < min(b, d)
    ]  # fmt: skip


def milliseconds(spans: Iterable[Span]) -> float:
    """Total length in ms with three decimals."""
    total = sum(((end - start) // timedelta(microseconds=1) for start, end in spans), 0)
    return total / 1000


def workers(look: Look, source_id: str, endpoint: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Per worker of the endpoint that was online in [start, end): its times, state at ``end``, idle age, evidence."""
    if not look.has("core.worker_interval"):
        return []
    rows = look.rows(
        "SELECT worker_key, state, from_at, to_at, evidence, quality "
        f"FROM {look.table('core.worker_interval', None, end)} "
        "WHERE source_id = $source AND endpoint = $endpoint AND from_at < $end AND (to_at IS NULL OR to_at > $start)",
        {"source": source_id, "endpoint": endpoint, "start": start, "end": end},
    )
    online: dict[str, list[Span]] = defaultdict(list)
    busy: dict[str, list[Span]] = defaultdict(list)
    evidence: dict[str, str] = {}
    quality: dict[str, str] = {}
    for row in rows:
        span = (row["from_at"], min(row["to_at"] or end, end))
        (busy if row["state"] == "busy" else online)[row["worker_key"]].append(span)
        if row["state"] != "busy":
            evidence[row["worker_key"]], quality[row["worker_key"]] = row["evidence"], row["quality"]
    for worker, first, last in _attempts(look, source_id, endpoint, start, end) if online else ():
        busy[worker].append((first, last))
    window = [(start, end)]
    result = []
    for worker in sorted(online):
        whole = merged(online[worker])
        at_work = common(merged(busy.get(worker, ())), whole)
        present, used = common(whole, window), common(at_work, window)
        state, since = _state(whole, at_work, end)
        result.append({
            "worker_key": worker, "online_ms": milliseconds(present), "busy_ms": milliseconds(used),
            "idle_ms": round(milliseconds(present) - milliseconds(used), 3), "state": state, "since": since,
            "idle_age_s": (end - since).total_seconds() if state == "idle" and since else None,
            "source": evidence.get(worker), "quality": quality.get(worker),
        })  # fmt: skip
    return result


def _state(online: list[Span], busy: list[Span], at: datetime) -> tuple[str, datetime | None]:
    """What a worker does just before ``at``, and since when."""
    here = next((span for span in online if span[0] < at <= span[1]), None)
    if here is None:
        return "offline", max((end for _, end in online), default=None)
    working = next((span for span in busy if span[0] < at <= span[1]), None)
    if working is not None:
        return "busy", working[0]
    return "idle", max([here[0], *(end for _, end in busy if end <= at and end >= here[0])])


def _attempts(
    look: Look, source_id: str, endpoint: str, start: datetime, end: datetime
) -> Iterable[tuple[str, datetime, datetime]]:
    if not look.has(TASK):
        return []
    return look.tuples(
        "SELECT a.worker_key, a.started_at, least(coalesce(a.ended_at, $end), $end) FROM (SELECT unnest(attempt_list) AS a "
        f"FROM {look.table(TASK, start - _REACH, end)} WHERE source_id = $source AND endpoint = $endpoint "
        "AND (effective_end IS NULL OR effective_end >= $reach OR open_attempts > 0)) "
        "WHERE a.worker_key IS NOT NULL AND a.started_at < $end AND coalesce(a.ended_at, $end) > $start",
        {"source": source_id, "endpoint": endpoint, "start": start, "end": end, "reach": start - _LATE},
    )
