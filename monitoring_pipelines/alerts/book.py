"""The open alerts in memory during one evaluation, and what changed (A-003, A-204).

What belongs here: the states an alert goes through and the writing of all changes at once. What does not: deciding
whether a condition holds (``lifecycle``, ``contributions``) and who is told (``plan``).

An evaluation reads everything, decides, and writes once, in one transaction: a process killed at any point leaves either
the state before or the state after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id

Row = dict[str, Any]
#: States in which the condition holds and has held long enough.
FIRED = ("firing", "inhibited", "silenced")


class Book:
    """Open alerts by fingerprint; changes are collected until ``write``.

    Args:
        con: A transaction of the state store.
        now: Instant of the evaluation, naive UTC.
    """

    def __init__(self, con: Connection, now: datetime) -> None:
        self.now = now
        rows = con.execute(select(tables.alert).where(tables.alert.c.open_fingerprint.is_not(None)))
        self._open: dict[str, Row] = {row["fingerprint"]: dict(row) for row in rows.mappings()}
        self._new: dict[str, Row] = {}
        self._changed: dict[str, set[str]] = defaultdict(set)
        self._by_id = {row["alert_id"]: row for row in self._open.values()}
        self._events: list[Row] = []
        self._dropped: list[str] = []
        #: Alerts that ended in this evaluation.
        self.resolved: list[Row] = []
        #: How each of them was shown before it ended.
        self.was: dict[str, str] = {}
        #: Ids of alerts that became worse, and of those that an inhibition or silence no longer holds back.
        self.raised: set[str] = set()
        self.released: set[str] = set()
        #: Ids of alerts that began to fire in this evaluation.
        self.fired: set[str] = set()

    def find(self, fingerprint: str) -> Row | None:
        """The open alert of a fingerprint."""
        return self._open.get(fingerprint)

    def open_alerts(self) -> Iterator[Row]:
        """All open alerts, pending ones too."""
        yield from self._open.values()

    def firing(self) -> Iterator[Row]:
        """Open alerts that have fired, whether shown as firing, inhibited or silenced."""
        return (row for row in self._open.values() if row["state"] in FIRED)

    def open(self, row: Row) -> Row:
        """Add a new alert; ``row`` has at least fingerprint, type, alertname, source_id, labels and severity."""
        base: Row = {column.name: None for column in tables.alert.columns}
        full = base | {
            "alert_id": new_id(self.now), "open_fingerprint": row["fingerprint"], "state": "pending",
            "active_at": self.now, "last_seen_at": self.now, "occurrences": 1, "is_drill": False,
        } | row  # fmt: skip
        self._open[full["fingerprint"]] = full
        self._new[full["alert_id"]] = full
        self._by_id[full["alert_id"]] = full
        return full

    def set(self, alert: Row, **values: Any) -> None:
        """Change columns; nothing is written for values that stay the same."""
        for name, value in values.items():
            if alert[name] != value:
                alert[name] = value
                self._changed[alert["alert_id"]].add(name)

    def event(self, alert: Row, kind: str, *, before: str | None = None, reason: str | None = None) -> None:
        """One line of history (A-204)."""
        self._events.append({
            "event_id": new_id(self.now), "alert_id": alert["alert_id"], "at": self.now, "kind": kind,
            "from_state": before, "to_state": alert["state"], "severity": alert["severity"], "actor": None,
            "reason": reason,
        })  # fmt: skip

    def pend(self, alert: Row) -> None:
        """The condition holds; ``for`` is not over yet."""
        self.event(alert, "transition", before="inactive")

    def fire(self, alert: Row) -> None:
        """The condition has held long enough (A-201)."""
        before = "inactive" if alert["alert_id"] in self._new else alert["state"]
        self.set(alert, state="firing", fired_at=self.now)
        self.fired.add(alert["alert_id"])
        self.event(alert, "transition", before=before)

    def stand(self, alert: Row, state: str, *, inhibited_by: str | None, silence_id: str | None) -> None:
        """Show a fired alert as firing, inhibited or silenced (A-003)."""
        before = alert["state"]
        self.set(alert, inhibited_by=inhibited_by, silence_id=silence_id)
        if before == state:
            return
        self.set(alert, state=state)
        if state == "firing":
            self.released.add(alert["alert_id"])
        reason = f"by alert {inhibited_by}" if inhibited_by else f"by silence {silence_id}" if silence_id else None
        self.event(alert, "transition", before=before, reason=reason)

    def rate(self, alert: Row, severity: str, label: str) -> None:
        """Change the severity (A-303): a rise also takes an acknowledgement back."""
        from monitoring_pipelines.severity import rank

        before = alert["severity"]
        self.set(alert, severity=severity, severity_label=label)
        if before == severity:
            return
        if alert["state"] in FIRED:
            self.event(alert, "severity", before=alert["state"], reason=f"{before} → {severity}")
        if rank(severity) > rank(before) and alert["state"] in FIRED:
            self.raised.add(alert["alert_id"])
            if alert["acknowledged_at"] is not None:
                self.set(alert, acknowledged_at=None, acknowledged_by=None, acknowledged_note=None)
                self.event(alert, "unacknowledge", before=alert["state"], reason="the severity rose")

    def drop(self, alert: Row) -> None:
        """A pending alert whose condition ended leaves nothing but its history (A-003)."""
        before, alert["state"] = alert["state"], "inactive"
        self.event(alert, "transition", before=before)
        self._open.pop(alert["fingerprint"])
        if self._new.pop(alert["alert_id"], None) is None:
            self._dropped.append(alert["alert_id"])
        self._changed.pop(alert["alert_id"], None)

    def resolve(self, alert: Row, reason: str | None = None) -> None:
        """The alert is over (A-202); a further occurrence is a new row (A-203)."""
        before = self.was[alert["alert_id"]] = alert["state"]
        self.set(
            alert, state="resolved", resolved_at=self.now, open_fingerprint=None, inhibited_by=None, silence_id=None
        )
        self.event(alert, "transition", before=before, reason=reason)
        self._open.pop(alert["fingerprint"])
        self.resolved.append(alert)

    def write(self, con: Connection) -> int:
        """Write all changes; returns how many alerts were touched."""
        if self._dropped:
            for part in chunks(self._dropped):
                con.execute(delete(tables.alert).where(tables.alert.c.alert_id.in_(part)))
        # An alert that ends frees its fingerprint before a new one may take it.
        update_rows(con, tables.alert, "alert_id", self._changes())
        insert_rows(con, tables.alert, list(self._new.values()))
        insert_rows(con, tables.alert_event, self._events)
        return len(self._dropped) + len(self._changed) + len(self._new)

    def _changes(self) -> Iterator[Row]:
        for alert_id, names in self._changed.items():
            if alert_id not in self._new and names:
                row = self._by_id[alert_id]
                yield {"alert_id": alert_id} | {name: row[name] for name in names}


def insert_rows(con: Connection, table: Any, rows: list[Row]) -> None:
    """Insert rows that all have the same columns."""
    if rows:
        con.execute(insert(table), rows)


def update_rows(con: Connection, table: Any, key: str, rows: Iterable[Row]) -> None:
    """Update rows by ``key``, one statement per set of columns."""
    by_columns: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        names = tuple(sorted(name for name in row if name != key))
        by_columns[names].append({f"_{name}": row[name] for name in names} | {"_key": row[key]})
    for names, values in by_columns.items():
        statement = update(table).where(table.c[key] == bindparam("_key"))
        con.execute(statement.values({name: bindparam(f"_{name}") for name in names}), values)


def chunks(values: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """``values`` in lists of at most ``size``: databases limit the parameters of one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
