"""Taking the next message of a channel: what must not be sent now is put aside first (A-403, A-502, A-503, A-306).

What belongs here: leases, free slots, quiet hours, digests. What does not: the outcome of a post (``settling``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, case, func, insert, or_, select, update

from monitoring_pipelines.alerts import merging, routing
from monitoring_pipelines.alerts.book import Row, chunks
from monitoring_pipelines.alerts.plan import QUIET, WAITING
from monitoring_pipelines.alerts.standing import active_silences, silenced_by
from monitoring_pipelines.severity import highest
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import QuietHours

#: Window of A-503, and how long a lease outlives the time-outs of a post, seconds.
MINUTE_S = 60.0
_LEASE_SLACK_S = 10.0
_note = tables.notification


@dataclass(frozen=True)
class Claim:
    """A message this process may send until its lease ends; ``alerts`` are the rows it speaks of, as they are now."""

    row: Row
    alerts: list[Row]


def due_rows(now: datetime) -> list[ColumnElement[bool]]:
    """Conditions of rows that may be claimed at ``now``."""
    return [
        _note.c.state.in_(WAITING), _note.c.due_at <= now, _note.c.via_digest.is_(None),
        or_(_note.c.lease_until.is_(None), _note.c.lease_until <= now),
    ]  # fmt: skip


def claim(con: Connection, settings: Settings, channel: str, now: datetime, owner: str) -> Claim | None:
    """Take the next message of ``channel``; None when none is due or no slot is free."""
    _lock(con, channel, now)
    merged = False
    while True:
        due = con.execute(select(func.count()).where(*due_rows(now), _note.c.channel == channel)).scalar_one()
        if not due:
            return None
        if due > 1 and not merged:
            merging.merge(con, channel, due_rows(now), now)
            merged = True
            continue
        free = _free_slots(con, settings, channel, now)
        if free <= 0:
            return None
        if due > 1 and (free == 1 or _have_waited(con, settings, channel, now) > 1):
            return _digest(con, settings, channel, now, owner)
        found = con.execute(_next(channel, now)).mappings().one()
        taken = _take(con, settings, dict(found), now, owner)
        if taken is not None:
            return taken


def next_slot(con: Connection, settings: Settings, channel: str, now: datetime) -> datetime | None:
    """When a slot of a channel without a free one becomes free; None: one is free."""
    if _free_slots(con, settings, channel, now) > 0:
        return None
    table = tables.notification_attempt
    oldest = con.execute(
        select(func.min(table.c.at)).where(table.c.channel == channel, table.c.at > now - timedelta(seconds=MINUTE_S))
    ).scalar_one()
    return oldest + timedelta(seconds=MINUTE_S) if oldest is not None else None


def _next(channel: str, now: datetime) -> Any:
    """Most severe first, then oldest."""
    order = case({"critical": 0, "high": 1, "medium": 2}, value=_note.c.severity, else_=3)
    return select(_note).where(*due_rows(now), _note.c.channel == channel).order_by(
        order, _note.c.due_at, _note.c.notification_id
    ).limit(1)  # fmt: skip


def _lock(con: Connection, channel: str, now: datetime) -> None:
    """One claim per channel at a time, on every database: two would count the same free slots."""
    upsert(
        con, tables.setting, [{"name": f"outbox:{channel}"[:191], "value": None, "updated_at": now, "updated_by": None}]
    )


def _free_slots(con: Connection, settings: Settings, channel: str, now: datetime) -> float:
    """Posts the channel may still make in the 60 s that end now (A-503); posts under way count."""
    known = routing.channel_of(settings, channel)
    if known is None or known.type in ("file", "log"):
        return math.inf
    attempt = tables.notification_attempt
    used = con.execute(
        select(func.count()).where(attempt.c.channel == channel, attempt.c.at > now - timedelta(seconds=MINUTE_S))
    ).scalar_one()
    under_way = con.execute(
        select(func.count()).where(
            _note.c.channel == channel,
            _note.c.state.in_(WAITING),
            _note.c.lease_until > now,
            _note.c.via_digest.is_(None),
        )
    ).scalar_one()
    return known.per_minute - used - under_way


def _have_waited(con: Connection, settings: Settings, channel: str, now: datetime) -> int:
    """Messages that were due while the channel had no free slot: the slot that became free is theirs together."""
    known = routing.channel_of(settings, channel)
    if known is None or known.type in ("file", "log"):
        return 0
    attempt = tables.notification_attempt
    nth = select(attempt.c.at).where(attempt.c.channel == channel).order_by(attempt.c.at.desc())
    full_since = con.execute(nth.offset(known.per_minute - 1).limit(1)).scalar()
    if full_since is None:
        return 0
    full_until = full_since + timedelta(seconds=MINUTE_S)
    where = (*due_rows(now), _note.c.channel == channel, _note.c.due_at < full_until)
    return con.execute(select(func.count()).where(*where)).scalar_one()


def _take(con: Connection, settings: Settings, row: Row, now: datetime, owner: str) -> Claim | None:
    """Lease ``row``, or put it aside and return None: quiet hours, silence, or nothing left to say."""
    known = routing.channel_of(settings, row["channel"])
    if (known is None or not known.enabled) and row["channel"] != routing.RECORD:
        _end(con, [row["notification_id"]], "channel_removed", now)
        return None
    alerts = _alerts(con, row["alert_ids"])
    if row["kind"] != "test" and row["channel"] != routing.RECORD:
        severity = row["severity"]
        if row["kind"] != "digest":
            alerts = _still_told(con, row, alerts, now)
            if not alerts:
                return None
            severity = highest(alert["severity"] for alert in alerts)
        quiet_end = quiet_until(known.quiet_hours if known else None, now, settings.timezone)
        if severity != "critical" and quiet_end is not None:
            _set(con, row["notification_id"], due_at=quiet_end, reason=QUIET)
            return None
    timeout = known.timeout_s if known else 0.0
    lease = now + timedelta(seconds=2 * timeout + _LEASE_SLACK_S)
    _set(con, row["notification_id"], lease_owner=owner, lease_until=lease)
    if row["kind"] == "digest":  # an evaluation must not take its members away while it is posted
        con.execute(update(_note).where(_note.c.via_digest == row["notification_id"]).values(lease_until=lease))
    return Claim(row, alerts)


def _still_told(con: Connection, row: Row, alerts: list[Row], now: datetime) -> list[Row]:
    """The alerts of a message that are not silenced now (A-306); a message about none of them is suppressed."""
    silences = active_silences(con, now)
    if not silences:
        return alerts
    quiet = {alert["alert_id"] for alert in alerts if silenced_by(alert, silences)}
    if not quiet:
        return alerts
    told = [alert for alert in alerts if alert["alert_id"] not in quiet]
    if told:
        row["alert_ids"] = [alert["alert_id"] for alert in told]
        _set(con, row["notification_id"], alert_ids=row["alert_ids"])
    else:
        _end(con, [row["notification_id"]], "silenced", now)
        return []
    slot = tables.alert_channel
    con.execute(
        update(slot)
        .where(slot.c.alert_id.in_(sorted(quiet)), slot.c.open_notification_id == row["notification_id"])
        .values(open_notification_id=None)
    )
    return told


def _digest(con: Connection, settings: Settings, channel: str, now: datetime, owner: str) -> Claim | None:
    """One message that stands for all that wait (A-503); an earlier one that failed takes the others along."""
    if active_silences(con, now) or quiet_until(_quiet_hours(settings, channel), now, settings.timezone) is not None:
        _put_aside(con, settings, channel, now, owner)
    rows = [
        dict(row) for row in con.execute(select(_note).where(*due_rows(now), _note.c.channel == channel)).mappings()
    ]
    members = [row for row in rows if row["kind"] != "digest"]
    digest = next((row for row in rows if row["kind"] == "digest"), None)
    if digest is None and len(members) < 2:
        return _take(con, settings, members[0], now, owner) if members else None
    if digest is None:
        digest = _new_digest(members, channel, settings, now)
        con.execute(insert(_note), [digest])
    for part in chunks([member["notification_id"] for member in members]):
        con.execute(update(_note).where(_note.c.notification_id.in_(part)).values(via_digest=digest["notification_id"]))
    return _take(con, settings, digest, now, owner)


def _quiet_hours(settings: Settings, channel: str) -> QuietHours | None:
    known = routing.channel_of(settings, channel)
    return known.quiet_hours if known else None


def _put_aside(con: Connection, settings: Settings, channel: str, now: datetime, owner: str) -> None:
    """Let quiet hours and silences take their messages out before a digest is made of the others."""
    query = select(_note).where(*due_rows(now), _note.c.channel == channel, _note.c.kind != "digest")
    for row in con.execute(query).mappings().all():
        if _take(con, settings, dict(row), now, owner) is not None:
            _set(con, row["notification_id"], lease_owner=None, lease_until=None)


def _new_digest(members: list[Row], channel: str, settings: Settings, now: datetime) -> Row:
    known = routing.channel_of(settings, channel)
    base: Row = {column.name: None for column in _note.columns}
    return base | {
        "notification_id": new_id(now), "source_id": "_self", "alert_ids": [], "group_key": f"digest/{channel}"[:191],
        "channel": channel, "channel_type": known.type if known else channel, "kind": "digest", "state": "pending",
        "severity": highest(member["severity"] for member in members), "attempts": 0, "due_at": now, "created_at": now,
    }  # fmt: skip


def quiet_until(hours: QuietHours | None, now: datetime, zone: str) -> datetime | None:
    """End of the quiet hours that hold at ``now`` (naive UTC), None outside of them: [start, end) local (A-502)."""
    if hours is None or hours.start == hours.end:
        return None
    here = ZoneInfo(zone)
    local = now.replace(tzinfo=UTC).astimezone(here)
    start, end = clock_time.fromisoformat(hours.start), clock_time.fromisoformat(hours.end)
    wall = local.time()
    if start < end:
        if not start <= wall < end:
            return None
    elif end <= wall < start:
        return None
    day = local.date() if wall < end else local.date() + timedelta(days=1)
    return datetime.combine(day, end, here).astimezone(UTC).replace(tzinfo=None)


def _alerts(con: Connection, alert_ids: list[str]) -> list[Row]:
    found: dict[str, Row] = {}
    for part in chunks(list(alert_ids)):
        for row in con.execute(select(tables.alert).where(tables.alert.c.alert_id.in_(part))).mappings():
            found[row["alert_id"]] = dict(row)
    return [found[one] for one in alert_ids if one in found]


def _set(con: Connection, notification_id: str, **values: Any) -> None:
    con.execute(update(_note).where(_note.c.notification_id == notification_id).values(**values))


def _end(con: Connection, ids: list[str], reason: str, now: datetime) -> None:
    """Suppress rows for good, with the reason."""
    con.execute(
        update(_note).where(_note.c.notification_id.in_(ids)).values(state="suppressed", reason=reason, final_at=now)
    )
    slot = tables.alert_channel
    con.execute(update(slot).where(slot.c.open_notification_id.in_(ids)).values(open_notification_id=None))
