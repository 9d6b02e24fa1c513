"""Pieces of answers in the form in which they are sent, and a place for those that stay what they are.

What belongs here: packing text so that packed pieces follow each other in one gzip stream, keeping them in a temporary file.
What does not: what a piece says (``series``), putting pieces together (``long_answers``).
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Collection, Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

#: Bytes of the pieces that are kept; the oldest go first. They are in a file.
MOST_KEPT = 256_000_000
#: Bytes of a piece, as they count for ``MOST_KEPT``.
_SIZE = "length(packed) + length(note) + length(rows)"
#: Bytes of a key that say what a piece is of.
WHAT = 16
#: How gzip and PNG compute their checksum: the reflected polynomial, and the factor of one bit.
_POLYNOMIAL, _ONE, _BIT = 0xEDB88320, 1 << 31, 1 << 30


class Piece(NamedTuple):
    """Text that was packed by itself.

    Attributes:
        packed: Deflate blocks that end on a byte and refer to nothing before them.
        length: Bytes of the text.
        crc: CRC-32 of the text.
        shift: What the CRC-32 of something before it is multiplied by (``crc_of_both``).
        digest: SHA-256 of the text.
        note: What whoever made it wants to know of it later.
        rows: What it wants to know only when it needs a part of the text.
    """

    packed: bytes
    length: int
    crc: int
    shift: int
    digest: bytes
    note: bytes = b""
    rows: bytes = b""

    @classmethod
    def of(cls, text: bytes | memoryview, note: bytes = b"", rows: bytes = b"") -> Piece:
        """Pack a text."""
        pack = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        packed = pack.compress(text) + pack.flush(zlib.Z_FULL_FLUSH)
        return cls(packed, len(text), zlib.crc32(text), crc_shift(len(text)), hashlib.sha256(text).digest(), note, rows)

    def text(self) -> bytes:
        """The text."""
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(self.packed)


def crc_of_both(first: int, piece: Piece) -> int:
    """CRC-32 of a text and a piece that follows it, of which only the CRC-32 ``first`` is at hand."""
    return _product(piece.shift, first) ^ piece.crc


def crc_shift(length: int) -> int:
    """What so many bytes do to the CRC-32 of what stands before them: x to the power of their bits."""
    power = _ONE
    for bit in range(length.bit_length()):
        if length >> bit & 1:
            power = _product(power, _shift_of_power(bit))
    return power


@cache
def _shift_of_power(bit: int) -> int:
    """The same of 2 to the power of ``bit`` bytes."""
    if bit:
        return _product(_shift_of_power(bit - 1), _shift_of_power(bit - 1))
    factor = _BIT
    for _ in range(3):
        factor = _product(factor, factor)
    return factor


def _product(a: int, b: int) -> int:
    """Product of two polynomials modulo that of CRC-32; bit 31 is the coefficient of 1."""
    found = 0
    while a:
        if a & _ONE:
            found ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return found


class PieceStore:
    """Pieces by key, for as long as the process lives. Shared by threads; does without when there is no room.

    Of keys whose first ``WHAT`` bytes are equal the newest is kept: they say what the piece is of, the rest in which state.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._bytes = 0
        self._lock = threading.Lock()
        self._is_out_of_order = False

    @cached_property
    def _con(self) -> sqlite3.Connection:
        # Without a name it is a file of its own that SQLite deletes.
        con = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        con.execute("PRAGMA journal_mode = OFF")
        con.execute("PRAGMA cache_size = -1000")
        con.execute(
            "CREATE TABLE piece (what BLOB UNIQUE, key BLOB UNIQUE, packed BLOB, length INT, crc INT, shift INT, digest BLOB, "
            "note BLOB, rows BLOB)"
        )
        return con

    def get(self, keys: Collection[bytes]) -> dict[bytes, Piece]:
        """Those of these pieces that are kept."""
        rows = self._run(f"SELECT key, {', '.join(Piece._fields)} FROM piece WHERE key IN ({_marks(keys)})", *keys)
        return {key: Piece._make(fields) for key, *fields in rows}

    def known(self, keys: Collection[bytes]) -> set[bytes]:
        """Which of these are kept."""
        return {key for (key,) in self._run(f"SELECT key FROM piece WHERE key IN ({_marks(keys)})", *keys)}

    def add(self, pieces: Mapping[bytes, Piece]) -> None:
        """Keep pieces; those they replace and the oldest make room."""
        for key, piece in pieces.items():
            self._drop("what = ? AND key <> ?", key[:WHAT], key)
            values = (key[:WHAT], key, *piece)
            rows = self._run(f"INSERT OR IGNORE INTO piece VALUES ({_marks(values)}) RETURNING {_SIZE}", *values)
            self._bytes += sum(size for (size,) in rows)
        while self._bytes > self._most and not self._is_out_of_order:
            self._drop("rowid IN (SELECT rowid FROM piece ORDER BY rowid LIMIT 10)")

    def _drop(self, which: str, *values: bytes) -> None:
        self._bytes -= sum(size for (size,) in self._run(f"DELETE FROM piece WHERE {which} RETURNING {_SIZE}", *values))

    def _run(self, sql: str, *values: bytes | int) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._is_out_of_order:
                return []
            try:
                return self._con.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                log.warning("pieces of answers are not kept any more: %s", error)
                self._is_out_of_order = True
                return []


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
