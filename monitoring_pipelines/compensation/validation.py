"""Whether proposed rows may be inserted: the expectation suite ``repair_rows`` over them (R-211).

What belongs here: what the output table allows, in the suite's terms, and its verdict by task. What does not: the
expectations themselves (``quality.suites``). At planning and again before a run's first insert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import APPLY_TIME, ProposedRow, sha256_of
from monitoring_pipelines.compensation.rows import RowRules

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.target import Target
    from monitoring_pipelines.quality.suites import TargetColumns

#: Rows judged at once; the suite costs more per call than per row.
CHUNK_ROWS = 2_000
_LONGEST_REASON = 500
#: Verdicts of this process by the hash of rows and rules.
_known: dict[str, dict[int, list[str]]] = {}
_MOST_KNOWN = 64


def refused_tasks(rows: Iterable[tuple[str, ProposedRow]], target: Target, rules: RowRules) -> dict[str, str]:
    """Tasks of which at least one row may not be inserted: then none of it is (R-211).

    Args:
        rows: Task key and proposed row, all rows of a task.
        target: The output table.
        rules: What the configuration allows.

    Returns:
        Task key → why.
    """
    from monitoring_pipelines.quality.suites import TargetColumns

    pairs = list(rows)
    lengths = _lengths(target)
    key_column = next((name for name, word in target.insert.items() if word == "task_key"), None)
    allowed = TargetColumns(lengths, target.columns[key_column].max_length if key_column else None, rules.media_types)
    reasons: dict[str, list[str]] = {}
    for chunk in _chunks(pairs):
        wrong = _verdict([_judged(key, row, target) for key, row in chunk], allowed)
        for number, sentences in wrong.items():
            reasons.setdefault(chunk[number][0], []).extend(sentences)
    return {key: "; ".join(dict.fromkeys(found))[:_LONGEST_REASON] for key, found in reasons.items()}


def _verdict(rows: list[dict[str, Any]], allowed: TargetColumns) -> dict[int, list[str]]:
    """What the suite says; equal rows under equal rules are judged once per process, a resume has just seen them."""
    from monitoring_pipelines.quality.expectations import validate_repair_rows

    key = sha256_of([rows, dict(allowed.lengths), allowed.task_key_length, allowed.media_types])
    if key not in _known:
        while len(_known) >= _MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[key] = validate_repair_rows(rows, allowed)
    return _known[key]


def _chunks(pairs: Sequence[tuple[str, ProposedRow]]) -> Iterable[Sequence[tuple[str, ProposedRow]]]:
    """Pieces of about ``CHUNK_ROWS`` rows that keep the rows of a task together."""
    start = 0
    while start < len(pairs):
        end = min(start + CHUNK_ROWS, len(pairs))
        while end < len(pairs) and pairs[end][0] == pairs[end - 1][0]:
            end += 1
        yield pairs[start:end]
        start = end


def _lengths(target: Target) -> dict[str, int | None]:
    """Limits of the text columns that are filled; those of the TEXT family count bytes."""
    limits: dict[str, int | None] = {}
    for name in target.insert:
        column = target.columns[name]
        if column.max_length is not None:
            limits[f"column {name}"] = column.max_length
        if column.max_bytes is not None:
            limits[f"bytes of column {name}"] = column.max_bytes
    return limits


def _judged(task_key: str, row: ProposedRow, target: Target) -> dict[str, Any]:
    """A row as the suite sees it: unified values, and what each text column would get."""
    judged: dict[str, Any] = {
        "task_key": task_key, "natural_key": row.natural_key, "uri": row.uri, "media_type": row.media_type,
        "size_bytes": row.size_bytes,
    }  # fmt: skip
    for name, value in row.values.items():
        if isinstance(value, str) and value != APPLY_TIME:
            judged[f"column {name}"] = value
            if target.columns[name].max_bytes is not None:
                # One character per byte, so that lengths of characters are lengths of bytes.
                judged[f"bytes of column {name}"] = value.encode().decode("latin-1")
    return judged
