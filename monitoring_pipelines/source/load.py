"""Waiting while the source server is busy (``extract.max_source_load``).

What belongs here: the two figures looked at and the pause. What does not: what is read afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import SourceUnavailable

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import ExtractSettings
    from monitoring_pipelines.source.engine import SourceConnection

log = logging.getLogger(__name__)

#: One of these names has the lag, by server and version.
_LAG_NAMES = ("seconds_behind_source", "seconds_behind_master")


@dataclass
class LoadGuard:
    """Pauses bulk reading while a figure is above its limit.

    Args:
        threads_running: Most ``Threads_running``; None = not looked at.
        replica_lag_s: Most seconds a replica may be behind; None = not looked at. Needs the right to see it.
        longest_pause_s: After this long the read goes on all the same: a server that is always busy must not stop
            reconciliation for ever.
    """

    threads_running: int | None = None
    replica_lag_s: float | None = None
    longest_pause_s: float = 300.0
    step_s: float = 2.0
    sleep: Callable[[float], None] = time.sleep
    #: Seconds paused so far.
    paused_s: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, extract: ExtractSettings) -> LoadGuard:
        """The guard of a configuration."""
        return cls(extract.max_source_load.threads_running, extract.max_source_load.replica_lag_s)

    def wait(self, connection: SourceConnection) -> float:
        """Return when the server is calm enough; the seconds waited.

        Raises:
            SourceUnavailable: A limit is configured for a figure the account may not see.
        """
        if connection.dialect == "sqlite":
            return 0.0
        waited = 0.0
        while waited < self.longest_pause_s and (reason := self._busy(connection)):
            if not waited:
                log.info("source is busy (%s): waiting", reason)
            self.sleep(self.step_s)
            waited += self.step_s
        self.paused_s += waited
        return waited

    def _busy(self, connection: SourceConnection) -> str | None:
        """Which figure is above its limit, None if none is."""
        if self.threads_running is not None:
            running = int(connection.query("show global status like 'Threads_running'")[0][1])
            if running > self.threads_running:
                return f"{running} threads running, limit {self.threads_running}"
        if self.replica_lag_s is not None:
            lag = replica_lag_s(connection)
            if lag is not None and lag > self.replica_lag_s:
                return f"replica is {lag:.0f} s behind, limit {self.replica_lag_s:.0f} s"
        return None


@dataclass(frozen=True)
class Replication:
    """What a server says about copying from its primary, the worst of its channels; both None: it is no replica."""

    #: Seconds behind; None while a channel copies nothing.
    lag_s: float | None = None
    #: Why nothing is copied: states of the threads and the last error.
    stopped: str | None = None


def replication(connection: SourceConnection) -> Replication:
    """How far the server is behind its primary, or why it does not follow it.

    Raises:
        SourceUnavailable: The account may not see it.
    """
    from pymysql import MySQLError
    from pymysql.cursors import DictCursor

    with connection.raw.cursor(DictCursor) as cursor:
        try:
            cursor.execute("show all slaves status" if connection.dialect == "mariadb" else "show replica status")
        except MySQLError as error:
            raise SourceUnavailable(
                "the replica lag cannot be read",
                "grant REPLICATION CLIENT (MariaDB: SLAVE MONITOR), or stop asking for it: "
                "extract.max_source_load.replica_lag_s, read_replica",
                cause=str(error.args[-1]),
            ) from None
        channels = [{name.lower(): value for name, value in row.items()} for row in cursor.fetchall()]
    lags: list[float] = []
    for row in channels:
        lag = next((row[name] for name in _LAG_NAMES if row.get(name) is not None), None)
        if lag is None:
            return Replication(stopped=_why_stopped(row))
        lags.append(float(lag))
    return Replication(max(lags, default=None))


def _why_stopped(row: dict[str, Any]) -> str:
    """The threads of a channel and what ended them, in the server's words."""
    states = {
        thread: next(
            (row[name] for name in (f"replica_{thread}_running", f"slave_{thread}_running") if name in row), "?"
        )
        for thread in ("io", "sql")
    }
    text = ", ".join(f"{thread} thread: {state}" for thread, state in states.items())
    error = row.get("last_sql_error") or row.get("last_io_error")
    return f"{text}, {' '.join(str(error).split())[:200]}" if error else text


def replica_lag_s(connection: SourceConnection) -> float | None:
    """Seconds the server is behind its primary; None on a server that is no replica or is not replicating."""
    return replication(connection).lag_s
