"""Patterns people write, matched in time that grows with the text only: RE2, as Alertmanager has it, not Python's ``re``.

What belongs here: whether a pattern is one, and whether it means a text. What does not: what follows from it.

Python's engine tries ``(a+)+$`` on thirty characters for minutes and cannot be stopped; one silence would hold up all alerts.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_lock = threading.Lock()


def problem_of(pattern: str) -> str | None:
    """What is wrong with a pattern, None when nothing is."""
    import duckdb

    try:
        means(pattern, "")
    except duckdb.Error as error:
        return str(error).removeprefix("Invalid Input Error: ").splitlines()[0]
    except UnicodeEncodeError:
        return "it has characters that are none"
    return None


@lru_cache(maxsize=20_000)
def means(pattern: str, text: str) -> bool:
    """Whether ``pattern`` (without a problem) matches the whole ``text``."""
    from monitoring_pipelines.published.reader import with_values

    with _lock:
        row = _engine().execute(with_values("SELECT regexp_full_match(?, ?)", (text, pattern))).fetchone()
    return bool(row and row[0])


@lru_cache(maxsize=1)
def _engine() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "64MB"})
