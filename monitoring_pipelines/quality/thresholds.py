"""Thresholds people may change while the product runs (C-301, S-414): configured values with stored ones over them.

What belongs here: the effective values, changing them with range checks, the journal. What does not: rules that use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import delete, insert, select

from monitoring_pipelines.config.schema_alerts import Thresholds
from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.state.store import StateStore, upsert
from monitoring_pipelines.state.tables import threshold, threshold_journal

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

NAMES = tuple(Thresholds.model_fields)


def effective(settings: Settings, state: StateStore | None) -> Thresholds:
    """The values in force: the configured ones, those changed at run time over them."""
    configured = settings.thresholds.model_dump()
    if state is None:
        return settings.thresholds
    with state.read() as con:
        changed = {row.name: row.value for row in con.execute(select(threshold)) if row.name in configured}
    return Thresholds.model_validate(configured | changed)


def change(settings: Settings, state: StateStore, values: Mapping[str, Any], actor: str, now: datetime) -> Thresholds:
    """Set some thresholds; all of them or, if one is bad, none. Equal values leave no journal entry.

    Args:
        settings: Configured values. None as a value goes back to the configured one.
        state: The store.
        values: Name → number.
        actor: Who changes them.
        now: The instant, naive UTC.

    Raises:
        UsageError: An unknown name, a wrong type, or a value out of range; the message names it.
    """
    for name in values:
        if name not in NAMES:
            raise UsageError(f"unknown threshold {name!r}{did_you_mean(name, NAMES)}", f"known: {', '.join(NAMES)}")
    with state.begin() as con:
        stored = {row.name: row.value for row in con.execute(select(threshold))}
        configured = settings.thresholds.model_dump()
        before = configured | {name: value for name, value in stored.items() if name in configured}
        wanted = before | {name: configured[name] if value is None else value for name, value in values.items()}
        after = _validated(wanted)
        for name in values:
            new = getattr(after, name)
            if values[name] is None:
                con.execute(delete(threshold).where(threshold.c.name == name))
            else:
                row = {"name": name, "value": new, "updated_at": now, "updated_by": actor}
                upsert(con, threshold, [row])
            if new != before[name]:
                entry = {"name": name, "old": before[name], "new": new, "at": now, "actor": actor}
                con.execute(insert(threshold_journal).values(entry))
    return after


def journal(state: StateStore, most: int = 100) -> list[dict[str, Any]]:
    """Changes, newest first: name, old, new, at, actor."""
    names = ("name", "old", "new", "at", "actor")
    with state.read() as con:
        newest = select(threshold_journal).order_by(threshold_journal.c.seq.desc()).limit(most)
        return [{name: row._mapping[name] for name in names} for row in con.execute(newest)]


def _validated(values: Mapping[str, Any]) -> Thresholds:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{name}: a number is needed, not {value!r}")
    try:
        return Thresholds.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
