"""What is made of every published file of tasks once and kept in temporary files as long as a manifest names that file.

What belongs here: which files have one, making them newest first, doing without. What does not: what is in them (``key_texts``,
``list_rows``, ``row_facts``).

The temporary files have no name in the file system: they are gone when they are superseded and when the process ends,
however it ends.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from itertools import islice
from typing import Generic, TypeVar

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.serving import TASK

log = logging.getLogger(__name__)

#: Tasks of which something is remembered or kept, newest first; older files are opened by whoever asks.
MOST_TASKS = 16_000_000
#: Files of tasks that have one. Each may be four open files of the server (its text, the text's index, facts and rows of lists) and
#: two of the process that searches.
MOST_FILES = 200
#: Files of which a question may wait until it is made.
_FEW = 3


def newest_files(look: Look, most_tasks: int) -> dict[str, str]:
    """File → partition of the newest files that have so many tasks together, newest first."""
    found: dict[str, str] = {}
    tasks = 0
    for key, file in look.files(TASK).items():
        tasks += look.manifest.tables[TASK].partitions[key].rows
        if tasks > most_tasks:
            break
        found[file] = key
    return found


class Blocks:
    """A temporary file of the rows of a published file, in blocks of as many each, the last one of fewer."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        #: Where each block starts, and where the last one ends.
        self.starts = array("Q", [0])
        self.file: FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as this is known

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    @property
    def size(self) -> int:
        """Bytes."""
        return self.starts[-1]

    def add(self, blocks: Sequence[bytes]) -> None:
        """Append blocks. What is written at once lies together in memory: small parts take twice as long to search."""
        rest = memoryview(b"".join(blocks))
        while rest:
            rest = rest[self.file.write(rest) :]
        for block in blocks:
            self.starts.append(self.size + len(block))


Made = TypeVar("Made", bound=Blocks)


class Kept(Generic[Made]):
    """What was made of the files of one process; may be asked by any thread.

    Args:
        make: Makes it of a partition; None when that cannot be.
        most_tasks: It is made of files with so many tasks together, newest first.
    """

    def __init__(self, make: Callable[[Look, str], Made | None], most_tasks: int = MOST_TASKS) -> None:
        self._make = make
        self.most_tasks = most_tasks
        self._known: dict[str, Made | None] = {}
        self._lock = threading.Lock()
        self._is_through = False
        self.has_warned = False

    def make(self, look: Look) -> Iterator[None]:
        """Make what is lacking, newest first, a file at every step, and give up what no file needs any more; not in two threads.

        A disk that is full or cannot be written is logged once and tried again with the next call.
        """
        wanted = self._wanted(look)
        with self._lock:
            self._known = {file: made for file, made in self._known.items() if file in wanted}
        yield from self._add(look, wanted)
        self._is_through = wanted.keys() <= self._known.keys()

    def catch_up(self, look: Look) -> None:
        """Make the few that publications brought since ``make`` was through: every question would read their files otherwise."""
        wanted = self._wanted(look)
        if self._is_through and len(wanted.keys() - self._known.keys()) <= _FEW:
            for _ in self._add(look, wanted):
                pass

    def _wanted(self, look: Look) -> dict[str, str]:
        return dict(islice(newest_files(look, self.most_tasks).items(), MOST_FILES))

    def _add(self, look: Look, wanted: dict[str, str]) -> Iterator[None]:
        for file, key in wanted.items():
            if file in self._known:
                continue
            with self._lock:
                if file not in self._known:
                    try:
                        self._known = self._known | {file: self._make(look, key)}
                    except OSError as error:
                        if not self.has_warned:
                            log.warning("searches are slow, temporary files cannot be written: %s", error)
                        self.has_warned, self._is_through = True, False
                        return
            yield

    def known(self, file: str) -> Made | None:
        """What was made of a published file, None when nothing was."""
        return self._known.get(file)
