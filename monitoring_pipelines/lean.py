"""Keeping pandas out of processes that do not use it.

What belongs here: the one workaround. What does not: anything else.

DuckDB imports pandas (and with it NumPy and PyArrow) at the first query with parameters, only to see whether a value is
one of theirs. That costs 0.7 CPU-seconds in every run, a third of what a minute tick may use.
"""

from __future__ import annotations

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
