"""What a finished post changes: the row, the timers of its alerts, and what follows from them (A-304, A-501).

What belongs here: sent, retry, abandoned. What does not: claiming (``claims``), posting (``channels``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select, update

from monitoring_pipelines.alerts import routing
from monitoring_pipelines.alerts.book import Row, chunks, insert_rows
from monitoring_pipelines.alerts.plan import FIRING_KINDS
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.channels import Result
    from monitoring_pipelines.alerts.claims import Claim
    from monitoring_pipelines.config import Settings

_note = tables.notification
_slot = tables.alert_channel


def settle(con: Connection, settings: Settings, claim: Claim, result: Result, now: datetime, owner: str) -> None:
    """Write down the outcome of one attempt (A-403, A-501).

    Args:
        con: A transaction.
        settings: Waiting times between attempts.
        claim: What was posted.
        result: How the receiver answered.
        now: When it answered.
        owner: Who claimed it; if the lease has passed to another process, only the attempt is written.
    """
    row = claim.row
    attempts = row["attempts"] + 1
    mine = con.execute(
        update(_note)
        .where(_note.c.notification_id == row["notification_id"], _note.c.lease_owner == owner)
        .values(**_outcome(settings, result, attempts, now))
    )
    if not mine.rowcount:
        return
    con.execute(
        insert(tables.notification_attempt).values(
            notification_id=row["notification_id"],
            attempt_no=attempts,
            channel=row["channel"],
            at=now,
            ok=result.ok,
            latency_ms=result.latency_ms,
            http_status=result.http_status,
            provider_code=result.provider_code,
            error=result.error,
        )
    )
    final = result.ok or attempts > len(settings.alerts.retry_min)
    members = _members(con, row, final, result.ok, now)
    if not final:
        _forget_resolved(con, members, now)
        return
    _told(con, [member for member in members if member["alert_ids"]], result.ok, now)


def _outcome(settings: Settings, result: Result, attempts: int, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {
        "attempts": attempts, "latency_ms": result.latency_ms, "provider_code": result.provider_code,
        "target": result.target, "error": result.error, "lease_owner": None, "lease_until": None,
        "next_retry_at": None, "reason": None,
    }  # fmt: skip
    if result.ok:
        return values | {"state": "sent", "sent_at": now, "final_at": now}
    waits = settings.alerts.retry_min
    if attempts > len(waits):
        return values | {"state": "abandoned", "final_at": now, "reason": "attempts_used_up"}
    retry = now + timedelta(minutes=waits[attempts - 1])
    return values | {"state": "failed", "next_retry_at": retry, "due_at": retry}


def _members(con: Connection, row: Row, final: bool, ok: bool, now: datetime) -> list[Row]:
    """The message itself, or those a digest stands for; they end with it."""
    if row["kind"] != "digest":
        return [row]
    where = (_note.c.via_digest == row["notification_id"], _note.c.state.in_(("pending", "failed")))
    members = [dict(one) for one in con.execute(select(_note).where(*where)).mappings()]
    if final:
        values: dict[str, Any] = {"state": "sent", "sent_at": now, "final_at": now, "reason": None}
        if not ok:
            values = {"state": "abandoned", "final_at": now, "reason": "attempts_used_up"}
        con.execute(update(_note).where(*where).values(**values, lease_until=None))
    else:
        con.execute(update(_note).where(*where).values(lease_until=None))
    return members


def _told(con: Connection, members: list[Row], ok: bool, now: datetime) -> None:
    """History and timers of the alerts of messages that were sent or given up; all at once, a digest has thousands."""
    of_alert = {alert_id: member for member in members for alert_id in member["alert_ids"]}
    ended: dict[str, list[Row]] = {}
    for part in chunks(list(of_alert)):
        alerts = con.execute(select(tables.alert).where(tables.alert.c.alert_id.in_(part))).mappings().all()
        insert_rows(con, tables.alert_event, [_event(alert, of_alert[alert["alert_id"]], ok, now) for alert in alerts])
        for alert in alerts:
            if ok and alert["state"] == "resolved" and of_alert[alert["alert_id"]]["kind"] in FIRING_KINDS:
                ended.setdefault(of_alert[alert["alert_id"]]["notification_id"], []).append(dict(alert))
    timed = [m for m in members if m["kind"] in FIRING_KINDS and m["channel"] != routing.RECORD]
    _move_timers(con, timed, ok, now)
    for member in timed:
        if member["notification_id"] in ended:
            _resolve_after_all(con, member, ended[member["notification_id"]], now)


def _event(alert: Any, row: Row, ok: bool, now: datetime) -> Row:
    return {
        "event_id": new_id(now), "alert_id": alert["alert_id"], "at": now, "kind": "message",
        "from_state": alert["state"], "to_state": alert["state"], "severity": alert["severity"], "actor": None,
        "reason": f"{row['kind']} to {row['channel']}: {'sent' if ok else 'abandoned'}",
    }  # fmt: skip


def _move_timers(con: Connection, rows: list[Row], ok: bool, now: datetime) -> None:
    """Repeats count from now (A-302); nothing of these messages is on its way any more."""
    for part in chunks([alert_id for row in rows for alert_id in row["alert_ids"]]):
        here = (_slot.c.alert_id.in_(part), _slot.c.channel == rows[0]["channel"])
        con.execute(update(_slot).where(*here).values(last_sent_at=now))
        if ok:
            con.execute(update(_slot).where(*here, _slot.c.notified_at.is_(None)).values(notified_at=now))
            table = tables.alert
            con.execute(update(table).where(table.c.alert_id.in_(part)).values(last_sent_at=now, next_due_at=None))
    for part in chunks([row["notification_id"] for row in rows]):
        over = update(_slot).where(_slot.c.open_notification_id.in_(part))
        con.execute(over.values(open_notification_id=None))


def _resolve_after_all(con: Connection, row: Row, alerts: list[Row], now: datetime) -> None:
    """The alert ended while its firing message was under way: the evaluation left the resolution to us (A-304)."""
    told = select(tables.notification_alert.c.alert_id).join(
        _note, _note.c.notification_id == tables.notification_alert.c.notification_id
    ).where(
        _note.c.kind == "resolved", _note.c.channel == row["channel"],
        tables.notification_alert.c.alert_id.in_([alert["alert_id"] for alert in alerts]),
    )  # fmt: skip
    already = set(con.execute(told).scalars())
    left = [alert["alert_id"] for alert in alerts if alert["alert_id"] not in already]
    if not left:
        return
    base: Row = {column.name: None for column in _note.columns}
    new = base | {
        "notification_id": new_id(now), "source_id": row["source_id"], "alert_ids": left, "group_key": row["group_key"],
        "channel": row["channel"], "channel_type": row["channel_type"], "kind": "resolved", "state": "pending",
        "severity": row["severity"], "attempts": 0, "due_at": now, "created_at": now,
    }  # fmt: skip
    insert_rows(con, _note, [new])
    links = [{"alert_id": one, "notification_id": new["notification_id"]} for one in left]
    insert_rows(con, tables.notification_alert, links)


def _forget_resolved(con: Connection, members: list[Row], now: datetime) -> None:
    """A firing message that failed is not tried again for alerts that have ended meanwhile (A-304)."""
    rows = [row for row in members if row["kind"] in FIRING_KINDS and row["channel"] != routing.RECORD]
    table, over = tables.alert, set()
    for part in chunks(sorted({one for row in rows for one in row["alert_ids"]})):
        ended = select(table.c.alert_id).where(table.c.alert_id.in_(part), table.c.state == "resolved")
        over |= set(con.execute(ended).scalars())
    for row in rows:
        ended_here = [one for one in row["alert_ids"] if one in over]
        if not ended_here:
            continue
        left = [one for one in row["alert_ids"] if one not in over]
        values: dict[str, Any] = {"alert_ids": left}
        if not left:
            values = {"state": "suppressed", "reason": "resolved_before_delivery", "final_at": now}
        con.execute(update(_note).where(_note.c.notification_id == row["notification_id"]).values(**values))
        slots = update(_slot).where(
            _slot.c.alert_id.in_(ended_here), _slot.c.open_notification_id == row["notification_id"]
        )
        con.execute(slots.values(open_notification_id=None))
