"""Lists of the runs of jobs: of one job, or of many with what they ended in and when (S-427, M-505).

What belongs here: choosing, ordering and counting rows of ``raw.job_run``. What does not: figures of jobs (``jobs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines.published.reader import Look

#: Outcomes that count as a failure (M-501).
FAILED = ("failure", "timeout")
#: Files are cut by the start of a run: so much earlier one may have begun that ended in a window.
LONGEST_RUN = timedelta(days=7)
#: What runs can be ordered by (S-804).
RUN_ORDERS = {name: name for name in ("scheduled_at", "started_at", "ended_at", "outcome", "trigger")} | {
    "duration_ms": "coalesce(duration_ms, date_diff('microsecond', started_at, ended_at) / 1000)"
}


@dataclass(frozen=True)
class RunFilter:
    """Which runs are wanted: of these outcomes (none: all), that ended in ``[start, end)``, naive UTC."""

    outcomes: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The condition, with ``AND`` before each part, and its parameters."""
        parts: list[tuple[str, str, Any]] = []
        if self.outcomes:
            parts.append(("list_contains($outcomes, outcome)", "outcomes", list(self.outcomes)))
        if self.start is not None:
            parts.append(("ended_at >= $start", "start", self.start))
        if self.end is not None:
            parts.append(("ended_at < $end", "end", self.end))
        return "".join(f" AND {text}" for text, _, _ in parts), {name: value for _, name, value in parts}


def runs(
    look: Look, jobs: Sequence[tuple[str, str]], offset: int, limit: int, sort: str | None = None,
    wanted: RunFilter = RunFilter(),
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Runs of jobs, newest first unless ``sort`` (of ``RUN_ORDERS``) says otherwise, and how many there are.

    Args:
        look: The published files.
        jobs: (source, job id) of each.
        offset: So many are left out.
        limit: At most so many.
        sort: A key of ``RUN_ORDERS``, with ``-`` before it descending.
        wanted: Only such runs.
    """
    if not look.has("raw.job_run") or not jobs:
        return [], 0
    condition, values = wanted.sql()
    if len(jobs) == 1:
        whose = "source_id = $source AND job_id = $job"
        values |= {"source": jobs[0][0], "job": jobs[0][1]}
    else:
        whose = "(source_id, job_id) IN (SELECT unnest($sources), unnest($jobs))"
        values |= {"sources": [source for source, _ in jobs], "jobs": [job for _, job in jobs]}
    since = None if wanted.start is None else wanted.start - min(LONGEST_RUN, wanted.start - datetime.min)
    found = f"FROM {look.table('raw.job_run', since)} WHERE {whose}{condition}"
    order = "coalesce(started_at, scheduled_at, ended_at, first_seen_at) DESC, source_id, run_key DESC"
    if sort is not None:
        direction = "DESC" if sort.startswith("-") else "ASC"
        order = f"{RUN_ORDERS[sort.removeprefix('-')]} {direction} NULLS LAST, {order}"
    rows = look.rows(
        "SELECT source_id, job_id, run_key, scheduled_at, started_at, ended_at, duration_ms, outcome, error_message, attempt, "
        f"trigger, count(*) OVER () AS total {found} ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)}",
        values,
    )
    if not rows:  # a page after the last one
        return [], int(look.value(f"SELECT count(*) {found}", values) or 0)
    total = max(row.pop("total") for row in rows)
    for row in rows:
        if row["duration_ms"] is None and row["started_at"] and row["ended_at"]:
            row["duration_ms"] = (row["ended_at"] - row["started_at"]) / timedelta(milliseconds=1)
    return rows, total
