"""One turn of collecting: what is due is fetched at the same time, and stored where rules and extraction find it.

What belongs here: what is due, running fetches side by side, storing. What does not: fetching (``fetch``), rows
(``answers``, ``own``), the state of health that follows (``alerts.rules``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.collect.answers import Row, probe_rows, scrape_rows
from monitoring_pipelines.collect.fetch import get
from monitoring_pipelines.collect.own import SELF, OwnProcesses
from monitoring_pipelines.collect.pace import OWN_PERIOD_S, PERIOD_S, period_s
from monitoring_pipelines.config.schema_services import ProbeSettings, ScrapeSettings
from monitoring_pipelines.state import collected

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state import StateStore

log = logging.getLogger(__name__)

Target = ProbeSettings | ScrapeSettings
#: Fetches at the same time. A target that hangs keeps one thread for its timeout; more than this many hanging ones
#: at once would delay others.
MOST_AT_ONCE = 64
#: A sensor may be late by a turn while others hold the daemon's threads: the heartbeat promises only every second one.
PROMISED = 2


@dataclass
class Collected:
    """What one turn did: targets asked, rows stored so far, targets that have not answered yet and store on their own."""

    asked: int = 0
    rows: int = 0
    waiting: list[str] = field(default_factory=list)
    #: Target → why its page could not be used.
    errors: dict[str, str] = field(default_factory=dict)


class Collector:
    """Collects for one configuration. Keeps threads and what is being asked right now; everything else is stored."""

    def __init__(self, settings: Settings, state: StateStore) -> None:
        self.settings, self.state = settings, state
        self._own = OwnProcesses()
        self._started: dict[tuple[str, str, str], datetime] = {}
        self._busy: set[tuple[str, str, str]] = set()
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._told: dict[str, str] = {}

    def once(self, now: datetime, wait_s: float | None = None) -> Collected:
        """Ask every target that is due, and sample the product's processes when that is due.

        Args:
            now: Instant of the samples, naive UTC.
            wait_s: Longest wait for answers; a target that takes longer stores its rows when it has answered. None:
                wait for all of them, each at most its ``timeout_s``.

        Returns:
            What was done within the wait.
        """
        done = Collected()
        due = [target for target in configured_targets(self.settings) if self._take(target, now)]
        done.asked = len(due)
        rows = self._own.rows(now) if self._is_due((SELF, "own", SELF), now, OWN_PERIOD_S) else []
        futures = {self._threads().submit(self._ask, target, now): target for target in due}
        finished, late = wait(futures, timeout=wait_s)
        for future in finished:
            found, error = future.result()
            rows += found
            self._note(futures[future], error, done)
        done.rows = len(rows)
        collected.store(self.state, rows, now, PROMISED * period_s(self.settings))
        for future in late:
            done.waiting.append(futures[future].target)
            future.add_done_callback(self._store_late(futures[future]))
        return done

    def close(self) -> None:
        """End the threads, after the answers that are under way."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            targets = len(self.settings.probes) + len(self.settings.scrapes)
            self._pool = ThreadPoolExecutor(max(1, min(targets, MOST_AT_ONCE)), thread_name_prefix="collect")
        return self._pool

    def _take(self, target: Target, now: datetime) -> bool:
        """Whether the target is due and not being asked already; it then counts as being asked."""
        key = _key(target)
        with self._guard:
            if key in self._busy or not self._is_due(key, now, target.interval_s):
                return False
            self._busy.add(key)
            return True

    def _is_due(self, key: tuple[str, str, str], now: datetime, interval_s: float) -> bool:
        last = self._started.get(key) or collected.last_at(self.state, *key)
        # A turn half a period early counts, so that one that comes late skips no target.
        early = min(interval_s, PERIOD_S) / 2
        if last is not None and now - last < timedelta(seconds=interval_s - early) and now >= last:
            self._started[key] = last
            return False
        self._started[key] = now
        return True

    def _ask(self, target: Target, now: datetime) -> tuple[list[Row], str | None]:
        try:
            answer = get(target.url, target.timeout_s)
            if isinstance(target, ScrapeSettings):
                return scrape_rows(target, answer, now)
            return probe_rows(target, answer, now), answer.error
        finally:
            with self._guard:
                self._busy.discard(_key(target))

    def _store_late(self, target: Target):  # type: ignore[no-untyped-def]
        def store(future: Future[tuple[list[Row], str | None]]) -> None:
            rows, error = future.result()
            self._note(target, error, Collected())
            collected.store(self.state, rows, rows[0].at)

        return store

    def _note(self, target: Target, error: str | None, done: Collected) -> None:
        """Tell a target's error once, not at every turn."""
        if error is not None:
            done.errors[target.target] = error
            if self._told.get(target.target) != error:
                log.warning("%s (%s): %s", target.target, target.url, error)
            self._told[target.target] = error
        elif self._told.pop(target.target, None) is not None:
            log.info("%s (%s): answers again", target.target, target.url)


def _key(target: Target) -> tuple[str, str, str]:
    """(source, kind, name)."""
    return target.source, "scrape" if isinstance(target, ScrapeSettings) else "http", target.target


_collectors: dict[tuple[int, str], Collector] = {}
_making = threading.Lock()


def once(settings: Settings, state: StateStore, now: datetime, wait_s: float | None = None) -> Collected:
    """``Collector.once`` with a collector that lives as long as the process (see there)."""
    key = (id(settings), str(state.url))
    with _making:
        collector = _collectors.get(key)
        if collector is None or collector.settings is not settings:
            collector = _collectors[key] = Collector(settings, state)
        collector.state = state
    return collector.once(now, wait_s)


def configured_targets(settings: Settings) -> Sequence[Target]:
    """Probes and scrapes of the configuration."""
    return (*settings.probes, *settings.scrapes)
