"""What rows that are gone had added to a counter, as the published files tell it (S-303).

What belongs here: reading ``meta.counter_past``. What does not: filling it (``warehouse.counters``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.warehouse.counters import TABLE


@dataclass
class Past:
    """Amounts by labels; None where what was removed did not tell. Rows before ``until`` are all in them."""

    amounts: dict[tuple[str, ...], Decimal | None] = field(default_factory=dict)
    until: datetime | None = None


def past(look: Look, counter: str, source_id: str) -> Past:
    """What is gone of one counter of one source."""
    return look.once(("counters past",), [TABLE], lambda: _read(look)).get((counter, source_id)) or Past()


def plus(one: Any, other: Any) -> Any:
    """The sum of what is known; None when neither is."""
    return one if other is None else other if one is None else one + other


def _read(look: Look) -> dict[tuple[str, str], Past]:
    found: dict[tuple[str, str], Past] = {}
    if not look.has(TABLE):
        return found
    for counter, source, labels, amount, until in look.tuples(
        f"SELECT counter, source_id, labels, amount, until FROM {look.table(TABLE)}"
    ):
        known = found.setdefault((counter, source), Past())
        known.amounts[tuple(labels)] = amount
        if until is not None:
            known.until = max(until, known.until or until)
    return found
