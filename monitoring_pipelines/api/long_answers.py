"""Answers of any length: their text comes in parts, and memory holds one part however many there are.

What belongs here: putting parts together and sending them. What does not: making them.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from datetime import datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from monitoring_pipelines.api.answers import Packed, is_known, tags
from monitoring_pipelines.api.pieces import Piece, crc_of_both

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Bytes of an answer that are held in memory until they are sent; compressed, more of them are in a file.
MOST_HELD = 1_000_000
#: Bytes that are read and sent at once.
_CHUNK = 1 << 18
#: Beginning of a gzip stream: deflate, no name, no time, packed fast, on an unknown system.
_GZIP_BEGIN = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"


class _FromFile(StreamingResponse):
    """What is read from a file, which is closed at the end, also when the client leaves before."""

    def __init__(self, file: IO[bytes], read: Callable[[int], bytes], headers: Mapping[str, str]) -> None:
        super().__init__(iter(partial(read, _CHUNK), b""), headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await super().__call__(scope, receive, send)


def gathered(request: Request, parts: Generator[bytes | Piece], as_of: datetime | None) -> Response:
    """A success of ``/api/v1`` whose text is that of all ``parts``, with its ETag and length, or 304.

    The ETag follows from the text and from where it is cut. Nothing is sent before the last part is there: what fails is
    answered as an error, and nothing the parts are made from is kept for a slow client.
    """
    file = SpooledTemporaryFile(MOST_HELD)  # noqa: SIM115 - what sends it closes it
    try:
        digest, length, crc, pack = hashlib.sha256(), 0, 0, zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        is_pending = False
        file.write(_GZIP_BEGIN)
        with closing(parts):
            for part in parts:
                if isinstance(part, Piece):
                    digest.update(part.digest)
                    length, crc = length + part.length, crc_of_both(crc, part)
                    if is_pending:
                        file.write(pack.flush(zlib.Z_FULL_FLUSH))
                        is_pending = False
                    file.write(part.packed)
                else:
                    digest.update(hashlib.sha256(part).digest())
                    length, crc = length + len(part), zlib.crc32(part, crc)
                    file.write(pack.compress(part))
                    is_pending = True
                del part  # not kept while the next one is made
        file.write(pack.flush() + struct.pack("<II", crc, length & 0xFFFFFFFF))
        packed_length = file.tell()
        file.seek(0)
        headers = tags(digest, as_of) | {"Content-Type": "application/json"}
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        # Sent as one: every part of a file is read by a thread, which on a busy server waits for its turn twice.
        is_held = (packed_length if takes_gzip else length) <= MOST_HELD
        if is_held or is_known(request, headers):
            with file:
                return Packed(file.read() if is_held else b"", headers).answer(request)
        if not takes_gzip:
            return _FromFile(file, gzip.open(file).read, headers | {"Content-Length": str(length)})
        headers |= {"Vary": "Accept-Encoding", "Content-Encoding": "gzip", "Content-Length": str(packed_length)}
        return _FromFile(file, file.read, headers)
    except BaseException:
        file.close()
        raise
