"""Reading alerts, their history, silences and notifications from the state store, and removing old ones (S-240 to S-243).

What belongs here: queries and paging. What does not: changes asked for by people (``alerts.actions``), the life cycle
(``alerts.engine``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Text, case, delete, exists, func, or_, select, type_coerce

from monitoring_pipelines.severity import SEVERITIES
from monitoring_pipelines.state import counters, paging, tables
from monitoring_pipelines.state.rows import Row, dicts
from monitoring_pipelines.state.store import StateStore
from monitoring_pipelines.state.types import canonical_json

#: ``Services.of_state``: a question, what answers it, and what else the answer depends on.
Remember = Callable[..., list[str]]
OPEN_STATES = ("pending", "firing", "inhibited", "silenced")
_GRAVITY = case({word: n for n, word in enumerate(SEVERITIES)}, value=tables.alert.c.severity)
_URGENCY = case(
    {word: n for n, word in enumerate(("firing", "pending", "silenced", "inhibited"))},
    value=tables.alert.c.state,
    else_=9,
)
#: What alerts can be ordered by (S-804); severities by their gravity, ``urgency`` is firing first, the gravest of them first.
ALERT_ORDERS: paging.Orders = {
    "urgency": case((tables.alert.c.state == "resolved", 99), else_=_URGENCY * len(SEVERITIES) - _GRAVITY),
    "severity": _GRAVITY,
    "state": tables.alert.c.state,
    "source_id": tables.alert.c.source_id,
    "since": func.coalesce(tables.alert.c.fired_at, tables.alert.c.active_at),
    "last_seen_at": tables.alert.c.last_seen_at,
    "occurrences": tables.alert.c.occurrences,
}
#: Where a text is looked for.
_SEARCHED: tuple[ColumnElement[str], ...] = (
    tables.alert.c.message, tables.alert.c.type, tables.alert.c.alertname, tables.alert.c.source_id, tables.alert.c.alert_id,
)  # fmt: skip
#: Labels as the JSON they are stored as, with their names.
_LABELS = type_coerce(tables.alert.c.labels, Text)
#: What messages can be ordered by.
NOTIFICATION_ORDERS: paging.Orders = {
    name: tables.notification.c[name] for name in ("created_at", "channel", "kind", "state", "attempts")
}
#: What silences can be ordered by.
SILENCE_ORDERS: paging.Orders = {
    name: tables.silence.c[name] for name in ("created_at", "starts_at", "ends_at", "creator")
}
#: Rows removed in one transaction.
BATCH = 2000


def list_alerts(
    state: StateStore, *, states: Sequence[str] = (), severities: Sequence[str] = (), types: Sequence[str] = (),
    family: str | None = None, source_ids: Sequence[str] = (), open_only: bool | None = None, start: datetime | None = None,
    end: datetime | None = None, text: str | None = None, page: int = 1, page_size: int = 50, sort: str | None = None,
    remember: Remember | None = None,
) -> tuple[list[Row], int]:  # fmt: skip
    """One page of alerts, newest first unless ``sort`` says otherwise, and the number of all matches (S-240).

    Args:
        state: The state store.
        states: Only these states; empty: all.
        severities: Only these.
        types: Only these alert types.
        family: Only types that begin with it.
        source_ids: Only these sources.
        open_only: True: not resolved; False: resolved; None: both.
        start: Active at or after; naive UTC.
        end: Active before.
        text: Only those that have it, in any case, in their message as it is stored, name, type, source, id or labels.
        page: From 1.
        page_size: Rows per page.
        sort: A key of ``ALERT_ORDERS``, with ``-`` before it descending; equal ones newest first.
        remember: Keeps the order of all matches until something is committed; it is made of every one of them.
    """
    table = tables.alert
    where: list[ColumnElement[bool]] = [
        column.in_(list(values))
        for column, values in (
            (table.c.state, states), (table.c.severity, severities), (table.c.type, types),
            (table.c.source_id, source_ids),
        )
        if values
    ]  # fmt: skip
    if open_only is not None:
        where.append(table.c.open_fingerprint.is_not(None) if open_only else table.c.state == "resolved")
    where += [table.c.type.startswith(family, autoescape=True)] if family else []
    where += [table.c.active_at >= start] if start else []
    where += [table.c.active_at < end] if end else []
    where += [_has(text)] if text else []
    order = paging.order_by(ALERT_ORDERS, sort, table.c.active_at.desc(), table.c.alert_id.desc())
    if remember is None or (sort is None and not text):
        return _page(state, table.c.alert_id, where, order, page, page_size)
    chosen = (states, severities, types, source_ids)
    asked = (*map(tuple, chosen), family, open_only, start, end, text, sort)
    return _remembered(state, table.c.alert_id, where, order, page, page_size, remember, asked)


def _has(text: str) -> ColumnElement[bool]:
    """Rows that have the text anywhere; in labels as JSON writes it, where quotes and backslashes have one before them."""
    written = canonical_json(text)[1:-1]
    found = [column.icontains(text, autoescape=True) for column in _SEARCHED]
    return or_(*found, _LABELS.icontains(written, autoescape=True))


def find_alert(state: StateStore, alert_id: str) -> Row | None:
    """One alert with what carries it: ``contributions`` are the results of checks that are bad now (A-002)."""
    with state.read() as con:
        row = con.execute(select(tables.alert).where(tables.alert.c.alert_id == alert_id)).mappings().one_or_none()
        if row is None:
            return None
        alert = dict(row)
        table = tables.alert_contribution
        query = select(table).where(table.c.fingerprint == alert["open_fingerprint"], table.c.is_bad)
        alert["contributions"] = dicts(con, query.order_by(table.c.contributor))
        return alert


def events_of(state: StateStore, alert_id: str) -> list[Row]:
    """History of one alert, oldest first (A-204)."""
    table = tables.alert_event
    with state.read() as con:
        return dicts(con, select(table).where(table.c.alert_id == alert_id).order_by(table.c.at, table.c.event_id))


def list_events(
    state: StateStore, *, start: datetime | None = None, end: datetime | None = None, kind: str | None = None,
    page: int = 1, page_size: int = 50,
) -> tuple[list[Row], int]:  # fmt: skip
    """History of all alerts, newest first."""
    table = tables.alert_event
    where: list[ColumnElement[bool]] = [table.c.at >= start] if start else []
    where += [table.c.at < end] if end else []
    where += [table.c.kind == kind] if kind else []
    return _page(state, table.c.event_id, where, (table.c.at.desc(), table.c.event_id.desc()), page, page_size)


def notifications_of(state: StateStore, alert_id: str) -> list[Row]:
    """Messages about one alert, oldest first."""
    note, link = tables.notification, tables.notification_alert
    with state.read() as con:
        query = select(note).join(link, link.c.notification_id == note.c.notification_id)
        query = query.where(link.c.alert_id == alert_id).order_by(note.c.created_at, note.c.notification_id)
        return dicts(con, query)


def list_notifications(
    state: StateStore, *, channel: str | None = None, state_word: str | None = None, kind: str | None = None,
    page: int = 1, page_size: int = 50, sort: str | None = None, remember: Remember | None = None,
) -> tuple[list[Row], int]:  # fmt: skip
    """One page of messages, newest first unless ``sort`` says otherwise, and the number of all matches (S-243).

    Args:
        state: The state store.
        channel: Only those to this channel.
        state_word: Only those in this state.
        kind: Only those of this kind.
        page: From 1.
        page_size: Rows per page.
        sort: A key of ``NOTIFICATION_ORDERS``, with ``-`` before it descending; equal ones newest first.
        remember: As in ``list_alerts``.
    """
    table = tables.notification
    where = [
        column == value
        for column, value in ((table.c.channel, channel), (table.c.state, state_word), (table.c.kind, kind))
        if value is not None
    ]
    order = paging.order_by(NOTIFICATION_ORDERS, sort, table.c.created_at.desc(), table.c.notification_id.desc())
    if sort is None or remember is None:
        return _page(state, table.c.notification_id, where, order, page, page_size)
    asked = (channel, state_word, kind, sort)
    return _remembered(state, table.c.notification_id, where, order, page, page_size, remember, asked)


def count_sent(con: Connection) -> list[tuple[str, int]]:
    """Channel → messages that were sent through it, in order of channels."""
    table = tables.notification.c
    query = select(table.channel, func.count()).where(table.state == "sent").group_by(table.channel)
    return [(channel, int(n)) for channel, n in con.execute(query.order_by(table.channel))]


def list_silences(
    state: StateStore, now: datetime, *, active: bool | None = None, page: int = 1, page_size: int = 50,
    sort: str | None = None,
) -> tuple[list[Row], int]:  # fmt: skip
    """One page of silences, newest first unless ``sort`` says otherwise, and the number of all matches (S-242).

    Args:
        state: The state store.
        now: Present instant.
        active: True: in force or still to come; False: over; None: all.
        page: From 1.
        page_size: Rows per page.
        sort: A key of ``SILENCE_ORDERS``, with ``-`` before it descending; equal ones newest first.
    """
    table = tables.silence
    over = or_(table.c.deleted_at.is_not(None), table.c.ends_at <= now)
    where = [] if active is None else [~over if active else over]
    order = paging.order_by(SILENCE_ORDERS, sort, table.c.created_at.desc(), table.c.silence_id.desc())
    return _page(state, table.c.silence_id, where, order, page, page_size)


def gravest(state: StateStore, source_ids: Sequence[str] | None, count: int) -> list[Row]:
    """Open alerts that people see, the gravest first and of these the oldest, at most ``count`` (S-202).

    Args:
        state: The state store.
        source_ids: Only these sources; None: all.
        count: Most rows.
    """
    table = tables.alert
    where = [table.c.open_fingerprint.is_not(None), table.c.state != "pending"]
    where += [] if source_ids is None else [table.c.source_id.in_(list(source_ids))]
    query = select(table).where(*where).order_by(_GRAVITY.desc(), table.c.active_at, table.c.alert_id).limit(count)
    with state.read() as con:
        return dicts(con, query)


def counts_by_state(state: StateStore) -> list[Row]:
    """Open alerts by source, type, severity and state (S-330, S-202)."""
    table = tables.alert
    columns = (table.c.source_id, table.c.type, table.c.severity, table.c.state)
    with state.read() as con:
        query = select(*columns, func.count().label("n")).where(table.c.open_fingerprint.is_not(None))
        return dicts(con, query.group_by(*columns))


def prune(state: StateStore, now: datetime, alert_days: int, notification_days: int) -> int:
    """Remove what retention allows: resolved alerts with their history, ended messages; open ones stay. Returns rows.

    Args:
        state: The state store.
        now: Present instant.
        alert_days: Days since the end of an alert.
        notification_days: Days since the creation of a message.
    """
    limit, told = now - timedelta(days=alert_days), now - timedelta(days=notification_days)
    alert, event, note = tables.alert, tables.alert_event, tables.notification
    removed = 0
    for part in _old(state, alert.c.alert_id, alert.c.state == "resolved", alert.c.resolved_at < limit):
        with state.begin() as con:
            counters.TRANSITIONS.before_removal(con, alert.c.alert_id.in_(part), now)
            for table in (event, tables.alert_channel, tables.notification_alert, alert):
                removed += con.execute(delete(table).where(table.c.alert_id.in_(part))).rowcount
    dropped = ~exists().where(alert.c.alert_id == event.c.alert_id)  # history of alerts that never fired
    for part in _old(state, event.c.event_id, event.c.at < limit, dropped):
        with state.begin() as con:
            removed += con.execute(delete(event).where(event.c.event_id.in_(part))).rowcount
    ended = note.c.state.in_(("sent", "abandoned", "suppressed"))
    for part in _old(state, note.c.notification_id, note.c.created_at < told, ended):
        with state.begin() as con:
            counters.MESSAGES.before_removal(con, note.c.notification_id.in_(part), now)
            counters.ATTEMPTS.before_removal(con, tables.notification_attempt.c.notification_id.in_(part), now)
            for table in (tables.notification_attempt, tables.notification_alert, note):
                removed += con.execute(delete(table).where(table.c.notification_id.in_(part))).rowcount
    return removed


def _old(state: StateStore, key: Any, *where: ColumnElement[bool]) -> Any:
    """Keys of rows to remove, batch by batch, until none is left."""
    while True:
        with state.read() as con:
            part = list(con.execute(select(key).where(*where).limit(BATCH)).scalars())
        if not part:
            return
        for start in range(0, len(part), 500):
            yield part[start : start + 500]


def _page(
    state: StateStore, key: Column[Any], where: Sequence[ColumnElement[bool]], order: Sequence[ColumnElement[Any]],
    page: int, size: int,
) -> tuple[list[Row], int]:  # fmt: skip
    with state.read() as con:
        return paging.cut(con, key, where, order, size, (page - 1) * size), paging.count(con, key, where)


def _remembered(
    state: StateStore, key: Column[Any], where: Sequence[ColumnElement[bool]], order: Sequence[ColumnElement[Any]],
    page: int, size: int, remember: Remember, asked: tuple[Any, ...],
) -> tuple[list[Row], int]:  # fmt: skip
    """As ``_page``, from the keys of all matches in order: they are found once for all pages of a list.

    Where nothing tells that the store is as it was, they would be fetched with every page.
    """
    if state.stamp() is None:
        return _page(state, key, where, order, page, size)

    def found() -> list[str]:
        with state.read() as con:
            return paging.keys_of(con, key, where, order)

    keys = remember((f"{key.table.name} in order",), found, *asked)
    with state.read() as con:
        return paging.rows_of(con, key, keys[(page - 1) * size : page * size]), len(keys)
