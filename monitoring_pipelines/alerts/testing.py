"""Test messages through the real path (A-504, S-415).

What belongs here: one message of kind ``test`` per channel. What does not: exercises with a life cycle (``drills``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from monitoring_pipelines.alerts.book import Row
from monitoring_pipelines.alerts.outbox import dispatch
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.severity import severity_of_word
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore


def send_test(
    settings: Settings, state: StateStore, clock: Clock, *, channel: str | None = None, level: str = "info",
    title: str | None = None, message: str | None = None, details: dict[str, Any] | None = None,
) -> list[Row]:  # fmt: skip
    """Send one test message per channel and return its notification rows, with state and latency.

    No alert, counter of alerts or repeat timer changes. A message that cannot be sent is retried like any other.

    Args:
        settings: Channels.
        state: The state store.
        clock: Time of the message.
        channel: Only this one; default all that are switched on.
        level: Severity shown in the message; words of sources are understood too.
        title: Own title.
        message: Own text.
        details: Own details.

    Raises:
        UsageError: Unknown channel or level, or nothing is configured.
    """
    from monitoring_pipelines.config.suggest import did_you_mean

    try:
        severity = severity_of_word(level)
    except ValueError:
        raise UsageError(f"unknown level {level!r}", "info, low, medium, high or critical") from None
    known = [one for one in settings.channels if one.enabled]
    if channel is not None:
        names = [one.id for one in known]
        if channel not in names:
            raise UsageError(f"unknown channel {channel!r}{did_you_mean(channel, names)}")
        known = [one for one in known if one.id == channel]
    if not known:
        raise UsageError("no channel is configured", "add one to `channels`, and name it in `alerts.routes`")
    now = clock.now()
    payload = {"level": severity, "title": title, "message": message, "details": details}
    base: Row = {column.name: None for column in tables.notification.columns}
    rows = [
        base | {
            "notification_id": new_id(now), "source_id": "_self", "alert_ids": [], "group_key": "test",
            "channel": one.id, "channel_type": one.type, "kind": "test", "state": "pending", "severity": severity,
            "attempts": 0, "due_at": now, "created_at": now, "payload": payload,
        } for one in known
    ]  # fmt: skip
    with state.begin() as con:
        con.execute(insert(tables.notification), rows)
    dispatch(settings, state, clock)
    table = tables.notification
    with state.read() as con:
        ids = [row["notification_id"] for row in rows]
        found = con.execute(select(table).where(table.c.notification_id.in_(ids)).order_by(table.c.channel))
        return [dict(row) for row in found.mappings()]
