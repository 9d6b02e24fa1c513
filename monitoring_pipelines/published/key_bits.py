"""Which files may hold a task, told from a byte a task kept in memory instead of opening every file.

What belongs here: making the bits of a file and asking them. What does not: reading the task (``tasks``).

A file's bits are two Bloom filters with one hash each: each task sets one bit of each, and a task whose two bits are not both set
is not in the file. Files never change, so their bits hold for as long as a manifest names them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from monitoring_pipelines.published.kept import MOST_TASKS, newest_files
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import PLACE

#: Bits of each of the two filters a task: one file in twenty is opened in vain.
_BITS = 4
#: Fewest and most bits of a filter.
_LEAST, _MOST = 64, 1 << 29
#: Two numbers of a bit come from two halves of a hash.
_HALF = 32


class _Bits(NamedTuple):
    """Both filters of one file, each with ``size`` bits."""

    size: int
    low: bytes
    high: bytes

    def may_hold(self, number: int) -> bool:
        """False only when no task with this hash is in the file."""
        return _is_set(self.low, number % self.size) and _is_set(self.high, (number >> _HALF) % self.size)


def _is_set(bits: bytes, place: int) -> bool:
    return bool(bits[place >> 3] & (128 >> (place & 7)))


class KeyBits:
    """Bits of the files of one process; shared by threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Bits] = {}
        self._lock = threading.Lock()

    def read(self, look: Look) -> dict[str, _Bits]:
        """Bits of the files of this version by name; files that are new are read once."""
        wanted = newest_files(look, MOST_TASKS)  # a byte a task
        if not wanted.keys() <= self._known.keys():
            with self._lock:
                known = self._known
                self._known = {file: known.get(file) or _bits_of(look, key) for file, key in wanted.items()}
        return self._known

    def partitions(self, look: Look, numbers: Iterable[int]) -> list[str]:
        """Partitions that may hold a task with one of these hashes, newest first."""
        known, numbers = self.read(look), list(numbers)
        return [
            key
            for key, file in look.files(TASK).items()
            if (bits := known.get(file)) is None or any(bits.may_hold(number) for number in numbers)
        ]


def _bits_of(look: Look, key: str) -> _Bits:
    size = min(_MOST, max(_LEAST, -(-_BITS * look.manifest.tables[TASK].partitions[key].rows // 8) * 8))
    last = size - 1
    low, high = look.tuples(
        f"SELECT bitstring_agg((task_hash % {size})::INTEGER, 0, {last})::BLOB, "
        f"bitstring_agg(((task_hash >> {_HALF}) % {size})::INTEGER, 0, {last})::BLOB FROM {look.summary(PLACE, [key])}"
    )[0]
    return _Bits(size, low, high)
