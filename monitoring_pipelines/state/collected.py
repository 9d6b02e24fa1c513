"""Rows of the built-in collectors until an extraction cycle has moved them into the warehouse (E-124).

What belongs here: storing, reading and pruning ``collected``. What does not: collecting (``collect``), and moving rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, or_, select

from monitoring_pipelines.state.heartbeats import beat
from monitoring_pipelines.state.tables import collected

if TYPE_CHECKING:
    from monitoring_pipelines.collect.answers import Row
    from monitoring_pipelines.state.store import StateStore

#: Rows that were moved are kept this long for those who look at the last hours; others much longer.
KEEP_MOVED = timedelta(hours=24)
KEEP_UNMOVED = timedelta(days=7)
COMPONENT = "collect"
#: Rows before the newest one that a reading looks at again.
_OVERLAP = 200


@dataclass(frozen=True)
class Sample:
    """One stored row: values by unified column, instants as ISO text; probe results also say their ``error``."""

    source_id: str
    entity: str
    key: str
    at: datetime
    values: dict[str, Any]


def store(state: StateStore, rows: Sequence[Row], now: datetime, period_s: float | None = None) -> None:
    """Add rows and remove those that are old enough, in one transaction.

    Args:
        state: The store.
        rows: What was collected.
        now: The instant, naive UTC.
        period_s: Seconds between two turns; given, the transaction is the heartbeat of collecting too (C-501).
    """
    values = [
        {"source_id": r.source_id, "entity": r.entity, "key": r.key, "at": r.at, "row": r.values, "moved_at": None}
        for r in rows
    ]
    old = or_(
        (collected.c.at < now - KEEP_UNMOVED),
        (collected.c.at < now - KEEP_MOVED) & collected.c.moved_at.is_not(None),
    )
    with state.begin() as con:
        if values:
            con.execute(insert(collected), values)
            con.execute(delete(collected).where(old))
        if period_s is not None:
            beat(con, COMPONENT, period_s, now)


def since(state: StateStore, start: datetime, entities: Iterable[str] | None = None) -> list[Sample]:
    """Rows with ``at`` after ``start``, oldest first."""
    query = select(collected.c.source_id, collected.c.entity, collected.c.key, collected.c.at, collected.c.row)
    query = query.where(collected.c.at > start).order_by(collected.c.at, collected.c.seq)
    if entities is not None:
        query = query.where(collected.c.entity.in_(tuple(entities)))
    with state.read() as con:
        return [Sample(*row) for row in con.execute(query)]


class Recent:
    """The rows of the last minutes, of which each reading fetches only what is new."""

    def __init__(self) -> None:
        self._rows: dict[int, Sample] = {}
        self._start: datetime | None = None
        self._guard = threading.Lock()

    def read(self, state: StateStore, start: datetime) -> list[Sample]:
        """Rows with ``at`` after ``start``, oldest first; an earlier start than before reads everything again."""
        c = collected.c
        with self._guard, state.read() as con:
            newest = con.execute(select(func.max(c.seq))).scalar() or 0
            top = max(self._rows, default=0)
            if newest < top or self._start is None or start < self._start:
                self._rows, top = {}, 0
            query = select(c.seq, c.source_id, c.entity, c.key, c.at, c.row).where(c.at > start)
            if top:
                # Transactions may commit out of order: a little before the newest row is looked at again.
                query = query.where(c.seq > top - _OVERLAP)
            for seq, *row in con.execute(query):
                if seq not in self._rows:
                    self._rows[seq] = Sample(*row)
            self._start = start
            self._rows = {seq: sample for seq, sample in self._rows.items() if sample.at > start}
            return sorted(self._rows.values(), key=lambda sample: sample.at)


def last_at(state: StateStore, source_id: str, kind: str, name: str) -> datetime | None:
    """Instant of the newest row of a target (kind ``http`` or ``scrape``) or of the own processes (kind ``own``)."""
    c = collected.c
    query = select(func.max(c.at)).where(c.source_id == source_id)
    if kind == "own":
        query = query.where(c.entity == "process_sample", c.key == "host")
    else:
        query = query.where(c.entity == "probe_result", c.key == f"{kind}:{name}")
    with state.read() as con:
        return con.execute(query).scalar()
