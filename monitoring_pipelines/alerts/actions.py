"""What people do with alerts: acknowledge, silence (A-305, A-306, S-241, S-242).

What belongs here: changes asked for by a person, each with its line of history. What does not: reading
(``state.alerts``), what a silence does (``standing``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select, update

from monitoring_pipelines.alerts.book import FIRED, Row
from monitoring_pipelines.alerts.matching import read_matchers
from monitoring_pipelines.errors import ProductError, Refused, UsageError
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.state import StateStore


class NotFound(ProductError):
    """There is no alert or silence of that id."""

    exit_code = 2
    code = "not_found"


def acknowledge(state: StateStore, alert_id: str, actor: str, note: str | None, now: datetime) -> Row:
    """Mark a firing alert as seen: it repeats no more and still tells its end (A-305). Returns the alert.

    Raises:
        NotFound: No such alert.
        Refused: It does not fire.
    """
    with state.begin() as con:
        alert = _alert(con, alert_id)
        if alert["state"] not in FIRED:
            raise Refused(f"alert {alert_id} is {alert['state']}: only a firing alert can be acknowledged")
        if alert["acknowledged_at"] is None or alert["acknowledged_note"] != note:
            values = {"acknowledged_at": now, "acknowledged_by": actor, "acknowledged_note": note}
            _change(con, alert, "acknowledge", values, actor, note, now)
        return alert


def withdraw_acknowledgement(state: StateStore, alert_id: str, actor: str, now: datetime) -> Row:
    """Take the mark back; repeats go on. Returns the alert.

    Raises:
        NotFound: No such alert.
    """
    with state.begin() as con:
        alert = _alert(con, alert_id)
        if alert["acknowledged_at"] is not None:
            values = dict.fromkeys(("acknowledged_at", "acknowledged_by", "acknowledged_note"))
            _change(con, alert, "unacknowledge", values, actor, None, now)
        return alert


def create_silence(
    state: StateStore, matchers: Any, starts_at: datetime, ends_at: datetime, creator: str, comment: str | None,
    now: datetime,
) -> Row:  # fmt: skip
    """Store a silence for [starts_at, ends_at) (A-306). Returns it.

    Args:
        state: The state store.
        matchers: List of ``{"name", "op", "value"}``; all must hold.
        starts_at: Naive UTC; the past means now.
        ends_at: Naive UTC.
        creator: Who asks.
        comment: Why.
        now: Present instant.

    Raises:
        UsageError: A matcher is broken, or the time is over or backwards.
    """
    checked = [matcher.as_dict() for matcher in read_matchers(matchers)]
    if ends_at <= starts_at:
        raise UsageError("a silence must end after it starts")
    if ends_at <= now:
        raise UsageError("a silence must end in the future")
    row = {
        "silence_id": new_id(now), "matchers": checked, "starts_at": starts_at, "ends_at": ends_at, "creator": creator,
        "comment": comment, "created_at": now, "deleted_at": None,
    }  # fmt: skip
    with state.begin() as con:
        con.execute(insert(tables.silence).values(row))
    return row


def end_silence(state: StateStore, silence_id: str, now: datetime) -> Row:
    """End a silence now; what still fires speaks at the next tick. Returns it.

    Raises:
        NotFound: No such silence.
    """
    table = tables.silence
    with state.begin() as con:
        found = con.execute(select(table).where(table.c.silence_id == silence_id)).mappings().one_or_none()
        if found is None:
            raise NotFound(f"no silence {silence_id}", "`mp alerts list --silences` shows them")
        row = dict(found)
        if row["deleted_at"] is None:
            row["deleted_at"] = now
            con.execute(update(table).where(table.c.silence_id == silence_id).values(deleted_at=now))
        return row


def _alert(con: Connection, alert_id: str) -> Row:
    table = tables.alert
    found = con.execute(select(table).where(table.c.alert_id == alert_id)).mappings().one_or_none()
    if found is None:
        raise NotFound(f"no alert {alert_id}", "`mp alerts list` shows them")
    return dict(found)


def _change(
    con: Connection, alert: Row, kind: str, values: dict[str, Any], actor: str, reason: str | None, now: datetime
) -> None:
    alert.update(values)
    con.execute(update(tables.alert).where(tables.alert.c.alert_id == alert["alert_id"]).values(**values))
    con.execute(
        insert(tables.alert_event).values(
            event_id=new_id(now),
            alert_id=alert["alert_id"],
            at=now,
            kind=kind,
            from_state=alert["state"],
            to_state=alert["state"],
            severity=alert["severity"],
            actor=actor,
            reason=reason,
        )
    )
