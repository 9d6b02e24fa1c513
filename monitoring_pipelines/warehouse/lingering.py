"""The warehouse file between two steps of one run: it stays open while nobody else wants it.

What belongs here: who may take over the open file, and when it is closed. What does not: opening and closing
(``connect``).

Opening the file, replaying its log and merging it cost a minute tick a fifth of its time when every step does it anew.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

#: A file that no step of this process takes over in this time is closed, seconds.
LINGER_S = 2.0
#: How often is looked whether somebody waits for the file, seconds.
LOOK_S = 0.02


@dataclass
class Left:
    """An open file and its lock, as a step left them."""

    con: duckdb.DuckDBPyConnection
    config: dict[str, Any]
    #: Releases the lock.
    lock: ExitStack
    #: Closes the connection; merges the log first.
    close: Callable[[], None]
    is_wanted: Callable[[], bool]
    until: float
    pid: int
    #: Whether anything was written since it was opened.
    wrote: bool

    def end(self) -> None:
        """Close the file, then let others have it."""
        if self.pid != os.getpid():  # the file is the parent's
            return
        with self.lock:
            self.close()


_turn = threading.RLock()
_left: dict[Path, Left] = {}


def leave(path: Path, left: Left) -> None:
    """Keep the file open until a step takes it over, somebody waits for it, or ``LINGER_S`` are over."""
    with _turn:
        _left[path] = left
    threading.Thread(target=_watch, args=(path, left), name="warehouse lingers", daemon=True).start()


def take_over(path: Path, config: dict[str, Any]) -> Left | None:
    """The open file, now the caller's; None if there is none, or others wait for it: then it is closed."""
    with _turn:
        left = _left.pop(path, None)
        if left is None or left.pid != os.getpid():
            return None
        if left.config == config and not left.is_wanted():
            return left
        left.end()
        return None


def let_go(path: Path) -> None:
    """Close the file if a step left it open."""
    with _turn:
        left = _left.pop(path, None)
        if left is not None:
            left.end()


def _watch(path: Path, left: Left) -> None:
    while True:
        time.sleep(LOOK_S)
        with _turn:
            if _left.get(path) is not left:
                return
            if time.monotonic() >= left.until or left.is_wanted():
                del _left[path]
                try:
                    left.end()
                except Exception:
                    # Nobody waits for this thread. What was committed is in the log, and the lock is free again.
                    log.exception("%s could not be closed", path)
                return


@atexit.register
def _let_all_go() -> None:
    for path in list(_left):
        let_go(path)
