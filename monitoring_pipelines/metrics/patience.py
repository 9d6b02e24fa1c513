"""Waiting for the state store no longer than a scrape may (S-301): a store that is locked or hangs must not end the figures.

What belongs here: doing one thing beside whoever waits for it. What does not: what is done, and what is answered instead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from monitoring_pipelines.state.store import StateUnavailable

log = logging.getLogger(__name__)

#: Longest wait, seconds: a scrape waits at most three times, and Prometheus gives up after 10 s by default.
WAIT_S = 2.5
#: Longest wait where nothing is known that could be answered instead: the store may have to be created or migrated.
FIRST_WAIT_S = 30.0
Answer = TypeVar("Answer")


class Patience:
    """One thing at a time; whoever comes meanwhile waits for its turn, within its own patience.

    Args:
        what: What is done, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._turn = threading.Lock()

    def run(self, compute: Callable[[], Answer], wait_s: float = WAIT_S) -> Answer:
        """The answer, within ``wait_s``; what takes longer is done all the same.

        Raises:
            StateUnavailable: It is not done yet, somebody else's is not, or no thread can be started. Also whatever ``compute``
                raises.
        """
        until = time.monotonic() + wait_s
        if not self._turn.acquire(timeout=wait_s):
            raise self._late()
        done, given_up = threading.Event(), threading.Event()
        answers, errors = list[Answer](), list[Exception]()

        def work() -> None:
            try:
                answers.append(compute())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                errors.append(error)
                if given_up.is_set():
                    log.warning("%s has failed: %s", self._what, type(error).__name__)
            finally:
                self._turn.release()
                done.set()

        try:
            threading.Thread(target=work, name=self._what, daemon=True).start()
        except RuntimeError as error:  # the system gives no thread; whoever comes next may get one
            self._turn.release()
            raise StateUnavailable(
                f"{self._what}: no thread can be started", "see how many the system allows"
            ) from error
        if not done.wait(until - time.monotonic()):
            given_up.set()
            raise self._late()
        if errors:
            raise errors[0]
        return answers[0]

    def _late(self) -> StateUnavailable:
        return StateUnavailable(f"{self._what}: the state store does not answer", "see what holds it, or its server")
