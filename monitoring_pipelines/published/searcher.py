"""``python -m monitoring_pipelines.published.searcher SOCKET …``: a process that finds lines in files of text.

What belongs here: finding lines, and answering who asks for them. What does not: who asks (``searches``), what the lines say
(``key_texts``). It imports as little as it can: 12 MB instead of 80.

Why a process: a search holds Python's interpreter, and with it every other answer. Why one: what an index cannot tell is looked for
together by all who ask at once, since getting at a file takes as long as searching it.

Every line follows a line end, and nothing is looked for that holds one. A connection has one request at a time, a line of JSON:

* ``{"connect": true}`` with a socket: another connection. Answer: ``{}``.
* ``{"know": number, "size": bytes}`` with a file: its text, by a number of the caller's. Answer: ``{}``.
* ``{"index": number}`` with a file: the whole index of a text (``gram_index``). Answer: ``{}``.
* ``{"find": hex, "in": [number, …], "most": n}``. Answer: ``{"found": [[lines, places], …]}``; more than n places are null.
* ``{"place": hex, "in": number, "skip": n, "limit": n}``. Answer: ``{"places": [place, …]}``: where so many lines have it.

Any of them may have ``"forget": [number, …]``. A place is a byte of the text, or ``ROW`` and the number of a row from an index.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from array import array
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring_pipelines.published.gram_index import GramIndex

if TYPE_CHECKING:
    from stringzilla import Str

_END = b"\n"
ROW = 1 << 63
#: Bytes of a line of which one in so many must be a match before counting them at once costs less than finding each.
_MANY = 200
#: No byte of UTF-8, and all bytes but that one and the line end.
_MARK = b"\xff"
_REST = bytes(set(range(256)) - {*_MARK, *_END})
_AT_ONCE = 1 << 16


class Sizes(NamedTuple):
    """How files are searched.

    Attributes:
        window: Bytes that are mapped into memory.
        piece: Bytes of them that are searched at once: the next search of the same pass finds them in the processor's cache.
    """

    window: int = 1 << 21
    piece: int = 1 << 18


class Lines(NamedTuple):
    """Whole lines in memory: from ``start`` to ``end`` of a window that begins at ``base`` of a file."""

    window: mmap
    text: Str
    base: int
    start: int
    end: int


def pieces(file: int, size: int, sizes: Sizes) -> Iterator[Lines]:
    """All lines of a file of so many bytes, a piece at a time. A window is mapped as long as somebody holds its lines."""
    from stringzilla import Str  # searches ten times as fast as ``bytes``

    done = 0
    while done < size:
        base = done // ALLOCATIONGRANULARITY * ALLOCATIONGRANULARITY
        start, length, end = done - base, sizes.window, -1
        while end <= start:  # a line may be longer than a window
            mapped = min(start + length, size - base)
            window = mmap(file, mapped, access=ACCESS_READ, offset=base)
            end = mapped if base + mapped == size else window.rfind(_END, start + 1)
            length *= 2
        text = Str(memoryview(window))  # keeps the view, without which the window could be closed under it
        while start < end:
            piece_end = _line_end(text, start, end, sizes.piece)
            yield Lines(window, text, base, start, piece_end)
            start = piece_end
        done = base + end


def _line_end(text: Str, start: int, end: int, size: int) -> int:
    """Where lines end of which ``size`` bytes are a part."""
    found = -1 if start + size >= end else text.find(_END, start + size, end)
    return end if found < 0 else found


class Known(NamedTuple):
    """A text: its descriptor and bytes, and its index if there is one."""

    file: int
    size: int
    grams: GramIndex | None = None

    def rows(self, needle: bytes) -> list[int] | None:
        """Rows that hold ``needle`` when the index knows them."""
        return None if self.grams is None else self.grams.find(needle)


class Wanted(NamedTuple):
    """What is looked for, and how many places of a text are told."""

    needle: bytes
    most: int


def search(text: Known, wanted: Sequence[Wanted], sizes: Sizes) -> list[tuple[int, list[int] | None]]:
    """What a text has of each: how many lines, and their places when these are few."""
    rows = [text.rows(one.needle) for one in wanted]
    left = [number for number, some in enumerate(rows) if some is None]
    counts, places = [0] * len(wanted), [array("Q") for _ in wanted]
    for lines in pieces(text.file, text.size, sizes) if left else ():
        for number in left:
            counts[number] += _count(lines, wanted[number].needle, places[number], wanted[number].most + 1)
    for number, some in enumerate(rows):
        if some is not None:
            counts[number] = len(some)
            places[number].extend(ROW | row for row in some[: wanted[number].most])
    return [
        (count, held.tolist() if count <= one.most else None)
        for count, held, one in zip(counts, places, wanted, strict=True)
    ]


def some_places(text: Known, needle: bytes, skip: int, limit: int, sizes: Sizes) -> list[int]:
    """Where ``limit`` lines are that have ``needle``, after the first ``skip``."""
    rows = text.rows(needle)
    if rows is not None:
        return [ROW | row for row in rows[skip : skip + limit]]
    chosen: list[int] = []
    for lines in pieces(text.file, text.size, sizes):
        if len(chosen) == limit:
            break
        places = array("Q")
        n = _count(lines, needle, places, skip + limit - len(chosen))
        chosen += places[skip:]
        skip = max(0, skip - n)
    return chosen


def _count(lines: Lines, needle: bytes, places: array[int], most: int) -> int:
    """Lines that hold ``needle``; their places are added to ``places`` until these are ``most``."""
    find, n, end = lines.text.find, 0, lines.end
    many = max(most, (end - lines.start) // _MANY)
    at = find(needle, lines.start, end)
    while at >= 0:
        n += 1
        if len(places) < most:
            places.append(lines.base + at)
        elif n > many:
            return _count_many(lines, needle)
        at = find(_END, at, end)
        if at >= 0:
            at = find(needle, at, end)
    return n


def _count_many(lines: Lines, needle: bytes) -> int:
    """Lines that hold ``needle``, without visiting each."""
    places = lines.text.count(needle, lines.start, lines.end, allowoverlap=True)
    if places == lines.text.count(_END + needle, lines.start, lines.end):  # all begin with it, and none has it again
        return places
    return lines.window[lines.start : lines.end].replace(needle, _MARK).translate(None, _REST).count(_END + _MARK)


class _Asked:
    """What a connection waits for: files that are left, and what was found in others."""

    def __init__(self, connection: socket.socket, request: dict[str, Any]) -> None:
        self.connection = connection
        self.wanted = Wanted(bytes.fromhex(request["find"]), request["most"])
        self.numbers: list[int] = request["in"]
        self.left = set(self.numbers)
        self.found: dict[int, tuple[int, list[int] | None]] = {}


class Searcher:
    """The process: files it knows, and searches that are not done, oldest first."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._texts: dict[int, Known] = {}
        self._indexes: dict[int, int] = {}
        self._searches: list[_Asked] = []
        self._connections = selectors.DefaultSelector()

    def serve(self, connection: socket.socket) -> None:
        """Answer until nobody can ask any more."""
        self._connections.register(connection, selectors.EVENT_READ)
        while self._connections.get_map():
            for key, _ in self._connections.select(0 if self._searches else None):
                assert isinstance(key.fileobj, socket.socket)  # only these are registered
                self._read(key.fileobj)
            if self._searches:
                self._search_next()

    def _read(self, connection: socket.socket) -> None:
        try:
            line, files = receive(connection)
            if line:
                answer = self._answer(connection, json.loads(line), files)
                if answer is not None:
                    connection.sendall(json.dumps(answer).encode() + _END)
                return
        except OSError:  # a file that cannot be read, a caller that is gone: who asks sees the end of the connection
            pass
        self._leave(connection)

    def _leave(self, connection: socket.socket) -> None:
        self._searches = [one for one in self._searches if one.connection is not connection]
        self._connections.unregister(connection)
        connection.close()

    def _answer(self, connection: socket.socket, request: dict[str, Any], files: list[int]) -> dict[str, Any] | None:
        for number in request.get("forget", ()):
            os.close(self._texts.pop(number).file)
            if number in self._indexes:
                os.close(self._indexes.pop(number))
        if "connect" in request:
            self._connections.register(socket.socket(fileno=files[0]), selectors.EVENT_READ)
        elif "know" in request:
            self._texts[request["know"]] = Known(files[0], request["size"])
        elif "index" in request:
            number = request["index"]
            self._indexes[number] = files[0]
            text = self._texts[number]
            self._texts[number] = text._replace(grams=GramIndex(files[0], text.file))
        elif "find" in request:
            self._searches.append(_Asked(connection, request))
            return None
        else:
            text, needle = self._texts[request["in"]], bytes.fromhex(request["place"])
            return {"places": some_places(text, needle, request["skip"], request["limit"], self._sizes)}
        return {}

    def _search_next(self) -> None:
        """Search a file for all who want it."""
        first = self._searches[0]
        if first.left:
            number = next(iter(first.left))
            some = [asked for asked in self._searches if number in asked.left]
            try:
                found = search(self._texts[number], [asked.wanted for asked in some], self._sizes)
            except (OSError, ValueError):
                # What is wrong with the file is said where it is searched without this process.
                for asked in some:
                    self._leave(asked.connection)
                return
            for asked, result in zip(some, found, strict=True):
                asked.found[number] = result
                asked.left.discard(number)
        for asked in [asked for asked in self._searches if not asked.left]:
            self._searches.remove(asked)
            answer = {"found": [asked.found[number] for number in asked.numbers]}
            try:
                asked.connection.sendall(json.dumps(answer).encode() + _END)
            except OSError:
                self._leave(asked.connection)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A line, nothing when the other side is gone, and the files that came with it."""
    line, files, _, _ = socket.recv_fds(connection, _AT_ONCE, 1)
    parts = [line]
    while parts[-1] and not parts[-1].endswith(_END):
        parts.append(connection.recv(_AT_ONCE))
    return b"".join(parts) if parts[-1] else b"", files


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # goes to all processes of a terminal; this one ends with who asks
    Searcher(Sizes(*map(int, sys.argv[2:]))).serve(socket.socket(fileno=int(sys.argv[1])))
