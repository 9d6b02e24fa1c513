"""How far a table has been read: ids, gaps between ids, greatest times (E-604, E-605).

What belongs here: the mark as a value and its arithmetic. What does not: reading and storing (``tail``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

#: With more gaps than this, reading the whole overlap again is cheaper than asking for each gap.
MOST_GAPS = 400
_COLUMNS = (
    "source_id, src_table, entity, strategy, safe_id, max_id, holes, time_marks, last_started_at, last_success_at, "
    "last_error, schema_fingerprint, rows_total"
)


@dataclass(frozen=True)
class Mark:
    """Progress of one mapped table.

    Attributes:
        max_id: Highest row id seen; None for tables without ids, or before the first cycle.
        safe_id: Highest id that was seen at least the overlap ago: nothing below can still appear (E-604).
        gaps: Inclusive ranges of ids in ``(safe_id, max_id]`` that were not there: transactions that may yet commit.
        seen: (instant, highest id then), as far back as the overlap reaches.
        times: Greatest instant seen per time column; never one from the future (E-306).
        columns: Types of the columns read, by name: the schema fingerprint (E-701).
        typed: How the rows were typed (``convert.typing_of``); under another mapping they must be read again.
        rows_total: Rows read so far.
    """

    table: str
    entity: str
    strategy: str = ""
    max_id: int | None = None
    safe_id: int | None = None
    gaps: tuple[tuple[int, int], ...] = ()
    seen: tuple[tuple[datetime, int], ...] = ()
    times: dict[str, datetime] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    typed: str = ""
    rows_total: int = 0

    def id_conditions(self, column: str) -> str:
        """SQL condition of the ids to read next: new ones, and those that were missing among the known ones."""
        if self.max_id is None:
            return "1 = 1"
        if len(self.gaps) > MOST_GAPS:
            return f"{column} > {self.safe_id if self.safe_id is not None else self.max_id}"
        parts = [f"{column} > {self.max_id}"]
        parts += [f"{column} = {a}" if a == b else f"{column} between {a} and {b}" for a, b in self.gaps]
        return f"({' or '.join(parts)})"

    def advanced(self, ids: Sequence[int], at: datetime, overlap: timedelta) -> Mark:
        """The mark after a cycle that began ``at`` and saw ``ids`` (any order, known ones included)."""
        ordered = sorted(set(ids))
        top = max([i for i in (self.max_id, ordered[-1] if ordered else None) if i is not None], default=None)
        if top is None:
            return self
        seen = [*self.seen, (at, top)]
        old = [entry for entry in seen if entry[0] <= at - overlap]
        safe = max([entry[1] for entry in old] + ([self.safe_id] if self.safe_id is not None else []), default=None)
        gaps = list(self.gaps)
        start = self.max_id + 1 if self.max_id is not None else (ordered[0] if ordered else top + 1)
        gaps += _gaps_between([i for i in ordered if i >= start], start)
        known = [i for i in ordered if i < start]
        gaps = _without(gaps, known)
        if safe is not None:
            gaps = [(max(a, safe + 1), b) for a, b in gaps if b > safe]
        recent = [entry for entry in seen if entry[0] > at - overlap]
        return replace(self, max_id=top, safe_id=safe, gaps=tuple(gaps), seen=tuple(old[-1:] + recent))

    def with_times(self, times: dict[str, datetime | None]) -> Mark:
        """The mark with later instants taken over."""
        merged = dict(self.times)
        for name, value in times.items():
            if value is not None and (name not in merged or value > merged[name]):
                merged[name] = value
        return replace(self, times=merged)


def _gaps_between(ids: Sequence[int], start: int) -> Iterable[tuple[int, int]]:
    expected = start
    for current in ids:
        if current > expected:
            yield (expected, current - 1)
        expected = current + 1


def _without(gaps: Iterable[tuple[int, int]], found: Sequence[int]) -> list[tuple[int, int]]:
    result = []
    for low, high in gaps:
        expected = low
        for current in (i for i in found if low <= i <= high):
            if current > expected:
                result.append((expected, current - 1))
            expected = current + 1
        if expected <= high:
            result.append((expected, high))
    return result


def load_marks(con: duckdb.DuckDBPyConnection, source_id: str) -> dict[tuple[str, str], Mark]:
    """Marks of a source by (table, entity)."""
    rows = con.execute(f"SELECT {_COLUMNS} FROM meta.extract_mark WHERE source_id = ?", [source_id]).fetchall()
    return {(row[1], row[2]): _from_row(row) for row in rows if row[9] is not None}


def _from_row(row: tuple[Any, ...]) -> Mark:
    ids = json.loads(row[6]) if row[6] else {}
    return Mark(
        table=row[1],
        entity=row[2],
        strategy=row[3] or "",
        safe_id=row[4],
        max_id=row[5],
        gaps=tuple((a, b) for a, b in ids.get("gaps", ())),
        seen=tuple((datetime.fromisoformat(t), i) for t, i in ids.get("seen", ())),
        times={name: datetime.fromisoformat(value) for name, value in json.loads(row[7] or "{}").items()},
        columns=json.loads(row[11] or "{}"),
        typed=ids.get("typed", ""),
        rows_total=row[12] or 0,
    )


def store_mark(con: duckdb.DuckDBPyConnection, source_id: str, mark: Mark, began: datetime) -> None:
    """Replace the mark of a table; in the transaction that writes its rows (E-602)."""
    ids = {"gaps": mark.gaps, "seen": [(t.isoformat(), i) for t, i in mark.seen], "typed": mark.typed}
    con.execute(
        "DELETE FROM meta.extract_mark WHERE source_id = ? AND src_table = ? AND entity = ?",
        [source_id, mark.table, mark.entity],
    )
    con.execute(
        f"INSERT INTO meta.extract_mark ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",
        [
            source_id, mark.table, mark.entity, mark.strategy, mark.safe_id, mark.max_id, json.dumps(ids),
            json.dumps({name: value.isoformat() for name, value in mark.times.items()}), began, began,
            json.dumps(mark.columns, sort_keys=True), mark.rows_total,
        ],
    )  # fmt: skip


def store_error(con: duckdb.DuckDBPyConnection, source_id: str, began: datetime, text: str, code: str) -> None:
    """Record a failed cycle and the word for its kind of error; marks and rows stay as they were (E-613)."""
    con.execute(
        "UPDATE meta.extract_mark SET last_started_at = ?, last_error = ? WHERE source_id = ?", [began, text, source_id]
    )
    con.execute("INSERT OR IGNORE INTO meta.source_state (source_id) VALUES (?)", [source_id])
    con.execute(
        "UPDATE meta.source_state SET last_error = ?, last_error_code = ?, last_error_at = ?, updated_at = ? "
        "WHERE source_id = ?",
        [text, code, began, began, source_id],
    )
