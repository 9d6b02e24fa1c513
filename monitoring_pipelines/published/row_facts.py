"""What lists filter rows of published tasks by, in temporary files from which any row's can be read.

What belongs here: making such a file, telling rows apart by it. What does not: which filter (``tasks``), what a list shows
(``list_rows``).

Facts of a row are its source, endpoint, status, the source's own word for that, and whether it has an output. Each combination that
occurs in a file has a number, two bytes a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from typing import Any, NamedTuple

from monitoring_pipelines.published.kept import Blocks
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.serving import TASK

#: Rows that are read by one statement.
_ROWS_AT_ONCE = 1 << 16
_MOST = 1 << 16


class Facts(NamedTuple):
    """What a filter decides by."""

    source_id: str
    endpoint: str
    status: str
    raw_status: str | None
    #: None when it is unknown.
    with_output: bool | None


class RowFacts(Blocks):
    """Facts of the rows of one published file.

    Attributes:
        known: Combinations that occur in it, by number.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.known: list[Facts] = []

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """Numbers of the combinations of these rows."""
        if not rows:
            return []
        # Mapped for a moment: reading what lies between rows costs ten times as much, a call for each row its turn at the interpreter.
        with (
            mmap(self.file.fileno(), self.size, access=ACCESS_READ) as mapped,
            memoryview(mapped) as plain,
            plain.cast("H") as known,
        ):
            return [known[row] for row in rows]


def row_facts(look: Look, key: str) -> RowFacts | None:
    """Facts of the rows of a partition; None when there are more combinations than numbers."""
    rows = look.manifest.tables[TASK].partitions[key].rows
    made = RowFacts(rows)
    numbers: dict[Facts, int] = {}
    columns = ("source_id", "endpoint", "status", "raw_status", "outputs")
    numbered = look.partition(TASK, [key], "file_row_number", columns)
    for first in range(0, rows, _ROWS_AT_ONCE):
        part = array("H", bytes(2 * min(_ROWS_AT_ONCE, rows - first)))
        for *facts, some in look.tuples(
            f"SELECT source_id, endpoint, status, raw_status, outputs > 0, list(file_row_number) FROM {numbered} "
            f"WHERE file_row_number >= {first} AND file_row_number < {first + _ROWS_AT_ONCE} GROUP BY ALL"
        ):
            number = numbers.setdefault(_shared(*facts), len(numbers))
            if number >= _MOST:
                return None
            for row in some:
                part[row - first] = number
        made.add([part.tobytes()])
    made.known = list(numbers)
    return made


@lru_cache(maxsize=_MOST)
def _shared(*facts: Any) -> Facts:
    """A combination that all files have as the same object."""
    return Facts._make(facts)
