"""Anomalies of the data by kind, table and day, with the newest of each (E-007, S-820).

What belongs here: answering from the published summary. What does not: finding anomalies (``warehouse``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitoring_pipelines.published.reader import Look

TABLE = "meta.anomaly_summary"


def of_days(
    look: Look, sources: Sequence[str], kind: str | None, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int, int]:
    """(rows of one source, kind, entity and day, newest day first; how many there are; sum of their counts).

    A row's ``day`` is that of the anomalies' own time in UTC, NULL for those that have none; ``examples`` are the newest ones.
    """
    if not look.has(TABLE):
        return [], 0, 0
    # What was published by an earlier version names none.
    examples = "examples" if "examples" in look.columns(TABLE) else "NULL AS examples"
    found = f"FROM {look.table(TABLE)} WHERE list_contains($sources, source_id)"
    values: dict[str, Any] = {"sources": list(sources)}
    if kind is not None:
        found += " AND kind = $kind"
        values["kind"] = kind
    rows = look.rows(
        f'SELECT source_id, kind, entity, "day", n AS count, first_at, last_at, {examples} {found} '
        f'ORDER BY "day" DESC NULLS LAST, source_id, kind, entity LIMIT {int(limit)} OFFSET {int(offset)}',
        values,
    )
    for row in rows:
        row["examples"] = [{"key": one["key"], "detail": one["detail"]} for one in row["examples"] or ()]
    ((total, count),) = look.tuples(f"SELECT count(*), coalesce(sum(n), 0)::BIGINT {found}", values)
    return rows, total, count
