"""Messages of one group that wait together go out together (A-301).

What belongs here: making one row of several that were due before anybody could send them, as after quiet hours or a
pause of the dispatcher. What does not: rows due at one instant (``plan`` makes one of them), digests (``claims``).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from monitoring_pipelines.alerts.book import Row, chunks
from monitoring_pipelines.alerts.plan import FIRING_KINDS
from monitoring_pipelines.severity import highest
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from datetime import datetime

#: Reason of a row whose alerts are told by another one.
MERGED = "merged"
_note = tables.notification


def merge(con: Connection, channel: str, due: list[ColumnElement[bool]], now: datetime) -> None:
    """Of each group at most one firing and one resolved message stays due on ``channel``; retries stay as they are.

    Args:
        con: The transaction of the claim, which holds the channel.
        channel: Whose messages.
        due: Conditions of rows that may be claimed.
        now: Present instant.
    """
    family = case((_note.c.kind == "resolved", "resolved"), else_="firing")
    where = (*due, _note.c.channel == channel, _note.c.attempts == 0, _note.c.kind.in_((*FIRING_KINDS, "resolved")))
    several = select(_note.c.group_key).where(*where).group_by(_note.c.group_key, family).having(func.count() > 1)
    rows: dict[tuple[str, bool], list[Row]] = defaultdict(list)
    query = select(_note).where(*where, _note.c.group_key.in_(several)).order_by(_note.c.notification_id)
    for row in con.execute(query).mappings():
        rows[row["group_key"], row["kind"] == "resolved"].append(dict(row))
    for same in rows.values():
        if len(same) > 1:
            _into_first(con, same, now)


def _into_first(con: Connection, rows: list[Row], now: datetime) -> None:
    """The oldest row takes the alerts, the most urgent kind and the highest severity of all; the others end."""
    first, others = rows[0], [row["notification_id"] for row in rows[1:]]
    alert_ids = list(dict.fromkeys(one for row in rows for one in row["alert_ids"]))
    kinds = [kind for kind in FIRING_KINDS if any(row["kind"] == kind for row in rows)]
    values = {
        "alert_ids": alert_ids, "severity": highest(row["severity"] for row in rows),
        "kind": kinds[0] if kinds else first["kind"],
    }  # fmt: skip
    con.execute(update(_note).where(_note.c.notification_id == first["notification_id"]).values(**values))
    slot = tables.alert_channel
    for part in chunks(others):
        con.execute(
            update(_note)
            .where(_note.c.notification_id.in_(part))
            .values(state="suppressed", reason=MERGED, final_at=now)
        )
        con.execute(
            update(slot)
            .where(slot.c.open_notification_id.in_(part))
            .values(open_notification_id=first["notification_id"])
        )
    links = [{"alert_id": one, "notification_id": first["notification_id"]} for one in alert_ids]
    upsert(con, tables.notification_alert, links)
