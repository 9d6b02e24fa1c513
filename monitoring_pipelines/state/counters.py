"""Counters over rows of the state store that never fall: what is there, and what retention has removed (S-303).

What belongs here: what each counter counts, and remembering the counts of rows before they are removed. What does not:
removing them (their repositories), names and labels of families (``metrics``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import (
    alert,
    alert_event,
    check_run,
    notification,
    notification_attempt,
    recovery_request,
    setting,
)

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Connection, FromClause

Labels = tuple[Any, ...]
#: Counter → what tells that its rows are the same, and their counts.
Memo = dict[str, tuple[Any, dict[Labels, int]]]


@dataclass(frozen=True)
class Counter:
    """Rows of ``rows`` that fulfil ``where``, counted by ``labels``; each counts ``number``, or 1.

    ``key`` is given where rows never change once they are there: their number and the greatest key then tell that nothing came.
    """

    name: str
    rows: FromClause
    labels: tuple[ColumnElement[Any], ...]
    where: ColumnElement[bool] | None = None
    number: ColumnElement[Any] | None = None
    key: Column[Any] | None = None

    def stored(self, con: Connection, *where: ColumnElement[bool]) -> dict[Labels, int]:
        """Counts of the rows that are there; ``where``: of these only."""
        conditions = [*where, *([] if self.where is None else [self.where])]
        number = func.count() if self.number is None else func.sum(self.number)
        query = select(*self.labels, number).select_from(self.rows).where(*conditions).group_by(*self.labels)
        return {tuple(labels): int(n) for *labels, n in con.execute(query)}

    def removed(self, con: Connection) -> dict[Labels, int]:
        """Counts of the rows that are no longer there."""
        value = con.execute(select(setting.c.value).where(setting.c.name == self._setting)).scalar()
        return {tuple(labels): n for *labels, n in value or ()}

    def total(self, con: Connection, memo: Memo | None = None) -> dict[Labels, int]:
        """Counts of all rows there ever were, by labels in order; ``memo`` spares counting while nothing came."""
        found = self.removed(con)
        stored = self.stored(con) if memo is None or self.key is None else self._remembered(con, dict(found), memo)
        for labels, n in stored.items():
            found[labels] = found.get(labels, 0) + n
        return dict(sorted(found.items(), key=lambda pair: tuple(map(str, pair[0]))))

    def _remembered(self, con: Connection, removed: dict[Labels, int], memo: Memo) -> dict[Labels, int]:
        assert self.key is not None
        mark = select(func.count(), func.max(self.key)).where(*([] if self.where is None else [self.where]))
        same = *con.execute(mark).one(), removed  # removal is told by what is remembered of it
        known = memo.get(self.name)
        if known is None or known[0] != same:
            known = memo[self.name] = same, self.stored(con)
        return known[1]

    def before_removal(self, con: Connection, going: ColumnElement[bool], now: datetime) -> None:
        """Remember the counts of the rows that fulfil ``going``; call it in the transaction that removes them."""
        counts = self.stored(con, going)
        if not counts:
            return
        known = self.removed(con)
        for labels, n in counts.items():
            known[labels] = known.get(labels, 0) + n
        row = {"name": self._setting, "value": [[*labels, n] for labels, n in known.items()]}
        upsert(con, setting, [row | {"updated_at": now, "updated_by": None}])

    @property
    def _setting(self) -> str:
        return f"counter:{self.name}"


CHECK_RUNS = Counter(
    "check_runs", check_run, (check_run.c.type, check_run.c.status), check_run.c.status != "running", check_run.c.count
)
TRANSITIONS = Counter(
    "alert_transitions", alert_event.join(alert, alert.c.alert_id == alert_event.c.alert_id),
    (alert.c.type, alert_event.c.to_state), alert_event.c.kind == "transition", key=alert_event.c.event_id,
)  # fmt: skip
MESSAGES = Counter(
    "notifications", notification, (notification.c.channel, notification.c.kind, notification.c.state),
    notification.c.state.in_(("sent", "abandoned", "suppressed")),
)  # fmt: skip
ATTEMPTS = Counter("attempts", notification_attempt, (notification_attempt.c.channel, notification_attempt.c.ok))
RECOVERIES = Counter("recovery_requests", recovery_request, (recovery_request.c.target, recovery_request.c.result))
