"""``python -m monitoring_pipelines.published.searcher SOCKET …``: a process that finds lines in files of text.

What belongs here: finding lines, and answering who asks for them. What does not: who asks (``searches``), what the lines say
(``key_texts``). It imports as little as it can: 12 MB instead of 80.

Why a process: a search holds Python's interpreter, and with it every other answer. Why one: searches that are asked at once go
through the files together, since getting at a file takes as long as searching it.

Every line follows a line end, and nothing is looked for that holds one. A connection has one request at a time, a line of JSON:

* ``{"connect": true}`` with a socket: another connection. Answer: ``{}``.
* ``{"know": number, "size": bytes}`` with a file: its text, by a number of the caller's. Answer: ``{}``.
* ``{"find": hex, "in": [number, …]}``. Answer: ``{"found": [[lines, places], …]}``; places are null when they are many.
* ``{"place": hex, "in": number, "skip": n, "limit": n}``. Answer: ``{"places": [place, …]}``: where so many lines have it.

Any of them may have ``"forget": [number, …]``.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from stringzilla import Str

_END = b"\n"
#: Bytes of a line of which one in so many must be a match before counting them at once costs less than finding each.
_MANY = 200
#: Bytes of which one must be no match for looking for several texts together: what is found has to be looked at once more.
_RARE = 1024
#: So many texts at least; and the part of each, its end, that is looked for: beginnings are what keys have in common.
_TOGETHER, _PART = 3, 8
#: Texts that no line has. With fewer than four different beginnings the library looks for these one by one, forty times as long.
_NOWHERE = [bytes([byte]) * 4 for byte in range(0xF8, 0xFC)]
#: No byte of UTF-8, and all bytes but that one and the line end.
_MARK = b"\xff"
_REST = bytes(set(range(256)) - {*_MARK, *_END})
_AT_ONCE = 1 << 16


class Sizes(NamedTuple):
    """How files are searched.

    Attributes:
        window: Bytes that are mapped into memory.
        piece: Bytes of them that are searched at once: the next search of the same pass finds them in the processor's cache.
        places: Matching lines of a file whose places are told.
        together: Bytes of a file from which on several searches look through it together.
    """

    window: int = 1 << 21
    piece: int = 1 << 18
    places: int = 128
    together: int = 1 << 19


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


def search(file: int, size: int, needles: Sequence[bytes], sizes: Sizes) -> list[tuple[int, list[int] | None]]:
    """What a file has of each: how many lines, and their places when these are few."""
    counts, places = [0] * len(needles), [array("Q") for _ in needles]
    together = _rare(file, size, needles, sizes) if size >= sizes.together else []
    alone = [number for number in range(len(needles)) if number not in together]
    for lines in pieces(file, size, sizes):
        for number in alone:
            counts[number] += _count(lines, needles[number], places[number], sizes.places + 1)
        if together:
            found = _find(lines, [needles[number] for number in together])
            for number, at in zip(together, found, strict=True):
                counts[number] += len(at)
                places[number].extend(at[: sizes.places + 1 - len(places[number])])
            n = sum(map(len, found))
            if n * _RARE > lines.end - lines.start:  # these lines are not like those at the beginning
                alone, together = [*alone, *together], []
    return [
        (count, held.tolist() if count <= sizes.places else None) for count, held in zip(counts, places, strict=True)
    ]


def _rare(file: int, size: int, needles: Sequence[bytes], sizes: Sizes) -> list[int]:
    """Numbers of those that are best looked for together: those that few of the first lines have, if there are enough."""
    if len(needles) < _TOGETHER:
        return []
    first = next(pieces(file, size, sizes))
    most = (first.end - first.start) // _RARE
    ends = [needle[-_PART:] for needle in needles]
    some = [
        number for number, end in enumerate(ends) if first.text.count(end, first.start, first.end) * len(ends) <= most
    ]
    return some if len(some) >= _TOGETHER else []


def _find(lines: Lines, needles: Sequence[bytes]) -> list[list[int]]:
    """For each of several texts where lines are that have it."""
    parts = tuple(needle[-_PART:] for needle in needles)
    matches, hidden = _matcher(parts)
    # Numbers of those that are found where their part is, and no other with them: most, and nothing has to be compared.
    whole = [some[0] if len(some) == 1 and needles[some[0]] == parts[some[0]] else -1 for some in hidden]
    found: list[list[int]] = [[] for _ in needles]
    after = [lines.start] * len(needles)
    window = lines.window
    for part, start, _ in matches(memoryview(window)[lines.start : lines.end]):
        at = lines.start + start
        if whole[part] >= 0 and at < after[part]:
            continue
        end = window.find(_END, at, lines.end)
        end = lines.end if end < 0 else end
        if whole[part] >= 0:
            found[part].append(lines.base + at)
            after[part] = end
            continue
        first = window.rfind(_END, lines.start, at) + 1
        for number in hidden[part]:
            if at >= after[number] and needles[number] in window[first:end]:
                found[number].append(lines.base + at)
                after[number] = end
    return found


@lru_cache(maxsize=4)
def _matcher(parts: tuple[bytes, ...]) -> tuple[Callable[[memoryview], list[tuple[int, int, int]]], list[list[int]]]:
    """Finds places that have one of the parts; and for each part which others have none where they overlap it, itself too."""
    from ahocorasick_rs import MATCHKIND_LEFTMOST_FIRST, BytesAhoCorasick

    found = BytesAhoCorasick([*parts, *_NOWHERE], matchkind=MATCHKIND_LEFTMOST_FIRST).find_matches_as_indexes
    return found, [[number for number, other in enumerate(parts) if _can_overlap(part, other)] for part in parts]


def _can_overlap(part: bytes, other: bytes) -> bool:
    """Whether a text can have both so that they share a byte."""
    return any(
        all(part[i] == other[i - shift] for i in range(max(0, shift), min(len(part), shift + len(other))))
        for shift in range(1 - len(other), len(part))
    )


def some_places(file: int, size: int, needle: bytes, skip: int, limit: int, sizes: Sizes) -> list[int]:
    """Where ``limit`` lines are that have ``needle``, after the first ``skip``."""
    chosen: list[int] = []
    for lines in pieces(file, size, sizes):
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
        self.needle = bytes.fromhex(request["find"])
        self.numbers: list[int] = request["in"]
        self.left = set(self.numbers)
        self.found: dict[int, tuple[int, list[int] | None]] = {}


class Searcher:
    """The process: files it knows, and searches that are not done, oldest first."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._files: dict[int, tuple[int, int]] = {}
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
            os.close(self._files.pop(number)[0])
        if "connect" in request:
            self._connections.register(socket.socket(fileno=files[0]), selectors.EVENT_READ)
        elif "know" in request:
            self._files[request["know"]] = (files[0], request["size"])
        elif "find" in request:
            self._searches.append(_Asked(connection, request))
            return None
        else:
            file, size = self._files[request["in"]]
            needle = bytes.fromhex(request["place"])
            return {"places": some_places(file, size, needle, request["skip"], request["limit"], self._sizes)}
        return {}

    def _search_next(self) -> None:
        """Search a file for all who want it."""
        first = self._searches[0]
        if first.left:
            number = next(iter(first.left))
            some = [asked for asked in self._searches if number in asked.left]
            try:
                found = search(*self._files[number], [asked.needle for asked in some], self._sizes)
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
