"""A fair lock between processes and threads, made of files the kernel forgets when their owner dies.

What belongs here: taking, waiting for and naming the holder of a lock.
What does not: what is locked and how it is opened (``warehouse.connect``).

Every caller draws a numbered *ticket*: a file whose name says who waits and why, and which its owner keeps locked with
``flock``. A ticket's turn comes when no lower ticket is alive, so callers are served in the order in which they came. A
ticket that can be locked by someone else has lost its owner; the kernel releases it the instant a process dies, so a
crash frees the lock at once and nobody trusts process ids, which are reused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_TICKET = re.compile(r"^(\d{12})-(\d+)-([\w.+-]*)$")
#: Pauses between two looks at the predecessor, seconds: short at first, because most holds are short.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02

# A forked child shares its parent's file descriptions and would keep a dead parent's lock alive.
_open_tickets: set[int] = set()


def _forget_tickets_of_the_parent() -> None:
    for descriptor in _open_tickets:
        with suppress(OSError):
            os.close(descriptor)
    _open_tickets.clear()


os.register_at_fork(after_in_child=_forget_tickets_of_the_parent)


@dataclass(frozen=True)
class Holder:
    """Who has the lock: process id, purpose, and the instant (naive UTC) since which it has it."""

    pid: int
    purpose: str
    since: datetime

    def __str__(self) -> str:
        return f"process {self.pid} ({self.purpose}) since {self.since:%Y-%m-%dT%H:%M:%SZ}"


class LockTimeout(Exception):
    """The lock did not become free in time; ``holder`` is who had it, None when that could not be seen."""

    def __init__(self, waited_s: float, holder: Holder | None) -> None:
        super().__init__(f"waited {waited_s:.1f} s for {holder or 'an unknown holder'}")
        self.waited_s = waited_s
        self.holder = holder


class FairLock:
    """A lock on ``directory``; any number of objects, threads and processes may use the same directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def held(self, purpose: str, timeout_s: float) -> Iterator[float]:
        """Hold the lock; yields the seconds waited.

        Args:
            purpose: A few words that others are shown while they wait.
            timeout_s: Longest wait in seconds.

        Raises:
            LockTimeout: The lock did not become free in time.
            OSError: The directory cannot be written.
        """
        began = time.perf_counter()
        descriptor, number, path = self._draw(purpose)
        try:
            self._wait_for_turn(number, began, timeout_s)
            os.utime(path)
            yield time.perf_counter() - began
        finally:
            # A forked child that leaves the block has no ticket; the parent's must stay.
            if descriptor in _open_tickets:
                path.unlink(missing_ok=True)
                _open_tickets.discard(descriptor)
                os.close(descriptor)

    def holder(self) -> Holder | None:
        """Who has the lock at this instant, or None."""
        for _, path in self._tickets():
            descriptor = self._lock_if_dead(path)
            if descriptor is None:
                return self._describe(path)
            os.close(descriptor)
        return None

    def queue_length(self) -> int:
        """Number of live tickets, the holder's included."""
        alive = 0
        for _, path in self._tickets():
            descriptor = self._lock_if_dead(path)
            if descriptor is None:
                alive += path.exists()
            else:
                os.close(descriptor)
        return alive

    def _draw(self, purpose: str) -> tuple[int, int, Path]:
        """Create and lock the next ticket: its descriptor, number and path."""
        self.directory.mkdir(parents=True, exist_ok=True)
        word = re.sub(r"[^\w.+-]+", "_", purpose, flags=re.ASCII)[:100]
        guard = os.open(self.directory / "guard", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            # Numbers grow while anybody waits; they may start again once the directory is empty.
            number = max((n for n, _ in self._tickets()), default=0) + 1
            path = self.directory / f"{number:012d}-{os.getpid()}-{word}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            _open_tickets.add(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(guard)
        return descriptor, number, path

    def _wait_for_turn(self, number: int, began: float, timeout_s: float) -> None:
        """Return when every lower ticket is gone or dead."""
        pause, before = _FIRST_PAUSE_S, None
        while (ahead := self._last_alive_before(number)) is not None:
            waited = time.perf_counter() - began
            if waited >= timeout_s:
                raise LockTimeout(waited, self.holder())
            pause = _FIRST_PAUSE_S if ahead != before else min(pause * 1.5, _LONGEST_PAUSE_S)
            before = ahead
            time.sleep(min(pause, max(timeout_s - waited, 0.0)))

    def _last_alive_before(self, number: int) -> Path | None:
        """The next lower live ticket; dead ones on the way are removed."""
        for other, path in reversed(self._tickets()):
            if other >= number:
                continue
            descriptor = self._lock_if_dead(path)
            if descriptor is None:
                if path.exists():
                    return path
                continue
            path.unlink(missing_ok=True)
            os.close(descriptor)
        return None

    def _tickets(self) -> list[tuple[int, Path]]:
        """All tickets, lowest number first."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = ((match, name) for name in names if (match := _TICKET.match(name)))
        return sorted((int(match.group(1)), self.directory / name) for match, name in found)

    @staticmethod
    def _lock_if_dead(path: Path) -> int | None:
        """A descriptor of a ticket nobody owns; None when its owner is alive or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            # Shared, so that two observers of a dead ticket do not take each other for its owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        return descriptor

    @staticmethod
    def _describe(path: Path) -> Holder | None:
        match = _TICKET.match(path.name)
        try:
            since = path.stat().st_mtime
        except FileNotFoundError:
            return None
        if match is None:
            return None
        instant = datetime.fromtimestamp(since, UTC).replace(tzinfo=None)
        return Holder(int(match.group(2)), match.group(3), instant)
