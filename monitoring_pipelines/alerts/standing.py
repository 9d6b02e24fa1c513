"""Whether a fired alert is shown as firing, inhibited or silenced (A-003, A-306, A-307).

What belongs here: silences and inhibition. What does not: their messages (``plan``), keeping silences (``actions``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from monitoring_pipelines.alerts.book import Book, Row
from monitoring_pipelines.alerts.matching import Matcher, matches, of_rule, read_matchers, value_of
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.state import tables

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inhibition:
    """While an alert matching ``source`` fires, those matching ``target`` with equal values are held back."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    def means(self, child: Row) -> bool:
        """Whether ``child`` may be held back by this rule; what inhibits through it never is."""
        return matches(child, self.target) and not matches(child, self.source)

    def values(self, alert: Row) -> tuple[str, ...]:
        """What must be equal between parent and child."""
        return tuple(value_of(alert, name) for name in self.equal)


def _rule(source: dict[str, str], target: dict[str, str], *equal: str) -> Inhibition:
    return Inhibition(of_rule(source), of_rule(target), equal)


#: A-307. A target that is down does not inhibit missing data: both are told.
DEFAULTS = (
    _rule({"alertname": "BrokerDown"}, {"service": "~hot-storage|cold-storage|collector"}),
    _rule({"alertname": "ClickHouseHotDown"}, {"service": "hot-storage"}),
    _rule({"alertname": "ClickHouseColdDown"}, {"service": "cold-storage"}),
    _rule({"type": "ingest.none"}, {"type": "ingest.low"}, "source", "process"),
    _rule({"type": "tasks.failure_rate"}, {"type": "tasks.success_rate"}, "source"),
    _rule({"type": "monitoring_error"}, {"type": "self.extract_lag"}, "source"),
)


def inhibitions(settings: Settings) -> list[Inhibition]:
    """The rules in force: shipped ones unless switched off, then configured ones."""
    own = [Inhibition(of_rule(r.source), of_rule(r.target), tuple(r.equal)) for r in settings.alerts.inhibit]
    return [*(DEFAULTS if settings.alerts.inhibit_defaults else ()), *own]


@dataclass(frozen=True)
class Silence:
    """An agreed quiet time for matching alerts, [starts_at, ends_at)."""

    silence_id: str
    matchers: tuple[Matcher, ...]


def active_silences(con: Connection, now: datetime) -> list[Silence]:
    """Silences in force at ``now``; one that cannot be read is none."""
    table = tables.silence
    query = select(table.c.silence_id, table.c.matchers).where(
        table.c.starts_at <= now, table.c.ends_at > now, table.c.deleted_at.is_(None)
    )
    found = []
    for row in con.execute(query):
        try:
            found.append(Silence(row.silence_id, tuple(read_matchers(row.matchers))))
        except UsageError as error:  # imported, or of an earlier version: better a message too many than none at all
            log.warning("silence %s holds nothing back: %s", row.silence_id, error.message)
    return found


def silenced_by(alert: Row, silences: Iterable[Silence]) -> str | None:
    """Id of the first silence that means ``alert``."""
    return next((silence.silence_id for silence in silences if matches(alert, silence.matchers)), None)


def settle(book: Book, settings: Settings, con: Connection) -> None:
    """Give every fired alert its standing; inhibition wins over silence (A-003)."""
    parents = _parents(book, settings, con)
    silences = active_silences(con, book.now)
    for alert in book.firing():
        if not parents and not silences and alert["state"] == "firing":
            continue
        parent = next((found for rule, by_value in parents if (found := _holder(rule, by_value, alert))), None)
        silence = None if parent else silenced_by(alert, silences)
        state = "inhibited" if parent else "silenced" if silence else "firing"
        book.stand(alert, state, inhibited_by=parent, silence_id=silence)


#: Values of ``equal`` → id of an alert that inhibits.
_Parents = dict[tuple[str, ...], str]


def _holder(rule: Inhibition, parents: _Parents, child: Row) -> str | None:
    return parents.get(rule.values(child)) if rule.means(child) else None


def _parents(book: Book, settings: Settings, con: Connection) -> list[tuple[Inhibition, _Parents]]:
    """Rules with the alerts that inhibit through them.

    One that has just ended still counts until the next tick: its children clear a moment after it, and would flap.
    """
    grace = timedelta(seconds=settings.alerts.tick_s / 2)
    table = tables.alert
    ended = con.execute(select(table).where(table.c.resolved_at > book.now - grace, table.c.fired_at.is_not(None)))
    alerts = [*(dict(row) for row in ended.mappings()), *book.resolved, *book.firing()]
    fired = [alert for alert in alerts if alert["fired_at"] is not None]
    found = []
    for rule in inhibitions(settings):
        by_value = {rule.values(alert): alert["alert_id"] for alert in fired if matches(alert, rule.source)}
        if by_value:
            found.append((rule, by_value))
    return found
