"""Asking the recoverers about one task: order, tries, back-off, rate (R-310, R §5).

What belongs here: patience. What does not: what answers mean for a plan (``plan``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring_pipelines.compensation.model import Task
from monitoring_pipelines.compensation.recoverers.base import Answer, AuthError, Context, Outputs, Recoverer, Transient

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_services import RepairSettings

#: Longest pause a remote may ask for with Retry-After, seconds.
LONGEST_RETRY_AFTER_S = 60.0
_JITTER = 0.1


@dataclass
class Pacer:
    """At most ``rate_per_s`` calls per second; None = no limit."""

    rate_per_s: float | None
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    _next: float = field(default=0.0, init=False)

    def wait(self) -> None:
        """Return when the next call may be made."""
        if self.rate_per_s is None:
            return
        now = self.monotonic()
        if now < self._next:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate_per_s


@dataclass(frozen=True)
class Asked:
    """The answer that counts, of which recoverer, after how many tries; no recoverer when none could be asked."""

    answer: Answer | None
    recoverer_id: str | None
    tries: int


@dataclass
class Asker:
    """Asks the recoverers in order."""

    recoverers: Sequence[tuple[str, Recoverer]]
    repair: RepairSettings
    sleep: Callable[[float], None] = time.sleep

    def ask(self, task: Task, ctx: Context) -> Asked:
        """The first answer with outputs, else the answer of the last recoverer asked; a key problem ends it at once."""
        last = Asked(None, None, 0)
        for recoverer_id, recoverer in self.recoverers:
            if recoverer.needs_remote_id and not task.remote_id:
                continue
            answer, tries = self._patiently(recoverer, task, ctx)
            last = Asked(answer, recoverer_id, tries)
            if isinstance(answer, (Outputs, AuthError)):
                break
        return last

    def _patiently(self, recoverer: Recoverer, task: Task, ctx: Context) -> tuple[Answer, int]:
        tries = 0
        while True:
            answer = recoverer.recover(task, ctx)
            tries += 1
            if not isinstance(answer, Transient) or tries >= self.repair.tries:
                return answer, tries
            self.sleep(self._pause(tries, answer.retry_after_s))

    def _pause(self, tries: int, asked_for: float | None) -> float:
        steps = self.repair.backoff_s or [0.0]
        pause = steps[min(tries, len(steps)) - 1] * (1 + _JITTER * (2 * random.random() - 1))  # noqa: S311
        return max(pause, min(asked_for or 0.0, LONGEST_RETRY_AFTER_S))
