"""Keys and remote ids of published tasks as plain text in temporary files, for searches that look at all of them.

What belongs here: making the text of a file of tasks and having its index made, which row a place of it belongs to. What does not:
finding places (``searches``), what a list shows, filters besides the text (``tasks``).

Every row of a published file is one line in the same order, a line end before it: key and remote id in small letters, nothing when
lists do not show the row.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from bisect import bisect
from collections.abc import Iterator
from io import FileIO

from monitoring_pipelines.published import gram_index
from monitoring_pipelines.published.kept import Blocks, Kept, newest_files
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.searcher import ROW, Known
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import VISIBLE

log = logging.getLogger(__name__)

#: Rows of a text from which on it has an index: smaller ones are looked through as fast.
_INDEXED = 1 << 15
#: Seconds within which an index is made, or else not; a large one takes two.
_PATIENCE_S = 120
#: Rows between two places that are known without counting lines.
_BLOCK = 1024
#: Rows that are read by one statement: the text of a whole file would be several times its size in memory.
_ROWS_AT_ONCE = 64 * _BLOCK
_END, _BETWEEN = b"\n", b"\x1f"
_LINE = f"CASE WHEN {VISIBLE} THEN chr(10) || lower(task_key) || coalesce(chr({_BETWEEN[0]}) || lower(remote_id), '') ELSE chr(10) END"


class Text(Blocks):
    """The text of one published file.

    Attributes:
        index_file: Its index, when it is made.
    """

    index_file: FileIO | None = None
    _index: gram_index.GramIndex | None = None

    def __del__(self) -> None:
        super().__del__()
        if self.index_file is not None:
            self.index_file.close()

    @property
    def known(self) -> Known:
        """What a search in this process needs."""
        return Known(self.file.fileno(), self.size, self._index)

    def make_index(self) -> None:
        """Make the index, in a process that gives way to answers.

        Raises:
            OSError: It cannot be started or could not make it; the reason.
        """
        file: FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the text is
        files = self.file.fileno(), file.fileno()
        command = [sys.executable, "-m", gram_index.__name__, str(files[0]), str(self.size), str(files[1])]
        try:
            subprocess.run(  # noqa: S603 - a fixed command of this product
                command,
                pass_fds=files,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=True,
                timeout=_PATIENCE_S,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"not made within {_PATIENCE_S} s") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines()
            raise OSError(lines[-1] if lines else f"ended with {error.returncode}") from error
        self._index = gram_index.GramIndex(file.fileno(), self.file.fileno())
        self.index_file = file

    def row(self, place: int) -> int:
        """The number of the row whose line holds a place, or that a place of an index names."""
        if place & ROW:
            return place ^ ROW
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


def index(texts: Kept[Text], look: Look) -> Iterator[None]:
    """Make the indexes that large texts lack, newest first, one at every step.

    When one cannot be made that is logged once, the others are left too, and the next call tries again.
    """
    for file in newest_files(look, texts.most_tasks):
        text = texts.known(file)
        if text is None or text.rows < _INDEXED or text.index_file is not None:
            continue
        try:
            text.make_index()
        except OSError as error:
            if not texts.has_warned:
                log.warning("searches are slower, the index of a text cannot be made: %s", error)
            texts.has_warned = True
            return
        yield
