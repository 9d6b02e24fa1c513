"""Keys and remote ids of published tasks as plain text in temporary files, for searches that look at all of them.

What belongs here: making the text of a file of tasks, finding the rows that hold some letters. What does not: what a list shows,
filters besides the text (``tasks``).

Every row of a published file is one line in the same order, a line end before it: key and remote id in small letters, nothing when
lists do not show the row.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from typing import TYPE_CHECKING, NamedTuple

from monitoring_pipelines.published.kept import Blocks
from monitoring_pipelines.published.reader import Look, Turns
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import VISIBLE

if TYPE_CHECKING:
    from stringzilla import Str

#: Matching rows of a file whose places are remembered.
MOST_PLACES = 64
#: Rows between two places that are known without counting lines.
_BLOCK = 1024
#: Rows that are read by one statement: the text of a whole file would be several times its size in memory.
_ROWS_AT_ONCE = 64 * _BLOCK
#: Bytes that are mapped into memory, and those of them that are searched at once: the interpreter waits for each search, and
#: the next one finds them in the processor's cache.
_WINDOW, _PIECE = 1 << 22, 1 << 18
#: After so long a search lets others run for a moment: the interpreter itself would make them wait longer.
_BUSY_S, _PAUSE_S = 0.003, 0.0001
#: A part of the rows above which counting them at once costs less than finding each.
_MANY = 8
_END, _BETWEEN = b"\n", b"\x1f"
#: No byte of UTF-8, and all bytes but that one and the line end.
_MARK = b"\xff"
_REST = bytes(set(range(256)) - {*_MARK, *_END})
_LINE = f"CASE WHEN {VISIBLE} THEN chr(10) || lower(task_key) || coalesce(chr({_BETWEEN[0]}) || lower(remote_id), '') ELSE chr(10) END"


class Found(NamedTuple):
    """Matching rows of one file: how many, and where their text has them, None when these are more than ``MOST_PLACES``."""

    n: int
    places: Sequence[int] | None


class _Lines(NamedTuple):
    """Whole lines in memory: from ``start`` to ``end`` of a window that begins at ``base`` of a text."""

    window: mmap
    text: Str
    base: int
    start: int
    end: int
    rows: int


class Text(Blocks):
    """The text of one published file."""

    def pieces(self) -> Iterator[_Lines]:
        """All lines, a piece at a time. A window is mapped as long as somebody holds its lines."""
        starts, last = self.starts, len(self.starts) - 1
        first = 0
        while first < last:
            window_end = self._block_after(first, _WINDOW)
            base = starts[first] // ALLOCATIONGRANULARITY * ALLOCATIONGRANULARITY
            window = mmap(self.file.fileno(), starts[window_end] - base, access=ACCESS_READ, offset=base)
            text = _searchable(window)
            while first < window_end:
                end = min(window_end, self._block_after(first, _PIECE))
                rows = min(self.rows, end * _BLOCK) - first * _BLOCK
                yield _Lines(window, text, base, starts[first] - base, starts[end] - base, rows)
                first = end

    def _block_after(self, first: int, size: int) -> int:
        """The end of as many blocks from ``first`` on as are ``size`` bytes, at least of one."""
        return max(first + 1, bisect(self.starts, self.starts[first] + size, first) - 1)

    def row(self, place: int) -> int:
        """The number of the row whose line holds ``place``."""
        block = bisect(self.starts, place) - 1
        lines = os.pread(self.file.fileno(), place - self.starts[block] + 1, self.starts[block])
        return block * _BLOCK + lines.count(_END) - 1


def _searchable(window: mmap) -> Str:
    from stringzilla import Str  # searches ten times as fast as ``bytes``

    return Str(memoryview(window))  # keeps the view, without which the window could be closed under it


class _Search:
    """What somebody waits for: texts that are left, and what was found in others."""

    def __init__(self, needle: bytes, texts: Iterable[Text]) -> None:
        self.needle = needle
        self.left = set(texts)
        self.found: dict[Text, Found] = {}


class Searches:
    """Searches of one process; shared by threads."""

    def __init__(self) -> None:
        #: Those that are not done, oldest first; one of the threads that wait for them works for all.
        self._searches: list[_Search] = []
        self._is_worked_on = False
        self._changed = threading.Condition()
        #: Held while a text is searched or rows are read from temporary files: at once they would only wait for the interpreter.
        self.turn = Turns(1)

    def find(self, needle: bytes, texts: Iterable[Text]) -> dict[Text, Found]:
        """Rows that hold ``needle``.

        Searches that are asked at the same time go through the texts together: getting at one takes longer than searching it, and the
        interpreter lets only one search anyway.
        """
        mine = _Search(needle, texts)
        with self._changed:
            self._searches.append(mine)
            self._changed.wait_for(lambda: not mine.left or not self._is_worked_on)
            if not mine.left:
                return mine.found
            self._is_worked_on = True
        try:
            pause_at = time.monotonic() + _BUSY_S
            while mine.left:
                self._search_next()
                if time.monotonic() > pause_at:
                    time.sleep(_PAUSE_S)
                    pause_at = time.monotonic() + _BUSY_S
        finally:
            with self._changed:
                self._is_worked_on = False
                self._searches = [search for search in self._searches if search is not mine]
                self._changed.notify_all()
        return mine.found

    def _search_next(self) -> None:
        """Search a text for all who want it."""
        with self._changed:
            searches = list(self._searches)
        text = next(iter(searches[0].left))
        some = [search for search in searches if text in search.left]
        with self.turn:
            found = _search(text, [search.needle for search in some])
        with self._changed:
            for search, result in zip(some, found, strict=True):
                search.found[text] = result
                search.left.discard(text)
            self._searches = [search for search in self._searches if search.left]
            self._changed.notify_all()


def usable(text: str | None) -> bytes:
    """What to look for in texts for a search without regard to case; nothing when they cannot tell."""
    needle = (text or "").lower().encode(errors="surrogatepass")
    return b"" if _END in needle or _BETWEEN in needle else needle


def text_of(look: Look, key: str) -> Text | None:
    """The text of a partition; None when its lines are not its rows, because a key holds a line end."""
    rows = look.manifest.tables[TASK].partitions[key].rows
    text = Text(rows)
    numbered = look.partition(TASK, [key], "file_row_number", ("task_key", "remote_id", "is_deleted"))
    for first in range(0, rows, _ROWS_AT_ONCE):
        blocks = look.tuples(
            f"SELECT file_row_number // {_BLOCK} AS block, encode(string_agg({_LINE}, '' ORDER BY file_row_number)) FROM {numbered} "
            f"WHERE file_row_number >= {first} AND file_row_number < {first + _ROWS_AT_ONCE} GROUP BY block ORDER BY block"
        )
        if any(block.count(_END) != min(_BLOCK, rows - number * _BLOCK) for number, block in blocks):
            return None
        text.add([block for _, block in blocks])
    return text


def _search(text: Text, needles: Sequence[bytes]) -> list[Found]:
    """What a text has of each."""
    counts, places = [0] * len(needles), [array("Q") for _ in needles]
    for lines in text.pieces():
        for number, needle in enumerate(needles):
            counts[number] += _count(lines, needle, places[number], MOST_PLACES + 1)
    return [Found(n, held if n <= MOST_PLACES else None) for n, held in zip(counts, places, strict=True)]


def rows(text: Text, needle: bytes, skip: int, limit: int) -> list[int]:
    """Numbers of ``limit`` rows that hold ``needle``, after the first ``skip``."""
    chosen: list[int] = []
    for lines in text.pieces():
        if len(chosen) == limit:
            break
        places = array("Q")
        n = _count(lines, needle, places, skip + limit - len(chosen))
        chosen += places[skip:]
        skip = max(0, skip - n)
    return [text.row(place) for place in chosen]


def _count(lines: _Lines, needle: bytes, places: array[int], most: int) -> int:
    """Rows that hold ``needle``; their places are added to ``places`` until these are ``most``."""
    find, n, end = lines.text.find, 0, lines.end
    many = max(MOST_PLACES, lines.rows // _MANY)
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


def _count_many(lines: _Lines, needle: bytes) -> int:
    """Rows that hold ``needle``, without visiting each."""
    places = lines.text.count(needle, lines.start, lines.end, allowoverlap=True)
    if places == lines.text.count(_END + needle, lines.start, lines.end):  # all begin with it, and none has it again
        return places
    return lines.window[lines.start : lines.end].replace(needle, _MARK).translate(None, _REST).count(_END + _MARK)
