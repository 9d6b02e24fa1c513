"""Keys and remote ids of published tasks as plain text in temporary files, for searches that look at all of them.

What belongs here: making the text of a file of tasks, which row a place of it belongs to. What does not: finding places
(``searches``), what a list shows, filters besides the text (``tasks``).

Every row of a published file is one line in the same order, a line end before it: key and remote id in small letters, nothing when
lists do not show the row.
"""

from __future__ import annotations

import os
from bisect import bisect

from monitoring_pipelines.published.kept import Blocks
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import VISIBLE

#: Rows between two places that are known without counting lines.
_BLOCK = 1024
#: Rows that are read by one statement: the text of a whole file would be several times its size in memory.
_ROWS_AT_ONCE = 64 * _BLOCK
_END, _BETWEEN = b"\n", b"\x1f"
_LINE = f"CASE WHEN {VISIBLE} THEN chr(10) || lower(task_key) || coalesce(chr({_BETWEEN[0]}) || lower(remote_id), '') ELSE chr(10) END"


class Text(Blocks):
    """The text of one published file."""

    def row(self, place: int) -> int:
        """The number of the row whose line holds ``place``."""
        block = bisect(self.starts, place) - 1
        lines = os.pread(self.file.fileno(), place - self.starts[block] + 1, self.starts[block])
        return block * _BLOCK + lines.count(_END) - 1


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
