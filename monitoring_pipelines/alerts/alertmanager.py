"""Pushing alerts to a real Alertmanager (API v2), as an option.

What belongs here: keeping Alertmanager's picture equal to ours. What does not: routing; there it is Alertmanager's.

Every evaluation posts what fires, with an end a few ticks ahead, and what ended lately with its end. Posts repeat each
other, so one that fails needs no memory; if this product dies, Alertmanager resolves its alerts by itself.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from monitoring_pipelines.alerts import bodies
from monitoring_pipelines.alerts.book import FIRED, Row
from monitoring_pipelines.alerts.messages import links_of
from monitoring_pipelines.state import tables

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

#: Ticks without a post after which Alertmanager may take an alert as over.
_LIFE_TICKS = 4
_TOLD_FOR = timedelta(minutes=15)
_BATCH = 500
_log = logging.getLogger(__name__)


def push(settings: Settings, state: StateStore, now: datetime) -> str | None:
    """Post all alerts that fire or ended within a quarter of an hour; low and info ones too.

    Returns:
        What went wrong, None if nothing did or the option is off.
    """
    from monitoring_pipelines.alerts.channels.http import post_json, where

    given = settings.alerts.alertmanager
    url = settings.secret(given.url_env, given.url_file, "alerts.alertmanager.url")
    if url is None:
        return None
    address = f"{url.strip().rstrip('/')}/api/v2/alerts"
    alerts = _alerts(state, now)
    life = timedelta(seconds=_LIFE_TICKS * settings.alerts.tick_s)
    for start in range(0, len(alerts), _BATCH):
        part = alerts[start : start + _BATCH]
        for alert in part:
            alert["links"] = links_of(settings, alert, None)
        answer = post_json(
            address, [bodies.alertmanager_v2(a, a["resolved_at"] or now + life) for a in part], given.timeout_s
        )
        if answer.error is not None or answer.status != 200:
            error = answer.error or f"{where(url)} answered {answer.status}"
            _log.warning("Alertmanager: %s", error)
            return error
    return None


def _alerts(state: StateStore, now: datetime) -> list[Row]:
    table = tables.alert
    ended = and_(table.c.state == "resolved", table.c.resolved_at > now - _TOLD_FOR, table.c.fired_at.is_not(None))
    with state.read() as con:
        query = select(table).where(or_(table.c.state.in_(FIRED), ended)).order_by(table.c.alert_id)
        return [dict(row) for row in con.execute(query).mappings()]
