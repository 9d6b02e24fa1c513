"""Sources as a whole: how fresh, how complete, how busy (S-201, S-202, S-222).

What belongs here: one row per source from the published files. What does not: alerts and checks (``state``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import SchemaDrift
from monitoring_pipelines.published.endpoints import closed_through, ratio, table_of
from monitoring_pipelines.published.reader import Look

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import SourceSettings

HOUR = timedelta(hours=1)
#: Figures of tasks where none are known.
NO_TASKS: dict[str, Any] = dict.fromkeys(("submitted", "completed", "failed", "timeout", "success_rate"))


def source_row(look: Look | None, source: SourceSettings, now: datetime) -> dict[str, Any]:
    """One source: last success, lag, what it can answer, what is wrong with its schema (S-201)."""
    from monitoring_pipelines.config.features import features

    state: Mapping[str, Any] = look.manifest.sources.get(source.id, {}) if look else {}
    as_of = state.get("as_of")
    found = features(source)
    errors = extract_errors(look, source.id) if look else []
    return {
        "id": source.id, "preset": source.preset, "last_success_at": as_of,
        "lag_s": None if as_of is None else round((now - as_of).total_seconds(), 3),
        "closed_through": state.get("closed_through"), "origin": state.get("origin"),
        "features": {
            "on": [feature.name for feature in found if feature.on],
            "not_applicable": [{"name": f.name, "needs": f.needs} for f in found if not f.on],
        },
        "tables": errors, "drift": look is not None and source.id in drifted(look),
        "error": next((row["last_error"] for row in errors if row["last_error"]), None),
    }  # fmt: skip


def drifted(look: Look) -> frozenset[str]:
    """Sources whose last cycle failed because a mapped table or column is gone or of another kind (E-702)."""
    return look.once(("drifted",), ["meta.source_state"], lambda: _drifted(look))


def _drifted(look: Look) -> frozenset[str]:
    if not look.has("meta.source_state"):
        return frozenset()
    rows = look.rows(f"SELECT * FROM {look.table('meta.source_state')}")
    return frozenset(row["source_id"] for row in rows if row.get("last_error_code") == SchemaDrift.code)


def extract_errors(look: Look, source_id: str) -> list[dict[str, Any]]:
    """State of every table of a source: strategy, rows, last success, and an error that is newer than it."""
    return look.once(("extract errors", source_id), ["meta.extract_mark"], lambda: _extract_errors(look, source_id))


def _extract_errors(look: Look, source_id: str) -> list[dict[str, Any]]:
    from monitoring_pipelines.config.secrets import mask

    if not look.has("meta.extract_mark"):
        return []
    rows = look.rows(
        "SELECT src_table, entity, strategy, rows_total, last_success_at, last_error "
        f"FROM {look.table('meta.extract_mark')} WHERE source_id = ? ORDER BY entity, src_table",
        [source_id],
    )
    for row in rows:
        row["last_error"] = mask(row["last_error"])[:300] if row["last_error"] else None
    return rows


def task_counters(total: Mapping[str, Any], source: SourceSettings) -> dict[str, Any]:
    """Counters over everything stored, derived from attempts (S-222, C-310, C-330); ``total``: ``TaskIndex.totals``."""
    ended = total["completed"] + total["failed"] + total["timed_out"]
    limit = source.slots.limit
    in_use = total["open_attempts"]
    return {
        "source_id": source.id, "tasks": total["tasks"], "by_status": dict(total["by_status"]),
        "started": total["attempts"], "active": in_use, "completed": total["completed"], "failed": total["failed"],
        "timeout": total["timed_out"], "cancelled": total["cancelled"], "lost": total["lost"],
        "late_events": total["late_events"],
        "slots": {
            "limit": limit, "in_use": in_use, "available": None if limit is None else max(0, limit - in_use),
            "leaked": total["leaked"],
        },
        "success_rate": ratio(total["completed"], ended, 100),
    }  # fmt: skip


def last_day(look: Look, source_id: str) -> dict[str, Any]:
    """Tasks of the last 24 closed hours and workers of the newest closed minute; NULL where nothing is mapped."""
    end = closed_through(look, source_id)
    minute = table_of("endpoint", "minute")
    if end is None or not look.has(minute):
        return {"tasks_24h": NO_TASKS, "workers": None}
    return look.once(("last day", source_id), [minute], lambda: _last_day(look, source_id, minute, end), end)


def _last_day(look: Look, source_id: str, minute: str, end: datetime) -> dict[str, Any]:
    start = end - 24 * HOUR
    row = look.rows(
        "SELECT sum(tasks_submitted) AS submitted, sum(tasks_completed) AS completed, sum(tasks_failed) AS failed, "
        f"sum(tasks_timeout) AS timeout FROM {look.table(minute, start, end)} WHERE source_id = $source "
        "AND stat_minute >= $start AND stat_minute < $end",
        {"source": source_id, "start": start, "end": end},
    )[0]
    ends = [row[name] for name in ("completed", "failed", "timeout")]
    row["success_rate"] = None if None in ends else ratio(ends[0], sum(ends), 100)
    newest = end - timedelta(minutes=1)
    workers = look.rows(
        "SELECT sum(active_workers) AS active, sum(idle_workers) AS idle, sum(total_workers) AS total "
        f"FROM {look.table(minute, newest, end)} WHERE source_id = $source AND stat_minute = $newest",
        {"source": source_id, "newest": newest},
    )[0]
    return {"tasks_24h": row, "workers": workers}


def busiest_endpoints(look: Look, sources: list[str], most: int = 8) -> list[dict[str, Any]]:
    """Endpoints with the most submissions in the last 24 closed hours."""
    from monitoring_pipelines.published.endpoints import listed

    rows = [row for row in listed(look, sources) if row["totals_24h"]]
    rows.sort(key=lambda row: (-(row["totals_24h"]["tasks_submitted"] or 0), row["source_id"], row["endpoint"]))
    return rows[:most]
