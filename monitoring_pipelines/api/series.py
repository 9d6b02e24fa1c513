"""Series of an endpoint as text (S-211 to S-213), in pieces of an hour of minutes or a day of hours.

What belongs here: which pieces a range has, making them, keeping them until a publication changes them, making those before
somebody asks that people ask for, rows of what is kept. What does not: rows of files and their summary
(``published.endpoints``), packing (``pieces``).

A piece follows from the files its rows are in, so it is kept under their names; that of the hour or day that has begun until
the next minute is in its file. 720 rows of ninety columns are 40 CPU-ms and packed 190 kB; from kept pieces the same answer is 2.
"""

from __future__ import annotations

import hashlib
import pickle
from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import Any

import orjson

from monitoring_pipelines.api.answers import to_json
from monitoring_pipelines.api.pieces import WHAT, Piece, PieceStore
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.published import endpoints
from monitoring_pipelines.published.reader import Look

#: Rows that are read at once. As values 720 of ninety columns are 12 MB.
MOST_ROWS = 720
#: Pieces that are fetched at once.
_FETCHED = 48
#: What is made before somebody asks, of so many endpoints, the busiest first: from so long before this day on, so that 30 hours by
#: minutes and a month by hours are there whatever the time.
_AHEAD: dict[endpoints.Grain, timedelta] = {"minute": timedelta(hours=30), "hour": timedelta(days=31)}
_MOST_AHEAD = 100
#: What stands between two pieces, packed once.
_COMMA = Piece.of(b",")


class Series:
    """Statistics of one endpoint.

    Args:
        look: The version to read.
        source_id: The endpoint's source.
        endpoint: Its name.
        grain: Length of a bucket.
        fill: Whether closed buckets without row are known zeros (S-212).
    """

    def __init__(self, look: Look, source_id: str, endpoint: str, grain: endpoints.Grain, *, fill: bool) -> None:
        self._look, self._source_id, self._endpoint, self._grain, self._fill = look, source_id, endpoint, grain, fill
        self._digits = endpoints.decimals(look, grain)
        self._closed = endpoints.closed_through(look, source_id)
        table = endpoints.table_of("endpoint", grain)
        columns = look.manifest.tables[table].columns if look.has(table) else ()
        self._times = {name: kind for name, kind in columns if kind in ("TIMESTAMP", "DATE")}
        facts: tuple[Any, ...] = (source_id, endpoint, grain, columns)
        self._what = hashlib.sha256(repr((fill, *facts[:3])).encode("utf-8", "surrogatepass"))
        if fill:
            origin = look.manifest.sources.get(source_id, {}).get("origin")
            facts += (origin, sorted(endpoints.measured(look, source_id)))
        #: Everything a piece follows from besides its time and its files.
        self._facts = hashlib.sha256(repr((fill, *facts)).encode("utf-8", "surrogatepass"))

    def parts(self, services: Services, frame: bytes, start: datetime, end: datetime) -> Generator[bytes | Piece]:
        """The text of an answer, whose ``frame`` has no rows and no summary yet: 31 days by minutes are 80 MB."""
        before, after = frame.split(b'],"summary":null')
        yield before
        is_first, summary = True, endpoints.Summary(self._digits)
        for piece, merged in self._pieces(services, start, end):
            summary.join(merged)
            if piece.length:
                if not is_first:
                    yield _COMMA
                yield piece
                is_first = False
        yield b'],"summary":' + to_json(summary.row()) + after

    def make(self, services: Services, start: datetime, end: datetime) -> Iterator[None]:
        """Keep the pieces of all units of [start, end) that are not kept yet, some at every step."""
        units = self._wholes(start, end)
        keys = {unit: self._key(unit) for unit in units}
        known = _store(services).known(keys.values())
        for run in _runs([unit for unit in units if keys[unit] not in known], self._most_units):
            self._made(services, run)
            yield

    def kept_rows(self, services: Services, start: datetime, end: datetime) -> list[dict[str, Any]] | None:
        """The rows of [start, end), None if not all of their pieces are kept."""
        units = self._units(start, end)
        keys = [self._key(unit) for unit in units]
        kept = _store(services).get(keys)
        if not kept.keys() >= set(keys):
            return None
        texts = (self._text(kept[key], unit) for key, unit in zip(keys, units, strict=True))
        return [row for text in texts for row in self._read(text)]

    def _pieces(self, services: Services, start: datetime, end: datetime) -> Iterator[tuple[Piece, endpoints.Merged]]:
        units = self._units(start, end)
        for first in range(0, len(units), _FETCHED):
            some = units[first : first + _FETCHED]
            keys = {unit: self._key(unit) for unit in some}
            kept = _store(services).get(keys.values())
            lacking: list[endpoints.Unit] = []
            for unit in some:
                piece = kept.get(keys[unit])
                if piece is None:
                    lacking.append(unit)
                if lacking and (piece is not None or len(lacking) == self._most_units or unit == some[-1]):
                    yield from self._made(services, lacking)
                    lacking = []
                if piece is not None and unit.is_cut:
                    text = self._text(piece, unit)
                    yield Piece.of(text), endpoints.Merged.of(self._read(text), self._digits)
                elif piece is not None:
                    yield piece, endpoints.Merged._make(pickle.loads(piece.note))  # noqa: S301 - of ``_made``

    def _units(self, start: datetime, end: datetime) -> list[endpoints.Unit]:
        return endpoints.units(self._look, self._source_id, self._grain, start, end)

    def _wholes(self, start: datetime, end: datetime) -> list[endpoints.Unit]:
        """Units that have rows, uncut: where what is known begins and ends, they are cut although nothing is left out."""
        return [unit._replace(start=unit.whole[0], end=unit.whole[1]) for unit in self._units(start, end) if unit.files]

    @property
    def _most_units(self) -> int:
        return max(1, MOST_ROWS * endpoints.LENGTH[self._grain] // endpoints.UNIT[self._grain])

    def _key(self, unit: endpoints.Unit) -> bytes:
        """Which unit it is, and all that its text follows from; known zeros reach as far as minutes are closed."""
        what, state = self._what.copy(), self._facts.copy()
        what.update(repr(unit.whole).encode())
        closed = min(self._closed, unit.whole[1]) if self._fill and self._closed else None
        state.update(repr((unit.whole, unit.files, closed)).encode())
        return what.digest()[:WHAT] + state.digest()

    def _made(self, services: Services, run: Sequence[endpoints.Unit]) -> list[tuple[Piece, endpoints.Merged]]:
        """Make the pieces of units that follow each other."""
        column, made, kept = endpoints.COLUMN[self._grain], [], {}
        with services.wide:
            rows = endpoints.statistics(
                self._look, self._source_id, self._endpoint, self._grain, run[0].start, run[-1].end,
                fill=self._fill, floats=True,
            )  # fmt: skip
            first = 0
            for unit in run:
                last = first
                while last < len(rows) and endpoints.as_instant(rows[last][column]) < unit.end:
                    last += 1
                piece, merged = self._packed(rows[first:last])
                made.append((piece, merged))
                if not unit.is_cut:
                    kept[self._key(unit)] = piece._replace(note=pickle.dumps(tuple(merged)))
                first = last
        _store(services).add(kept)
        return made

    def _packed(self, rows: list[dict[str, Any]]) -> tuple[Piece, endpoints.Merged]:
        texts = [to_json(row) for row in rows]
        begins = accumulate((len(text) + 1 for text in texts), initial=0)
        column = endpoints.COLUMN[self._grain]
        places = array(
            "q", (n for row, begin in zip(rows, begins, strict=False) for n in (_number(row[column]), begin))
        )
        return Piece.of(b",".join(texts), rows=places.tobytes()), endpoints.Merged.of(rows, self._digits)

    def _text(self, piece: Piece, unit: endpoints.Unit) -> bytes:
        """What of a whole unit's text lies in one that may be cut."""
        text = piece.text()
        if not unit.is_cut:
            return text
        places = array("q", piece.rows)
        buckets, begins = places[::2], [*places[1::2], len(text) + 1]
        first, last = bisect_left(buckets, _number(unit.start)), bisect_left(buckets, _number(unit.end))
        return text[begins[first] : max(begins[first], begins[last] - 1)]

    def _read(self, text: bytes) -> list[dict[str, Any]]:
        """The rows of a text: reading it takes a fifth of reading them from their file."""
        rows: list[dict[str, Any]] = orjson.loads(b"[" + text + b"]")
        for row in rows:
            for name, kind in self._times.items():
                if row.get(name) is not None:
                    instant = datetime.fromisoformat(row[name]).replace(tzinfo=None)
                    row[name] = instant if kind == "TIMESTAMP" else instant.date()
        return rows


def rows_of(
    services: Services, look: Look, source_id: str, endpoint: str, grain: endpoints.Grain, start: datetime, end: datetime,
    columns: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """These columns of stored rows and of known zeros of [start, end), oldest first, decimals as floats (S-212).

    From pieces where all are kept: whatever is read of a file costs 6 CPU-ms.
    """
    asked = (look, source_id, endpoint, grain, start, end)
    kept = Series(look, source_id, endpoint, grain, fill=False).kept_rows(services, start, end)
    if kept is None:
        return endpoints.statistics(*asked, fill=True, floats=True, columns=columns)
    names = (*columns, endpoints.COLUMN[grain], "source")
    rows = [{name: row[name] for name in names} for row in kept]
    return endpoints.filled(look, rows, *asked[1:])


def _number(at: datetime | date) -> int:
    """An instant in microseconds."""
    return (endpoints.as_instant(at) - datetime.min) // timedelta(microseconds=1)


def ahead(services: Services) -> Iterator[None]:
    """Make pieces before somebody asks, some at every step; nothing to do while their files are the same."""
    tables = tuple(endpoints.table_of("endpoint", grain) for grain in _AHEAD)
    with services.published.look() as look:
        ends = {source_id: endpoints.closed_through(look, source_id) for source_id in services.source_ids}
        state = (look.stamp(tables), {name: end.replace(minute=0) if end else None for name, end in ends.items()})
        if services.shared.get("series_ahead") == state:
            return
        rows = endpoints.listed(look, services.source_ids)
        rows.sort(key=lambda row: -((row["totals_24h"] or {}).get("tasks_submitted") or 0))
        for row in rows[:_MOST_AHEAD]:
            end = ends[row["source_id"]]
            if end is not None:
                for grain, span in _AHEAD.items():
                    series = Series(look, row["source_id"], row["endpoint"], grain, fill=False)
                    yield from series.make(
                        services, end.replace(hour=0, minute=0) - span, end + endpoints.LENGTH[grain]
                    )
    services.shared["series_ahead"] = state


def _runs(units: Sequence[endpoints.Unit], most: int) -> Iterator[list[endpoints.Unit]]:
    """Units that follow each other, at most so many at once."""
    run: list[endpoints.Unit] = []
    for unit in units:
        if run and (run[-1].end != unit.start or len(run) == most):
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _store(services: Services) -> PieceStore:
    store: PieceStore = services.shared.setdefault("pieces", PieceStore())
    return store
