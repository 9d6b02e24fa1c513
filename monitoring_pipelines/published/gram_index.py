"""``python -m monitoring_pipelines.published.gram_index TEXT BYTES INDEX``: which lines of a text have which four letters.

What belongs here: making the index of a text (a process of its own, numpy is as large as the server's whole budget), looking up
lines in it. What does not: texts (``key_texts``), finding lines without an index and asking (``searcher``, ``searches``).

An inverted index of q-grams, q being four bytes, over segments of ``SEGMENT`` lines. Those with signs between words (``-``) are left
out. A q-gram belongs to one of 65,536 buckets; no two of digits and hexadecimal letters share one. A segment is, in the byte order
of the machine:

* the directory: of each bucket where its lines begin, and its q-gram (or ``_MANY`` …), four bytes each; and where the last one ends;
* the starts: where every 32nd line begins, from the beginning of the segment's text, four bytes each; and where the last one ends;
* the lines of all buckets: their numbers in the segment, two bytes each, ascending.

The last of an index are the segments' places (index, text, lines, eight bytes each) and how many segments there are.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SEGMENT = 1 << 16
_BUCKETS = 1 << 16
#: Bytes of a segment's text, unless a line alone is longer: what it takes to make one is thirty times as much.
_MOST_BYTES = 1 << 21
_Q = 4
_END = b"\n"
#: Whether a byte is of a letter or a digit.
_IS_WORD = bytes(byte >= 0x80 or chr(byte).isalnum() for byte in range(256))
#: What a bucket has instead of a q-gram, no text in UTF-8 does: none, lines with different ones, more lines than are listed.
_NONE, _MIXED, _MANY = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
#: A bucket that one in so many lines has is not listed: beginnings, which nearly all keys have in common.
_OFTEN = 32
#: Lines that are looked at in a segment, at most, before looking through its text is faster.
_MOST_READ = 64
#: Lines that are looked at sooner than those of another q-gram are taken from them.
_FEW = 4
#: Lines between two whose beginnings are known.
_STEP = 32
#: q-grams of a text that are looked up, those at its end.
_LOOKED_UP = 5
_ENTRY, _PLACE, _COUNT = struct.Struct("=4I"), struct.Struct("=3Q"), struct.Struct("=Q")
_ENTRY_BYTES = 8
_DIRECTORY_BYTES = _ENTRY_BYTES * (_BUCKETS + 1)


class _Segment(NamedTuple):
    """Where a segment is in the index and in the text, and how many lines it has."""

    at: int
    text: int
    lines: int

    @property
    def listed(self) -> int:
        """Where the lines of buckets are."""
        return self.at + _DIRECTORY_BYTES + 4 * (-(-self.lines // _STEP) + 1)


class GramIndex:
    """The index of one text, of which a segment's places are held in memory and nothing else.

    Args:
        index: Descriptor of a whole index.
        text: Descriptor of its text.
    """

    def __init__(self, index: int, text: int) -> None:
        self._index, self._text = index, text
        end = os.fstat(index).st_size - _COUNT.size
        (n,) = _COUNT.unpack(os.pread(index, _COUNT.size, end))
        places = os.pread(index, n * _PLACE.size, end - n * _PLACE.size)
        self._segments = [_Segment(*place) for place in _PLACE.iter_unpack(places)]

    def find(self, needle: bytes) -> list[int] | None:
        """Numbers of the lines that hold ``needle``, ascending; None when looking through the text is faster."""
        found: list[int] = []
        first = 0
        grams = [(int.from_bytes(gram, sys.byteorder), _bucket(gram)) for gram in _grams(needle)]
        for segment in self._segments:
            some = self._in(segment, grams, len(needle) == _Q, needle)
            if some is None:
                return None
            found += [first + number for number in some]
            first += segment.lines
        return found

    def _in(self, segment: _Segment, grams: list[tuple[int, int]], is_whole: bool, needle: bytes) -> list[int] | None:
        """Numbers of a segment's lines."""
        numbers: list[int] | None = None
        for gram, bucket in grams:
            place = segment.at + _ENTRY_BYTES * bucket
            start, one, end, _ = _ENTRY.unpack(os.pread(self._index, _ENTRY.size, place))
            if one == _MANY:
                continue
            if one not in (gram, _MIXED):
                return []
            some = array("H", os.pread(self._index, 2 * (end - start), segment.listed + 2 * start)).tolist()
            if is_whole and one == gram:
                return some
            numbers = some if numbers is None else sorted({*numbers}.intersection(some))
            if len(numbers) <= _FEW:
                break
        if numbers is None or len(numbers) > _MOST_READ:
            return None
        return [number for number in numbers if needle in self._line(segment, number)]

    def _line(self, segment: _Segment, number: int) -> bytes:
        block, place = divmod(number, _STEP)
        start, end = struct.unpack("=2I", os.pread(self._index, 8, segment.at + _DIRECTORY_BYTES + 4 * block))
        lines = os.pread(self._text, end - start, segment.text + start)
        return lines.split(_END, place + 2)[place + 1]


def _grams(needle: bytes) -> list[bytes]:
    """Those of a text that are looked up: from its end, each beside the next if that is listed."""
    found: list[bytes] = []
    start = len(needle) - _Q
    while start > -_Q and len(found) < _LOOKED_UP:
        gram = needle[max(0, start) : max(0, start) + _Q]
        is_listed = len(gram) == _Q and all(_IS_WORD[byte] for byte in gram)
        if is_listed:
            found.append(gram)
        start -= _Q if is_listed else 1
    return found


def _bucket(gram: bytes) -> int:
    return sum(((byte + (byte >> 6) * 9) & 15) << 4 * place for place, byte in enumerate(gram))


def make(text: int, size: int, index: BinaryIO, lines: int = SEGMENT) -> None:
    """Write the index of a text.

    Args:
        text: Its descriptor.
        size: Its bytes. Every line follows a line end.
        index: Where to write to; whole when this returns.
        lines: Most lines of a segment, ``SEGMENT`` at most.

    Raises:
        OSError: The text cannot be read or is shorter, the index cannot be written.
    """
    places = []
    for start, letters, begins in _segments(text, size, lines):
        places.append(_PLACE.pack(index.tell(), start, len(begins)))
        for part in _segment(letters, begins):
            index.write(part.tobytes())
    index.writelines((*places, _COUNT.pack(len(places))))
    index.flush()


def _segments(text: int, size: int, lines: int) -> Iterator[tuple[int, Any, Any]]:
    """Where each segment begins, its bytes, and where its lines begin in them."""
    import numpy as np

    start, length = 0, _MOST_BYTES
    while start < size:
        letters = np.frombuffer(os.pread(text, min(length, size - start), start), np.uint8)
        if len(letters) < min(length, size - start):
            raise OSError(f"the text has {start + len(letters)} of {size} bytes")
        begins = np.flatnonzero(letters == _END[0])
        is_last = start + len(letters) == size
        if len(begins) == 1 and not is_last:  # a line that may go on
            length *= 2
            continue
        n = min(lines, len(begins) if is_last else len(begins) - 1)
        end = int(begins[n]) if n < len(begins) else len(letters)
        yield start, letters[:end], begins[:n]
        start, length = start + end, _MOST_BYTES


def _segment(letters: np.ndarray, begins: np.ndarray) -> Iterator[np.ndarray]:
    """The parts of a segment."""
    import numpy as np

    grams = np.zeros(max(0, len(letters) - _Q + 1), np.uint32)
    buckets = np.zeros(len(grams), np.uint32)
    halves = (letters + (letters >> 6) * np.uint8(9)) & 15
    for place in range(_Q):
        part = slice(place, place + len(grams))
        shift = 8 * place if sys.byteorder == "little" else 8 * (_Q - 1 - place)
        grams |= letters[part].astype(np.uint32) << np.uint32(shift)
        buckets |= halves[part].astype(np.uint32) << np.uint32(4 * place)
    lines = np.repeat(np.arange(len(begins), dtype=np.uint32), np.diff(begins, append=len(letters)))[: len(grams)]
    word = np.frombuffer(_IS_WORD, bool)[letters]
    inside = np.logical_and.reduce([word[place : place + len(grams)] for place in range(_Q)])
    grams, buckets, lines = grams[inside], buckets[inside], lines[inside]
    ones = np.full(_BUCKETS + 1, _NONE, np.uint32)
    ones[buckets] = grams
    ones[buckets[ones[buckets] != grams]] = _MIXED
    listed = np.sort(buckets << np.uint32(16) | lines)  # a hundred times as fast as ``unique``
    listed = listed[np.diff(listed, prepend=listed[:1] + np.uint32(1)) != 0]
    buckets, lines = listed >> np.uint32(16), listed.astype(np.uint16)
    counts = np.bincount(buckets, minlength=_BUCKETS)
    often = counts > max(1, len(begins) // _OFTEN)
    ones[:-1][often] = _MANY
    lines = lines[~often[buckets]]
    counts[often] = 0
    directory = np.zeros((_BUCKETS + 1, 2), np.uint32)
    directory[1:, 0] = np.cumsum(counts)
    directory[:, 1] = ones
    yield directory
    yield np.append(begins[::_STEP], len(letters)).astype(np.uint32)
    yield lines


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # goes to all processes of a terminal; the server says when it ends
    os.nice(5)  # as runs do: answers come first
    with open(int(sys.argv[3]), "wb") as made:
        make(int(sys.argv[1]), int(sys.argv[2]), made)
