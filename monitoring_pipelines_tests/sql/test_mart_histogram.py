"""Merged histograms estimate percentiles within one percent (M-453, M-454)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.warehouse.histogram import ZERO, estimate_percentile, index_of, merge
from monitoring_pipelines_tests.sql.oracle_mart import histogram, percentile

SPEC = [70, 95, 150, 220, 310, 640]


def test_example_of_the_specification() -> None:
    """{70, 95, 150, 220, 310, 640}: p95 from the histogram is 561.20 (section 5)."""
    counts = merge([{index_of(value): 1} for value in SPEC])
    assert estimate_percentile(counts, 0.95, 70, 640) == Decimal("561.20")


def test_merging_adds_counts_of_stored_json_and_skips_missing_ones() -> None:
    """M-453: merging is adding counts."""
    assert merge(['{"zero":1,"213":2}', None, {"213": 3}]) == {ZERO: 1, "213": 5}


def test_zeros_and_no_values() -> None:
    """Exact zeros stay 0; nothing merged is no percentile."""
    assert estimate_percentile({ZERO: 3}, 0.5) == Decimal("0.00")
    assert estimate_percentile({}, 0.5) is None


def test_estimate_is_clamped_to_the_exact_extremes() -> None:
    """M-454: a single value is returned exactly."""
    assert estimate_percentile({index_of(100): 1}, 0.99, 100, 100) == Decimal("100.00")


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=40), st.sampled_from([0.5, 0.95, 0.99]))
def test_error_is_at_most_one_percent(values: list[int], p: float) -> None:
    """M-454, against the exact percentile; half a cent is the rounding of both."""
    counts = merge([histogram([Fraction(v) for v in values])])
    exact = percentile([Fraction(v) for v in values], Fraction(str(p)))
    estimate = estimate_percentile(counts, p, min(values), max(values))
    assert exact is not None
    assert estimate is not None
    assert abs(estimate - exact) <= exact * Decimal("0.01") + Decimal("0.02")
