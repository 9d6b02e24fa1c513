"""Targets, processes and series that existed once and are expected to go on (C-440).

What belongs here: listing and retiring them. What does not: noticing and judging them (``alerts.rules``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from monitoring_pipelines.collect.health import TargetHealth
from monitoring_pipelines.state.tables import expectation

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.state.store import StateStore

_PROBES = ("http", "scrape")


def listed(
    state: StateStore, settings: Settings, now: datetime, kind: str | None = None, sources: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Everything expected, retired ones too: source_id, kind, name, health, first and last seen, age in seconds.

    ``health`` is that of the health page if the target has one, else that of scraping; None for processes and series.

    Args:
        state: The store.
        settings: Lengths of streaks.
        now: The present instant.
        kind: Only ``target``, ``process`` or ``series``.
        sources: Only these.
    """
    query = select(expectation).order_by(expectation.c.source_id, expectation.c.kind, expectation.c.name)
    if kind is not None:
        query = query.where(expectation.c.kind == kind)
    if sources is not None:
        query = query.where(expectation.c.source_id.in_(sources))
    rows = []
    with state.read() as con:
        for row in con.execute(query).mappings():
            health = health_of(row["state"], settings, now)
            rows.append(
                {
                    "source_id": row["source_id"],
                    "kind": row["kind"],
                    "name": row["name"],
                    "health": health.state if health else None,
                    "first_seen_at": row["first_seen_at"],
                    "last_seen_at": row["last_seen_at"],
                    "age_s": round((now - row["last_seen_at"]).total_seconds(), 1),
                    "retired_at": row["retired_at"],
                }
            )
    return rows


def health_of(stored: dict[str, Any] | None, settings: Settings, now: datetime) -> TargetHealth | None:
    """Health of an expectation at ``now`` (C-480): of the health page if it has one, else of scraping; None if it has neither.

    Args:
        stored: Its ``state``.
        settings: Lengths of streaks.
        now: The present instant, naive UTC.
    """
    known = stored or {}
    probe = next((known[name] for name in _PROBES if name in known), None)
    if probe is None:
        return None
    return TargetHealth.from_json(probe).at_instant(now, float(known.get("interval_s", settings.health.freshness_s)))


def retire(
    state: StateStore, name: str, kind: str | None, sources: Sequence[str] | None, now: datetime
) -> list[dict[str, Any]]:
    """End the expectation of everything called ``name``; a process's series go with it.

    Returns:
        What was retired now: source_id, kind, name.
    """
    table = expectation.c
    query = select(table.source_id, table.kind, table.name).where(table.retired_at.is_(None))
    named = (table.name == name) | ((table.kind == "series") & table.name.startswith(f"{name}/", autoescape=True))
    query = query.where(named if kind is None else (table.name == name) & (table.kind == kind))
    if sources is not None:
        query = query.where(table.source_id.in_(sources))
    with state.begin() as con:
        done = [dict(row) for row in con.execute(query).mappings()]
        for row in done:
            same = [getattr(table, column) == value for column, value in row.items()]
            con.execute(update(expectation).where(*same).values(retired_at=now))
    return done
