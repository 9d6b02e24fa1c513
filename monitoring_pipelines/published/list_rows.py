"""Rows of tasks as lists show them, in temporary files from which each can be read alone.

What belongs here: making such a file and reading rows by their numbers. What does not: which rows (``tasks``).

Published files are read by the row group: fifty rows that lie apart mean unpacking fifty times sixteen thousand.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import Any

from monitoring_pipelines.published.kept import Blocks
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.serving import ROW_GROUP, TASK
from monitoring_pipelines.warehouse.task_summaries import LISTED

#: Rows that are compressed together.
_BLOCK = 32
#: Types that JSON has, and the one that is text there.
_PLAIN, _INSTANT = {"VARCHAR", "BOOLEAN", "INTEGER", "BIGINT"}, "TIMESTAMP"


class ListRows(Blocks):
    """Rows of one published file."""

    def __init__(self, rows: int, instants: list[str]) -> None:
        super().__init__(rows)
        self._instants = instants

    def read(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """The rows with these numbers, which ascend."""
        from orjson import loads

        found = []
        for block, some in groupby(numbers, lambda number: number // _BLOCK):
            start, end = self.starts[block], self.starts[block + 1]
            lines = zlib.decompress(os.pread(self.file.fileno(), end - start, start)).split(b"\n")
            for number in some:
                values = loads(lines[number % _BLOCK])
                if values[0] != number:  # lines of a block have no order that could be relied on
                    values = next(one for one in map(loads, lines) if one[0] == number)
                row = dict(zip(LISTED, values[1:], strict=True))
                for name in self._instants:
                    if row[name] is not None:
                        row[name] = datetime.fromisoformat(row[name])
                found.append(row)
        return found


def list_rows(look: Look, key: str) -> ListRows | None:
    """The rows of a partition; None when a column has a type that is neither of JSON nor an instant."""
    kinds = dict(look.manifest.tables[TASK].columns)
    if not {kinds[name] for name in LISTED} <= {*_PLAIN, _INSTANT}:
        return None
    rows = look.manifest.tables[TASK].partitions[key].rows
    made = ListRows(rows, [name for name in LISTED if kinds[name] == _INSTANT])
    numbered = look.partition(TASK, [key], "file_row_number", LISTED)
    for first in range(0, rows, ROW_GROUP):
        blocks = look.tuples(
            f"SELECT file_row_number // {_BLOCK} AS block, "
            f"encode(string_agg(json_array(file_row_number, {', '.join(LISTED)})::VARCHAR, chr(10))) FROM {numbered} "
            f"WHERE file_row_number >= {first} AND file_row_number < {first + ROW_GROUP} GROUP BY block ORDER BY block"
        )
        made.add([zlib.compress(block, 1) for _, block in blocks])
    return made
