"""Standing by for messages that are about to be due (A-301).

What belongs here: waiting for due instants within an evaluation, and the dispatcher's sign of life. What does not: the
sending itself (``outbox``), who calls this (``orchestration.alert_sensors``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from monitoring_pipelines.alerts.outbox import Dispatched, dispatch, next_due
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.heartbeats import beat

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

#: Longest sleep between two looks: another process may add a message that is due earlier, seconds.
LOOK_S = 0.5
#: The dispatcher promises a heartbeat so often, and writes one when the last is half as old, seconds.
PERIOD_S = 30.0


def stand_by(
    settings: Settings, state: StateStore, clock: Clock, *, ahead_s: float, most_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Dispatched:  # fmt: skip
    """Send what is due and wait for what will be due soon.

    Args:
        settings: Channels.
        state: The state store.
        clock: Time.
        ahead_s: Wait for messages that are due within so many seconds; return when none is.
        most_s: Return after so many seconds at the latest (posts under way are finished).
        sleep: For tests.
    """
    end = clock.now() + timedelta(seconds=most_s)
    total = Dispatched()
    while True:
        now = clock.now()
        sign_of_life(state, now)
        due = next_due(state, settings, now)
        if due is None or due > min(now + timedelta(seconds=ahead_s), end):
            return total
        if due > now:
            sleep(min((due - now).total_seconds(), LOOK_S))
            continue
        done = dispatch(settings, state, clock, budget_s=max((end - now).total_seconds(), 1.0))
        total.sent, total.failed, total.digests = (
            total.sent + done.sent, total.failed + done.failed, total.digests + done.digests
        )  # fmt: skip
        if now >= end or not (done.sent or done.failed):  # nothing could be taken: another process is sending it
            sleep(LOOK_S)
            if clock.now() >= end:
                return total


def sign_of_life(state: StateStore, now: datetime) -> None:
    """The dispatcher's heartbeat, written when the last one is getting old."""
    table = tables.component_heartbeat
    with state.read() as con:
        last = con.execute(select(table.c.at).where(table.c.component == "dispatcher")).scalar()
    if last is None or not timedelta(0) <= now - last < timedelta(seconds=PERIOD_S / 2):
        with state.begin() as con:
            beat(con, "dispatcher", PERIOD_S, now)
