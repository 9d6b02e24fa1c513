"""The dead man's switch: a sign of life to an outside system that alarms when it stops (A-601).

What belongs here: when a ping is due and whether the product may claim to be alive. What does not: the outside system.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from monitoring_pipelines.config.secrets import mask
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.heartbeats import is_fresh
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

#: Without a fresh heartbeat of each of them the product is blind or mute, and must not say otherwise.
VITAL = ("evaluator", "dispatcher", "extract")
_MARK = "deadman.ping"
_log = logging.getLogger(__name__)


def ping(settings: Settings, state: StateStore, clock: Clock, timeout_s: float = 5.0) -> str | None:
    """Ping the outside system if it is due.

    Returns:
        ``sent``, ``failed``, ``withheld`` (a vital component is silent), or None: switched off or not due yet.
    """
    from monitoring_pipelines.alerts.channels.http import post_json, where

    if settings.deadman.url_env is None:
        return None
    now = clock.now()
    with state.read() as con:
        last = con.execute(select(tables.setting.c.updated_at).where(tables.setting.c.name == _MARK)).scalar()
        if last is not None and now - last < timedelta(seconds=settings.deadman.interval_s):
            return None
        silent = [name for name in VITAL if not is_fresh(con, name, now)]
    if silent:
        _log.warning("no sign of life to the outside: %s has no fresh heartbeat", ", ".join(silent))
        return "withheld"
    url = settings.secret(settings.deadman.url_env, None, "deadman.url") or ""
    answer = post_json(url, None, timeout_s, method="GET")
    ok = answer.error is None and answer.status is not None and answer.status < 300
    if not ok:
        _log.warning("%s", mask(answer.error or f"{where(url)} answered {answer.status}"))
    _remember(state, now, ok)
    return "sent" if ok else "failed"


def _remember(state: StateStore, now: datetime, ok: bool) -> None:
    with state.begin() as con:
        upsert(con, tables.setting, [{"name": _MARK, "value": {"ok": ok}, "updated_at": now, "updated_by": None}])
