"""Watching Dagster from outside it: what runs inside cannot report that it does not run (C-501).

What belongs here: one look, and the thread that looks again and again in the process of the API. What does not: asking
Dagster (``collect.dagster_health``), judging heartbeats (``alerts.rules``).

While the evaluation inside Dagster is alive, this only adds what Dagster says of itself. When it is silent, alerts go on
repeating and resolving from here, and messages are sent from here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from monitoring_pipelines.alerts.configured import NOT_CONFIGURED
from monitoring_pipelines.alerts.model import Condition, Observation
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.heartbeats import beat, is_fresh

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

API = "api"
_TYPE = "self.heartbeat"
_log = logging.getLogger(__name__)


def look(settings: Settings, state: StateStore, clock: Clock, dagster_url: str | None) -> bool:
    """One look at the other side.

    Args:
        settings: The configuration.
        state: The state store.
        clock: Time.
        dagster_url: Address of Dagster's web server; None: only heartbeats are looked at.

    Returns:
        Whether there was anything to say.
    """
    from monitoring_pipelines.alerts import engine, outbox, rules

    now = clock.now()
    with state.begin() as con:
        beat(con, API, settings.alerts.tick_s, now)
    with state.read() as con:
        inside = is_fresh(con, engine.EVALUATOR, now)
        mute = not is_fresh(con, "dispatcher", now)
        started = con.execute(select(tables.component_heartbeat.c.component).limit(2)).all()
        alert = tables.alert
        query = select(alert.c.labels, alert.c.open_fingerprint).where(alert.c.type == _TYPE)
        fired = {row[1]: row[0] for row in con.execute(query.where(alert.c.open_fingerprint.is_not(None)))}
    seen = _dagster(dagster_url, now, [one.get("component", "") for one in fired.values()]) if dagster_url else []
    seen += [one for one in rules.heartbeats(settings, state, now) if one.labels.get("component") != API]
    news = [one for one in seen if (one.condition == "true") != (one.fingerprint in fired)]
    if len(started) < 2 or (inside and not mute and not news):
        return False  # nothing but this process has ever lived, or all is well and known
    with engine.alone(settings) as mine:
        if mine:
            engine.apply(settings, state, now, seen, component=None)
    if mute or not inside:  # who evaluates in Dagster also sends; two senders do not send twice
        outbox.dispatch(settings, state, clock)
    return True


def _dagster(url: str, now: datetime, fired: list[str]) -> list[Observation]:
    """What Dagster says of its parts; one that cannot be judged yet changes nothing.

    ``fired``: components with an open alert; those that are in no code location any more end.
    """
    from monitoring_pipelines.collect.dagster_health import components

    done = []
    parts = components(url, now)
    for part in parts:
        name = f"dagster.{part.kind}.{part.name}"
        condition: Condition = "true" if part.is_bad else "false" if part.state == "ok" else "insufficient_data"
        done.append(
            Observation(
                _TYPE, "_self", condition, "high", "high", _TYPE, f"Dagster {part.kind} {part.name} is {part.state}: {part.reason}",
                {"component": name}, details={"since": part.since, "state": part.state} if part.is_bad else {},
            )
        )  # fmt: skip
    if all(part.state == "ok" for part in parts if part.kind in ("webserver", "code_location")):
        known = {f"dagster.{part.kind}.{part.name}" for part in parts}
        for name in fired:
            if (
                name.startswith(("dagster.schedule.", "dagster.sensor.", "dagster.code_location."))
                and name not in known
            ):
                labels = {"component": name}
                gone = Observation(_TYPE, "_self", "false", "high", "high", _TYPE, "", labels, ended=NOT_CONFIGURED)
                done.append(gone)
    return done


@contextmanager
def watching(settings: Settings, state: StateStore, clock: Clock, dagster_url: str | None) -> Iterator[None]:
    """Look every ``alerts.tick_s`` seconds in a thread, until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(settings.alerts.tick_s):
            try:
                look(settings, state, clock, dagster_url)
            except Exception:  # noqa: BLE001 - the next look may succeed, and there is nobody to hand it to
                _log.exception("the watch on Dagster failed")

    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)
