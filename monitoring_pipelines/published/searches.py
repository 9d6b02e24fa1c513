"""Searches for a text among the texts of published tasks, in a process of their own (``searcher``).

What belongs here: starting that process, telling it the files, asking it, doing without it. What does not: how lines are found.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

from monitoring_pipelines.published import searcher
from monitoring_pipelines.published.key_texts import Text
from monitoring_pipelines.published.searcher import Sizes, Wanted

log = logging.getLogger(__name__)

#: Seconds within which it answers, or else is ended. Of ten million tasks a search takes 0.02, for one letter 0.9, beside others.
_PATIENCE_S = 60.0
#: Seconds without it after it could not be started or has ended.
_WITHOUT_S = 60.0


class Found(NamedTuple):
    """Matching rows of one file: how many, and their places (``searcher``), None when these are many."""

    n: int
    places: array[int] | None


class Searches:
    """Searches of one process; shared by threads."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        self._sizes = sizes or Sizes()
        self._process: _Process | None = None
        self._none_before = 0.0
        self._lock = threading.Lock()

    def find(self, needle: bytes, texts: Iterable[Text], most: int) -> dict[Text, Found]:
        """Rows that hold ``needle``; where they are when a text has ``most`` or fewer."""
        texts = list(texts)
        process = self._running()
        if process is not None:
            try:
                answer = process.ask({"find": needle.hex(), "in": process.numbers(texts), "most": most})
                return {text: _found(*found) for text, found in zip(texts, answer["found"], strict=True)}
            except OSError as error:
                self._ended(process, error)
        wanted = [Wanted(needle, most)]
        return {text: _found(*searcher.search(text.known, wanted, self._sizes)[0]) for text in texts}

    def places(self, needle: bytes, text: Text, skip: int, limit: int) -> list[int]:
        """Where ``limit`` rows are that hold ``needle``, after the first ``skip``."""
        process = self._running()
        if process is not None:
            try:
                (number,) = process.numbers([text])
                found: list[int] = process.ask({"place": needle.hex(), "in": number, "skip": skip, "limit": limit})[
                    "places"
                ]
                return found
            except OSError as error:
                self._ended(process, error)
        return searcher.some_places(text.known, needle, skip, limit, self._sizes)

    def _running(self) -> _Process | None:
        with self._lock:
            if self._process is None and time.monotonic() >= self._none_before:
                try:
                    self._process = _Process(self._sizes)
                    weakref.finalize(self, self._process.end)
                except OSError as error:
                    self._do_without(error)
            return self._process

    def _ended(self, process: _Process, error: OSError) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
                process.end()
                self._do_without(error)

    def _do_without(self, error: OSError) -> None:
        self._none_before = time.monotonic() + _WITHOUT_S
        log.warning(
            "searches hold up other answers for %.0f s, they have no process of their own: %s", _WITHOUT_S, error
        )


def _found(n: int, places: Sequence[int] | None) -> Found:
    return Found(n, None if places is None else array("Q", places))  # as a list they are five times as large


class _Process:
    """The running process.

    Raises:
        OSError: It cannot be started; by all functions: it has ended or does not answer.
    """

    def __init__(self, sizes: Sizes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command of this product
                [sys.executable, "-m", searcher.__name__, str(theirs.fileno()), *map(str, sizes)],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        ours.settimeout(_PATIENCE_S)
        #: Nobody asks over the first connection but under the lock: files go with what is sent first.
        self._first = ours
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        self._numbers: weakref.WeakKeyDictionary[Text, int] = weakref.WeakKeyDictionary()
        self._indexed: weakref.WeakSet[Text] = weakref.WeakSet()
        self._next = count()
        self._gone: list[int] = []

    def numbers(self, texts: Iterable[Text]) -> list[int]:
        """What the process knows the texts by; it is told those that are new, and new indexes."""
        with self._lock:
            for text in texts:
                if text not in self._numbers:
                    gone = [self._gone.pop() for _ in range(len(self._gone))]
                    number = next(self._next)
                    _ask(self._first, {"know": number, "size": text.size, "forget": gone}, [text.file.fileno()])
                    self._numbers[text] = number
                    weakref.finalize(text, self._gone.append, number).atexit = False
                if text.index_file is not None and text not in self._indexed:
                    _ask(self._first, {"index": self._numbers[text]}, [text.index_file.fileno()])
                    self._indexed.add(text)
            return [self._numbers[text] for text in texts]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        with self._connection() as connection:
            return _ask(connection, request)

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with self._lock:
            connection = self._idle.pop() if self._idle else self._connect()
        try:
            yield connection
        except OSError:
            connection.close()
            raise
        self._idle.append(connection)

    def _connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            _ask(self._first, {"connect": True}, [theirs.fileno()])
        ours.settimeout(_PATIENCE_S)
        return ours

    def end(self) -> None:
        """End the process. Who still waits for an answer gets an error."""
        self._process.kill()
        self._process.wait()
        for connection in (self._first, *self._idle):
            connection.close()


def _ask(connection: socket.socket, request: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
    line = json.dumps(request).encode() + b"\n"
    if files:
        line = line[socket.send_fds(connection, [line], files) :]
    connection.sendall(line)
    answer, _ = searcher.receive(connection)
    if not answer:
        raise ConnectionResetError("it has ended")
    found: dict[str, Any] = json.loads(answer)
    return found
