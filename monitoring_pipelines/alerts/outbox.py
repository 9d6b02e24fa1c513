"""Sending what is due: leases, retries, quiet hours, rates and digests (A-403, A-501 to A-503).

What belongs here: the way of a notification row from pending to sent, abandoned or suppressed. What does not: planning
rows (``plan``), wording (``messages``), talking to receivers (``channels``).

A message is claimed in one transaction, posted outside of any, and settled in another one. A process killed in between
leaves a lease that ends by itself; the message may then arrive twice, and is never lost.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, or_, select

from monitoring_pipelines.alerts import claims, settling
from monitoring_pipelines.alerts.channels import Result, build_channel
from monitoring_pipelines.alerts.claims import Claim, due_rows
from monitoring_pipelines.alerts.messages import compose
from monitoring_pipelines.compensation.notices import summary_for_alert
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.state import tables

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

_THREADS = 8


@dataclass
class Dispatched:
    """What one pass over the outbox did."""

    sent: int = 0
    failed: int = 0
    digests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, result: Result, kind: str) -> None:
        """Count one post."""
        with self._lock:
            self.sent += result.ok
            self.failed += not result.ok
            self.digests += kind == "digest"


def dispatch(settings: Settings, state: StateStore, clock: Clock, budget_s: float = 40.0) -> Dispatched:
    """Send everything that is due now; each channel on its own, so that one that hangs delays no other.

    Args:
        settings: Channels and links.
        state: The state store.
        clock: Read before every claim.
        budget_s: No new message is claimed after so many seconds; what is left stays due.
    """
    done = Dispatched()
    channels = due_channels(state, clock.now())
    if not channels:
        return done
    owner = f"{os.getpid()}.{threading.get_ident()}@{socket.gethostname()}"[:191]
    deadline = time.monotonic() + budget_s
    worker = _Worker(settings, state, clock, owner, deadline, done)
    if len(channels) == 1:
        worker.drain(channels[0])
        return done
    with ThreadPoolExecutor(min(_THREADS, len(channels)), thread_name_prefix="channel") as pool:
        list(pool.map(worker.drain, channels))
    return done


def due_channels(state: StateStore, now: datetime) -> list[str]:
    """Channels with something to send now."""
    table = tables.notification
    with state.read() as con:
        query = select(table.c.channel).where(*due_rows(now)).distinct()
        return list(con.execute(query.order_by(table.c.channel)).scalars())


def next_due(state: StateStore, settings: Settings, now: datetime) -> datetime | None:
    """The next instant at which ``dispatch`` has something to do; None: nothing waits.

    A channel without a free slot is due when its next slot becomes free (A-503).
    """
    table = tables.notification
    with state.read() as con:
        query = select(table.c.channel, func.min(table.c.due_at)).where(
            table.c.state.in_(("pending", "failed")), table.c.via_digest.is_(None),
            or_(table.c.lease_until.is_(None), table.c.lease_until <= now),
        )  # fmt: skip
        found = []
        for channel, due in con.execute(query.group_by(table.c.channel)).all():
            free = claims.next_slot(con, settings, channel, now)
            found.append(max(due, free) if free is not None else due)
    return min(found, default=None)


@dataclass
class _Worker:
    settings: Settings
    state: StateStore
    clock: Clock
    owner: str
    deadline: float
    done: Dispatched

    def drain(self, channel: str) -> None:
        """Send what is due on one channel, message by message."""
        while time.monotonic() < self.deadline:
            claim = self._claim(channel)
            if claim is None:
                return
            result = self._post(claim)
            with self.state.begin() as con:
                settling.settle(con, self.settings, claim, result, self.clock.now(), self.owner)
            self.done.count(result, claim.row["kind"])

    def _claim(self, channel: str) -> Claim | None:
        with self.state.begin() as con:
            return claims.claim(con, self.settings, channel, self.clock.now(), self.owner)

    def _post(self, claim: Claim) -> Result:
        try:
            channel = build_channel(self.settings, claim.row["channel"])
        except ConfigError as error:  # a secret is missing now; it may be back at the next attempt
            return Result(False, error=error.message)
        with self.state.read() as con:
            message = compose(
                con, self.settings, claim.row, claim.alerts, channel.language, self.clock.now(),
                lambda source_id: summary_for_alert(self.state, source_id),
            )  # fmt: skip
        started = time.perf_counter()
        result = channel.send(message, self.clock)
        return result.timed((time.perf_counter() - started) * 1000)


def waiting(con: Connection) -> int:
    """How many messages are on their way."""
    table = tables.notification
    return con.execute(select(func.count()).where(table.c.state.in_(("pending", "failed")))).scalar_one()
