"""Processes that stay small: no pandas where it is not used, and memory that was freed goes back to the system.

What belongs here: these two workarounds. What does not: anything else.

DuckDB imports pandas (and with it NumPy and PyArrow) at the first query with parameters, only to see whether a value is
one of theirs. That costs 0.7 CPU-seconds in every run, a third of what a minute tick may use.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent:
    """An import finder that says pandas is not installed; everything else is left to the finders after it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this block (monitoring_pipelines.lean)", name=name)
        return None


_guard = threading.Lock()
_depth = 0


@contextmanager
def without_pandas() -> Iterator[None]:
    """Make pandas look absent inside the block, unless it is imported already; blocks nest and may overlap.

    Use it around work that needs pandas in no thread of the process.
    """
    global _depth
    with _guard:
        _depth += 1
        if _depth == 1:
            sys.meta_path.insert(0, _Absent)
    try:
        yield
    finally:
        with _guard:
            _depth -= 1
            if _depth == 0:
                sys.meta_path.remove(_Absent)


#: Parameters of glibc's ``mallopt``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 256 * 1024
#: Settings of jemalloc inside DuckDB: one area for all threads, whose free parts serve smaller needs too; what nobody used
#: again for a tenth of a second is returned.
_OF_DUCKDB = "narenas:1,lg_extent_max_active_fit:10,lg_tcache_max:14,dirty_decay_ms:100,muzzy_decay_ms:0"
_DUCKDB = "DUCKDB_JE_MALLOC_CONF"


def give_memory_back() -> None:
    """Make the allocators of this process return what was freed; call it before threads start and DuckDB is loaded.

    glibc gives every thread an area of its own and keeps what was freed there: a server that answers large questions in
    many threads grows to several times what it uses. So does the allocator inside DuckDB, which reads its settings once,
    when it is loaded; they are not for processes that are started later. Without these allocators nothing is done.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE)):
            mallopt(parameter, value)
    if _DUCKDB not in os.environ:
        os.environ[_DUCKDB] = _OF_DUCKDB
        import duckdb

        del os.environ[_DUCKDB]
        duckdb.default_connection().close()  # nobody uses it: 2 MB and a thread


def trim() -> None:
    """Return what was freed below memory that is still in use; some milliseconds."""
    malloc_trim = getattr(_libc(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
