"""Percentiles of merged histograms, for ranges that are no stored bucket (M-453, M-454).

What belongs here: adding histograms and estimating percentiles from them. What does not: exact percentiles of stored
buckets, which SQL computes from raw executions (M-452).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal

#: Relative error of an estimate, and the ratio of neighbouring bucket borders that follows from it.
ERROR_BOUND = 0.01
GAMMA = (1 + ERROR_BOUND) / (1 - ERROR_BOUND)
#: Key of exact zeros; indexes are the other keys, as text.
ZERO = "zero"

Histogram = dict[str, int]


def index_of(value_ms: float) -> str:
    """Key of the bucket a value falls into.

    Args:
        value_ms: Milliseconds, not negative.

    Raises:
        ValueError: The value is negative.
    """
    if value_ms < 0:
        raise ValueError(f"negative value {value_ms}")
    return ZERO if value_ms == 0 else str(math.ceil(math.log(value_ms) / math.log(GAMMA)))


def merge(histograms: Iterable[str | Mapping[str, int] | None]) -> Histogram:
    """Add histograms as stored (JSON text) or parsed; None is empty."""
    total: Histogram = {}
    for stored in histograms:
        counts: Mapping[str, int] = json.loads(stored) if isinstance(stored, str) else stored or {}
        for key, count in counts.items():
            total[key] = total.get(key, 0) + count
    return total


def estimate_percentile(
    counts: Mapping[str, int], p: float, minimum: float | Decimal | None = None, maximum: float | Decimal | None = None
) -> Decimal | None:
    """Percentile of merged values, at most 1 % off (M-454).

    Args:
        counts: A merged histogram.
        p: 0 to 1.
        minimum: Exact smallest merged value in ms; the estimate is not below it.
        maximum: Exact largest merged value in ms; the estimate is not above it.

    Returns:
        Milliseconds with 2 decimals; None without values.
    """
    n = sum(counts.values())
    if n == 0:
        return None
    # As M-451: exact arithmetic on p, so that (n - 1) * 0.95 is never a hair beside a whole number.
    k = (n - 1) * Decimal(str(p))
    low = int(k)
    first, second = _order_statistic(counts, low), _order_statistic(counts, min(low + 1, n - 1))
    value = first + float(k - low) * (second - first)
    if minimum is not None:
        value = max(value, float(minimum))
    if maximum is not None:
        value = min(value, float(maximum))
    return Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _order_statistic(counts: Mapping[str, int], rank: int) -> float:
    """Representative value of the bucket that holds the value with the given 0-based rank."""
    ordered = sorted(counts, key=lambda key: -math.inf if key == ZERO else int(key))
    seen = 0
    for key in ordered:
        seen += counts[key]
        if rank < seen:
            return 0.0 if key == ZERO else 2 * GAMMA ** int(key) / (GAMMA + 1)
    raise ValueError(f"rank {rank} of {seen} values")
