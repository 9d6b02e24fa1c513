"""Which messages are due, written as notification rows in the transaction of the evaluation (A-301 to A-308, A-403).

What belongs here: first messages, repeats, rises, resolutions and what makes a waiting message pointless. What does not:
sending (``outbox``).

A plan follows from what is stored, not from what just happened: after a crash the next tick plans the same messages.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from monitoring_pipelines.alerts import routing
from monitoring_pipelines.alerts.book import Book, Row, chunks, insert_rows, update_rows
from monitoring_pipelines.severity import highest
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

#: Kinds that say an alert is firing; the first one in this order names a message that holds several.
FIRING_KINDS = ("severity_up", "firing", "repeat")
WAITING = ("pending", "failed")
#: Reason of a message that waits for the end of quiet hours (A-502).
QUIET = "quiet_hours"


class Plan:
    """Messages of one evaluation.

    Args:
        book: The alerts after their transitions.
        settings: Routes, channels and intervals.
        con: The transaction of the evaluation.
    """

    def __init__(self, book: Book, settings: Settings, con: Connection) -> None:
        self.book, self.settings, self.con, self.now = book, settings, con, book.now
        self.routes = {severity: route for route in routing.routes(settings) for severity in route.severities}
        self.slots: dict[tuple[str, str], Row] = {}
        self._changed_slots: set[tuple[str, str]] = set()
        self._channels: dict[str, list[str]] = defaultdict(list)
        self._waiting: dict[str, Row] = {}
        self._touched: set[str] = set()
        self._new: dict[tuple[Any, ...], Row] = {}
        self._joinable: dict[tuple[str, str], Row] = {}
        self._load()

    def _load(self) -> None:
        table = tables.alert_channel
        query = select(table).join(tables.alert, tables.alert.c.alert_id == table.c.alert_id)
        for row in self.con.execute(query.where(tables.alert.c.open_fingerprint.is_not(None))).mappings():
            self.slots[row["alert_id"], row["channel"]] = dict(row)
            self._channels[row["alert_id"]].append(row["channel"])
        note = tables.notification
        columns = ("notification_id", "alert_ids", "group_key", "channel", "kind", "state", "severity", "reason",
                   "attempts", "due_at", "lease_owner", "lease_until", "final_at")  # fmt: skip
        query = select(*(note.c[name] for name in columns)).where(note.c.state.in_(WAITING), note.c.kind != "digest")
        for row in self.con.execute(query).mappings():
            full = dict(row)
            self._waiting[row["notification_id"]] = full
            if row["kind"] == "firing" and not row["attempts"] and row["due_at"] > self.now:
                self._joinable[row["group_key"], row["channel"]] = full
        longest = max((route.group_interval_s for route in self.routes.values()), default=0.0)
        last = func.max(note.c.sent_at)
        query = select(note.c.group_key, note.c.channel, last).where(
            note.c.sent_at > self.now - timedelta(seconds=longest), note.c.kind.in_(FIRING_KINDS)
        )
        self._group_last = {
            (row[0], row[1]): row[2] for row in self.con.execute(query.group_by(note.c.group_key, note.c.channel))
        }

    # --- deciding -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Plan the messages of all alerts and write them."""
        self._fold_flapping()
        for alert in self.book.firing():
            self._firing(alert)
        for alert in self.book.resolved:
            self._resolved(alert)
        self._write()

    def _fold_flapping(self) -> None:
        """An alert that comes and goes too often goes on with the timer of its last occurrence instead of a new one."""
        flap, table = self.settings.alerts.flapping, tables.alert
        fired = {row["fingerprint"]: row for row in self.book.firing() if row["alert_id"] in self.book.fired}
        for part in chunks(sorted(fired)):
            recent = select(table.c.fingerprint).where(
                table.c.fingerprint.in_(part), table.c.fired_at > self.now - timedelta(seconds=flap.window_s)
            )
            often = recent.group_by(table.c.fingerprint).having(func.count() >= flap.count - 1)
            prints = [row[0] for row in self.con.execute(often)]
            if not prints:
                continue
            slot = tables.alert_channel
            query = select(table.c.fingerprint, slot.c.channel, func.max(slot.c.last_sent_at)).join(
                slot, slot.c.alert_id == table.c.alert_id
            )
            query = query.where(table.c.fingerprint.in_(prints), slot.c.last_sent_at.is_not(None))
            for print_, channel, sent in self.con.execute(query.group_by(table.c.fingerprint, slot.c.channel)):
                route = self.routes.get(fired[print_]["severity"])
                if route is None or channel not in route.channels:
                    continue
                if self.now - sent < timedelta(seconds=route.repeat_s):
                    self._fold(fired[print_], channel, route, sent)

    def _fold(self, alert: Row, channel: str, route: routing.Route, sent: datetime) -> None:
        group = routing.group_of(self.settings, route, alert)
        self._add(alert, channel, group, self.now, "firing", suppressed="flapping")
        self._slot(alert["alert_id"], channel, last_sent_at=sent, open_notification_id=None)

    def _firing(self, alert: Row) -> None:
        alert_id = alert["alert_id"]
        worse = alert_id in self.book.raised
        if alert["severity"] == "critical" and (alert_id in self.book.fired or worse):
            self._add(alert, routing.RECORD, "record", self.now, "firing")
        if alert["state"] != "firing":
            for channel in self._channels[alert_id]:
                self._withdraw(alert_id, channel, alert["state"])
            return
        route = self.routes.get(alert["severity"])
        receivers = (route.channels or (routing.NULL,)) if route is not None else ()
        for channel in self._channels[alert_id]:
            if channel not in receivers:
                self._withdraw(alert_id, channel, "rerouted")
        if route is None:
            return
        self.book.set(alert, route=route.name)
        group = routing.group_of(self.settings, route, alert)
        for channel in receivers:
            due = self._due(alert, channel, route, group)
            if due is not None:
                self._add(alert, channel, group, *due)

    def _due(self, alert: Row, channel: str, route: routing.Route, group: str) -> tuple[datetime, str] | None:
        """When the next message of an alert to a channel is due, and its kind; None: nothing to plan."""
        alert_id, now = alert["alert_id"], self.now
        slot = self.slots.get((alert_id, channel))
        sent = slot["last_sent_at"] if slot else None
        if alert_id in self.book.raised:
            self._withdraw(alert_id, channel, "superseded")
            return now, "severity_up"
        if slot is not None and slot["open_notification_id"] in self._waiting:
            return None  # nothing is repeated while a message is on its way
        acknowledged = alert["acknowledged_at"] is not None
        if sent is None:
            sent = self._told_elsewhere(alert_id)  # a milder route waits its own interval first
        if sent is None:
            if alert_id in self.book.released:
                return now, "firing"
            return self._first(alert, channel, route, group), "firing"
        if acknowledged or channel == routing.NULL:
            return None
        if alert_id in self.book.released or now - sent >= timedelta(seconds=route.repeat_s):
            return now, "repeat"
        return None

    def _told_elsewhere(self, alert_id: str) -> datetime | None:
        slots = [self.slots[alert_id, channel] for channel in self._channels[alert_id] if channel != routing.NULL]
        if any(slot["open_notification_id"] is not None for slot in slots):
            return None
        return max((slot["last_sent_at"] for slot in slots if slot["last_sent_at"] is not None), default=None)

    def _first(self, alert: Row, channel: str, route: routing.Route, group: str) -> datetime:
        """A-301: after ``group_wait``, with the group's waiting message, or one interval after its last one."""
        waiting = self._joined(alert, channel, group)
        if waiting is not None:
            return waiting["due_at"]
        due = alert["fired_at"] + timedelta(seconds=self.settings.alerts.group_wait_s)
        last = self._group_last.get((group, channel))
        if last is not None:
            due = max(due, last + timedelta(seconds=route.group_interval_s))
        return max(due, self.now)

    def _resolved(self, alert: Row) -> None:
        """A-304: once, at once, to those who got a firing message."""
        alert_id = alert["alert_id"]
        route = self.routes.get(alert["severity"])
        group = routing.group_of(self.settings, route, alert) if route else f"{alert['route']}/{alert['alertname']}"
        for channel in self._channels[alert_id]:
            slot = self.slots[alert_id, channel]
            row = self._waiting.get(slot["open_notification_id"] or "")
            if row is not None and self._is_leased(row):
                continue  # whoever is sending it looks again afterwards
            quiet = row is not None and row["reason"] == QUIET
            self._withdraw(alert_id, channel, "resolved_in_quiet_hours" if quiet else "resolved_before_delivery")
            was = self.book.was[alert_id]
            # A dispatcher that died while posting may have reached the receiver: better one end too many than none.
            posted = row is not None and row["lease_owner"] is not None
            if slot["notified_at"] is not None or posted:  # a muted alert sends nothing, its end neither
                muted = was if was in ("silenced", "inhibited") else None
                self._add(alert, channel, group, self.now, "resolved", suppressed=muted)
            elif quiet:
                self._add(alert, channel, group, self.now, "resolved", suppressed="resolved_in_quiet_hours")

    # --- rows -----------------------------------------------------------------------------------------------------

    def _add(
        self, alert: Row, channel: str, group: str, due: datetime, kind: str, suppressed: str | None = None
    ) -> None:
        if channel == routing.NULL:
            suppressed = "no_receiver"
        row = None
        if kind == "firing" and due > self.now:
            row = self._joined(alert, channel, group)
        if row is None:
            family = "resolved" if kind == "resolved" else "firing"
            key = (channel, group, due, family, suppressed)
            row = self._new.get(key)
            if row is None:
                row = self._new[key] = self._row(alert, channel, group, due, kind, suppressed)
                if kind == "firing" and due > self.now:
                    self._joinable[group, channel] = row
        row["alert_ids"].append(alert["alert_id"])
        row["severity"] = highest((row["severity"], alert["severity"]))
        if kind in FIRING_KINDS and row["kind"] in FIRING_KINDS:
            row["kind"] = min(kind, row["kind"], key=FIRING_KINDS.index)
        self._touched.add(row["notification_id"])
        if kind != "resolved" and channel != routing.RECORD:
            null = channel == routing.NULL
            self._slot(
                alert["alert_id"], channel,
                open_notification_id=None if null else row["notification_id"], **({"last_sent_at": self.now} if null else {}),
            )  # fmt: skip
            self.book.set(alert, next_due_at=None if null else due)

    def _row(self, alert: Row, channel: str, group: str, due: datetime, kind: str, suppressed: str | None) -> Row:
        known = routing.channel_of(self.settings, channel)
        return {
            "notification_id": new_id(self.now), "source_id": alert["source_id"], "alert_ids": [],
            "group_key": group, "channel": channel, "channel_type": known.type if known else channel, "kind": kind,
            "state": "suppressed" if suppressed else "pending", "severity": None, "reason": suppressed, "attempts": 0,
            "due_at": due, "created_at": self.now, "final_at": self.now if suppressed else None, "new": True,
        }  # fmt: skip

    def _joined(self, alert: Row, channel: str, group: str) -> Row | None:
        """The group's waiting first message, unless it waits for quiet hours that do not hold for this alert."""
        row = self._joinable.get((group, channel))
        return None if row is not None and row["reason"] == QUIET and alert["severity"] == "critical" else row

    def _slot(self, alert_id: str, channel: str, **values: Any) -> None:
        key = (alert_id, channel)
        if key not in self.slots:
            self.slots[key] = {"alert_id": alert_id, "channel": channel, "notified_at": None, "last_sent_at": None,
                               "open_notification_id": None}  # fmt: skip
            self._channels[alert_id].append(channel)
        self.slots[key].update(values)
        self._changed_slots.add(key)

    def _is_leased(self, row: Row) -> bool:
        return row["lease_until"] is not None and row["lease_until"] > self.now

    def _withdraw(self, alert_id: str, channel: str, reason: str) -> None:
        """Take an alert out of the message that waits for a channel; one that is being sent is left alone."""
        slot = self.slots.get((alert_id, channel))
        if slot is None or slot["open_notification_id"] is None:
            return
        row = self._waiting.get(slot["open_notification_id"])
        if row is not None:
            if self._is_leased(row):
                return
            row["alert_ids"] = [one for one in row["alert_ids"] if one != alert_id]
            if not row["alert_ids"]:
                # The row keeps the alert it was for: history must say whose message was not sent.
                row.update(state="suppressed", reason=reason, final_at=self.now, alert_ids=[alert_id])
                self._joinable.pop((row["group_key"], row["channel"]), None)
            self._touched.add(row["notification_id"])
        self._slot(alert_id, channel, open_notification_id=None)

    def _write(self) -> None:
        new = list(self._new.values())
        names = [name for name in new[0] if name != "new"] if new else []
        insert_rows(self.con, tables.notification, [{name: row[name] for name in names} for row in new])
        changed = [self._waiting[one] for one in self._touched if one in self._waiting]
        columns = ("notification_id", "alert_ids", "kind", "state", "severity", "reason", "final_at")
        update_rows(
            self.con, tables.notification, "notification_id", ({name: row[name] for name in columns} for row in changed)
        )
        links = {(alert_id, row["notification_id"]) for row in [*new, *changed] for alert_id in row["alert_ids"]}
        upsert(self.con, tables.notification_alert, [{"alert_id": a, "notification_id": n} for a, n in sorted(links)])
        upsert(self.con, tables.alert_channel, [self.slots[key] for key in sorted(self._changed_slots)])
