"""Pacing of apply: pause between batches, task rate, replica lag or stop, load, pause file (R-404, R-409).

What belongs here: when to wait and for what, and when waiting has been long enough. What does not: stopping the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring_pipelines.compensation.session import Session
from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings, SourceSettings

log = logging.getLogger(__name__)
#: After waiting this long for lag or load the run pauses, seconds (R-409).
LONGEST_WAIT_S = 60.0
_STEP_S = 2.0


@dataclass
class Throttle:
    """Waits on behalf of one run."""

    settings: Settings
    source: SourceSettings
    sleep: Callable[[float], None] = time.sleep
    rate_per_s: float | None = None
    #: Told why the run waits, again when the reason changes, and None when it goes on.
    tell: Callable[[str | None], None] = lambda _reason: None
    waited_s: float = field(default=0.0, init=False)
    _next: float = field(default=0.0, init=False)

    def task(self, monotonic: Callable[[], float]) -> None:
        """Wait until the next task may start at the configured rate."""
        if self.rate_per_s is None:
            return
        now = monotonic()
        if now < self._next:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate_per_s

    def between_batches(self, session: Session) -> str | None:
        """The pause after a batch, longer while the server is busy.

        Returns:
            Why the run has to pause; None = go on.
        """
        self.sleep(self.settings.repair.batch_pause_s)
        return self.until_calm(session)

    def until_calm(self, session: Session) -> str | None:
        """Wait while the server is busy; why the run has to pause, None = go on."""
        waited, told = 0.0, None
        while (reason := self._busy(session)) is not None:
            if reason.startswith("pause file") or waited >= LONGEST_WAIT_S:
                return reason
            if reason != told:
                log.warning("repair of %s waits: %s", self.source.id, reason)
                self.tell(reason)
            told = reason
            self.sleep(_STEP_S)
            waited += _STEP_S
            self.waited_s += _STEP_S
        if told is not None:
            self.tell(None)
        return None

    def _busy(self, session: Session) -> str | None:
        file = self.settings.data_path / f"repair-{self.source.id}.pause"
        if file.exists():
            return f"pause file {file.name} exists"
        if session.dialect == "sqlite":
            return None
        most = self.settings.extract.max_source_load.threads_running
        if most is not None:
            running = int(session.query("SHOW GLOBAL STATUS LIKE 'Threads_running'")[0][1])
            if running > most:
                return f"{running} threads running, limit {most}"
        return self._lag()

    def _lag(self) -> str | None:
        """Lag of the replica the product reads from, or that it has stopped; one it does not know of it cannot see."""
        if not self.source.read_replica:
            return None
        from monitoring_pipelines.source.engine import connect
        from monitoring_pipelines.source.load import replication

        limit = self.settings.repair.max_replica_lag_s
        try:
            with connect(self.source.read_dsn(), self.settings, snapshot=False) as connection:
                found = replication(connection)
        except ProductError as error:
            return f"the replica's lag cannot be read: {error.message}"
        if found.stopped is not None:
            return f"the replica does not follow its primary: {found.stopped}"
        lag = found.lag_s
        return f"the replica is {lag:.0f} s behind, limit {limit:g} s" if lag is not None and lag > limit else None
