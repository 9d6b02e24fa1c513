"""What every route works with: configuration, clock, published files, state store.

What belongs here: the container and how routes get it. What does not: answers.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fastapi import Request

from monitoring_pipelines.api.access import principal_of
from monitoring_pipelines.published.reader import Published, Turns
from monitoring_pipelines.state.store import StateStore

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

log = logging.getLogger(__name__)


Answer = TypeVar("Answer")
MINUTE = timedelta(minutes=1)
#: Characters of what an action was done to that fit into the audit log.
MOST_OF_TARGET = 191
#: Answers that are remembered; those asked least recently are forgotten.
MOST_ANSWERS = 400


@dataclass
class _Answer:
    """One answer, and the lock of whoever computes it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    known: bool = False
    value: Any = None
    state: tuple[Any, ...] = ()


@dataclass
class Services:
    """One per application."""

    settings: Settings
    clock: Clock
    published: Published
    state: StateStore
    started_at: datetime
    #: Address of the Dagster web server, for runs that are started here and for links; None: unknown.
    dagster_url: str | None = None
    #: Caches and helpers that live as long as the application, by name.
    shared: dict[str, Any] = field(default_factory=dict)
    #: Held while hundreds of wide rows are in memory: two at once end no sooner and need twice of it.
    wide: Turns = field(default_factory=lambda: Turns(1))
    _answers: OrderedDict[tuple[Any, ...], _Answer] = field(default_factory=OrderedDict)
    _newest: dict[tuple[Any, ...], _Answer] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, settings: Settings, clock: Clock, dagster_url: str | None = None) -> Services:
        """The services of a configuration."""
        return cls(settings, clock, Published(settings.lake_path), StateStore.of(settings), clock.now(), dagster_url)

    @property
    def source_ids(self) -> list[str]:
        """Ids of the enabled sources, in the order of the configuration."""
        return [source.id for source in self.settings.enabled_sources]

    def minute(self) -> datetime:
        """The minute that has begun."""
        now = self.clock.now()
        return now - (now - datetime.min) % MINUTE

    def moment(self) -> datetime:
        """Now as the end of a window: the next full minute, so that everybody who asks within a minute asks the same."""
        now = self.clock.now()
        return now + (datetime.min - now) % MINUTE

    def recall(self, version: int, key: tuple[Any, ...], compute: Callable[[], Answer]) -> Answer:
        """The answer to a question about one version, computed once however many ask (E-131).

        Args:
            version: Version of the published files.
            key: The question and everything its answer depends on besides the files.
            compute: Answers it.
        """
        whole = (version, *key)
        with self._guard:
            for old in [known for known in self._answers if known[0] < version - 1]:
                del self._answers[old]
            entry = self._answers.setdefault(whole, _Answer())
            self._answers.move_to_end(whole)
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        with entry.lock:
            if not entry.known:
                entry.value, entry.known = compute(), True
            return cast(Answer, entry.value)

    def newest(self, question: tuple[Any, ...], state: tuple[Any, ...], compute: Callable[[], Answer]) -> Answer:
        """As ``recall``, for answers too large to keep beside their predecessors.

        Args:
            question: What is asked; a newer answer replaces the one before.
            state: Everything the answer depends on besides the question.
            compute: Answers it.
        """
        with self._guard:
            entry = self._newest.setdefault(question, _Answer())
        with entry.lock:
            if not entry.known or entry.state != state:
                entry.value, entry.state, entry.known = compute(), state, True
            return cast(Answer, entry.value)

    def of_state(self, question: tuple[Any, ...], compute: Callable[[], Answer], *more: Any) -> Answer:
        """The answer to a question about the state store, computed anew when something was committed there.

        Args:
            question: What is asked; a newer answer replaces the one before.
            compute: Answers it; it must not depend on the time.
            more: What else it depends on.
        """
        stamp = self.state.stamp()
        return compute() if stamp is None else self.newest(("state", *question), (stamp, *more), compute)

    def close(self) -> None:
        """Release files and connections."""
        self.published.close()
        self.state.dispose()


def services_of(request: Request) -> Services:
    """The services of the application that answers ``request``."""
    services: Services = request.app.state.services
    return services


def audit(request: Request, action: str, target: str, detail: dict[str, Any] | None = None) -> None:
    """Write a mutation into the audit log, with the caller's name; of a long target the beginning."""
    from monitoring_pipelines.state.audit import record

    services = services_of(request)
    with services.state.begin() as con:
        record(con, services.clock.now(), principal_of(request).name, action, target[:MOST_OF_TARGET], detail)
    request.state.audited = True


def was_audited(request: Request) -> bool:
    """Whether the request has left a row in the audit log."""
    return bool(getattr(request.state, "audited", False))
