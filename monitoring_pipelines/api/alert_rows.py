"""Reading alerts, their history, notifications and silences for answers and pages (S-240 to S-243, S-413).

What belongs here: pages of rows with true totals. What does not: what people do with alerts (``alerts.actions``) and
their life cycle (``alerts.engine``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from monitoring_pipelines.severity import SEVERITIES
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state.tables import alert, alert_event, notification, notification_alert, silence

OPEN_STATES = ("pending", "firing", "inhibited", "silenced")
#: Unresolved first, gravest first, newest first.
_URGENCY = case({state: number for number, state in enumerate(("firing", "pending", "silenced", "inhibited"))},
                value=alert.c.state, else_=9)  # fmt: skip
_GRAVITY = case({word: -number for number, word in enumerate(SEVERITIES)}, value=alert.c.severity, else_=1)


def page(
    state: StateStore, *, states: Sequence[str] | None = None, severity: str | None = None, type_: str | None = None,
    sources: list[str] | None = None, is_open: bool | None = None, start: datetime | None = None,
    end: datetime | None = None, offset: int = 0, limit: int = 50, urgent_first: bool = False,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Alerts, newest first, and how many match. ``start`` and ``end`` choose by ``active_at``."""
    where: list[ColumnElement[bool]] = []
    where += [alert.c.state.in_(states)] if states else []
    where += [alert.c.severity == severity] if severity else []
    where += [alert.c.type == type_] if type_ else []
    where += [alert.c.source_id.in_(sources)] if sources is not None else []
    where += [alert.c.state.in_(OPEN_STATES) if is_open else alert.c.state == "resolved"] if is_open is not None else []
    where += [alert.c.active_at >= start] if start else []
    where += [alert.c.active_at < end] if end else []
    order = [_URGENCY, _GRAVITY] if urgent_first else []
    wanted = select(alert).where(*where).order_by(*order, alert.c.active_at.desc(), alert.c.alert_id.desc())
    with state.read() as con:
        total = con.execute(select(func.count()).select_from(alert).where(*where)).scalar_one()
        rows = con.execute(wanted.limit(limit).offset(offset)).mappings().all()
        return [shown(dict(row)) for row in rows], total


def one(state: StateStore, alert_id: str) -> dict[str, Any] | None:
    """One alert with its history and messages; None when there is none."""
    with state.read() as con:
        row = con.execute(select(alert).where(alert.c.alert_id == alert_id)).mappings().one_or_none()
        if row is None:
            return None
        sent = (
            select(notification)
            .join(notification_alert, notification_alert.c.notification_id == notification.c.notification_id)
            .where(notification_alert.c.alert_id == alert_id)
            .order_by(notification.c.created_at.desc())
            .limit(200)
        )
        return {
            "alert": shown(dict(row)),
            "events": [dict(event) for event in con.execute(_events(alert_id)).mappings()],
            "notifications": [message(dict(found)) for found in con.execute(sent).mappings()],
        }


def events(state: StateStore, alert_id: str) -> list[dict[str, Any]] | None:
    """The history of an alert, oldest first; None when there is no such alert."""
    with state.read() as con:
        if con.execute(select(alert.c.alert_id).where(alert.c.alert_id == alert_id)).first() is None:
            return None
        return [dict(row) for row in con.execute(_events(alert_id)).mappings()]


def _events(alert_id: str) -> Any:
    mine = select(alert_event).where(alert_event.c.alert_id == alert_id)
    return mine.order_by(alert_event.c.at, alert_event.c.event_id)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """An alert without bookkeeping of the dispatcher."""
    for name in ("open_fingerprint", "route", "next_due_at"):
        row.pop(name, None)
    return row


def message(row: dict[str, Any]) -> dict[str, Any]:
    """A notification without lease and payload; its target is stored masked."""
    for name in ("payload", "lease_owner", "lease_until"):
        row.pop(name, None)
    return row


def notifications(
    state: StateStore, *, channel: str | None = None, status: str | None = None, kind: str | None = None,
    offset: int = 0, limit: int = 50,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Messages, newest first, and how many match."""
    pairs = ((notification.c.channel, channel), (notification.c.state, status), (notification.c.kind, kind))
    where = [column == value for column, value in pairs if value is not None]
    newest = select(notification).where(*where)
    newest = newest.order_by(notification.c.created_at.desc(), notification.c.notification_id.desc())
    with state.read() as con:
        total = con.execute(select(func.count()).select_from(notification).where(*where)).scalar_one()
        rows = con.execute(newest.limit(limit).offset(offset)).mappings().all()
        return [message(dict(row)) for row in rows], total


def silences(
    state: StateStore, now: datetime, *, active: bool | None, offset: int, limit: int
) -> tuple[list[Any], int]:
    """Silences, newest first, and how many match."""
    running = and_(silence.c.deleted_at.is_(None), silence.c.ends_at > now)
    over = or_(silence.c.deleted_at.is_not(None), silence.c.ends_at <= now)
    where = [] if active is None else [running if active else over]
    newest = select(silence).where(*where).order_by(silence.c.starts_at.desc(), silence.c.silence_id.desc())
    with state.read() as con:
        total = con.execute(select(func.count()).select_from(silence).where(*where)).scalar_one()
        rows = con.execute(newest.limit(limit).offset(offset)).mappings().all()
        return [dict(row) for row in rows], total
