"""Packed pieces follow each other as one gzip stream, and a store of them is bounded and never in the way."""

from __future__ import annotations

import gzip
import sqlite3
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.api.long_answers import gathered
from monitoring_pipelines.api.pieces import WHAT, Piece, PieceStore, crc_of_both


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_checksum_of_a_text_and_a_piece_is_that_of_both(first: bytes, second: bytes) -> None:
    assert crc_of_both(zlib.crc32(first), Piece.of(second)) == zlib.crc32(first + second)


@given(st.lists(st.tuples(st.binary(max_size=200), st.booleans())))
def test_text_and_pieces_in_any_order_are_one_stream(parts: list[tuple[bytes, bool]]) -> None:
    from fastapi import Request

    def given_parts():
        for text, is_piece in parts:
            yield Piece.of(text) if is_piece else text

    whole = b"".join(text for text, _ in parts)
    request = Request({"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]})
    answer = gathered(request, given_parts(), None)
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(answer.body)) == whole
    plain = gathered(Request({"type": "http", "method": "GET", "headers": []}), given_parts(), None)
    assert (bytes(plain.body), plain.headers["etag"]) == (whole, answer.headers["etag"])


def test_the_checksum_is_right_for_long_texts() -> None:
    first, second = bytes(range(256)) * 9999, b"{}" * 5_000_001
    assert crc_of_both(zlib.crc32(first), Piece.of(second)) == zlib.crc32(first + second)


def test_a_store_gives_back_what_it_was_given_and_forgets_the_oldest() -> None:
    store = PieceStore(most=50_000)
    pieces = {bytes([n]): Piece.of(bytes([n]) * 1000 + b"x", b"n" * 1000) for n in range(200)}
    for key, piece in pieces.items():
        store.add({key: piece})
        assert store.get([key]) == {key: piece}
    kept = store.get(list(pieces))
    assert bytes([199]) in kept
    assert bytes([0]) not in kept
    assert sum(len(piece.packed) + len(piece.note) for piece in kept.values()) <= 50_000
    assert store.known(list(pieces)) == set(kept)
    assert all(pieces[key] == piece for key, piece in kept.items())


def test_of_what_changes_every_minute_the_newest_is_kept_and_pushes_nothing_else_out() -> None:
    store = PieceStore(most=20_000)
    stays, changes = b"s" * WHAT, b"c" * WHAT
    store.add({stays + b"1": Piece.of(b"stays")})
    for minute in range(200):
        key = changes + bytes([minute])
        store.add({key: Piece.of(b"changes", bytes([minute]) * 1000, b"r" * minute)})
        assert store.known([stays + b"1", key, changes + bytes([minute - 1 & 255])]) == {stays + b"1", key}
        store.add({key: Piece.of(b"changes", bytes([minute]) * 1000, b"r" * minute)})
    kept = store.get([stays + b"1", changes + bytes([199])])
    assert store._bytes == sum(len(piece.packed) + len(piece.note) + len(piece.rows) for piece in kept.values())


def test_a_store_without_room_keeps_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    store = PieceStore()
    store.add({b"a": Piece.of(b"a")})
    # SQLite refuses what does not fit as it refuses what does not fit on a disk.
    pages = store._con.execute("PRAGMA page_count").fetchone()[0]
    store._con.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store._con.execute("INSERT INTO piece (key, packed) VALUES ('x', zeroblob(99999))")
    for _ in range(2):
        store.add({b"b": Piece(bytes(99_999), 1, 1, 1, b"")})
    assert store.get([b"a", b"b"]) == {}
    assert store.known([b"a"]) == set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
