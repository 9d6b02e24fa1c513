"""Slopes and rates are exact, and their examples come out to the last digit (C-441, C-450)."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.alerts.rules.trend import rate, slope, trend
from monitoring_pipelines.severity import rounded

START = datetime(2026, 2, 1)
SLOW, RAPID = Fraction(1, 5), Fraction(1)


def points(values: list[float], step_s: float) -> list[tuple[datetime, Fraction]]:
    return [(START + timedelta(seconds=n * step_s), Fraction(str(v))) for n, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "expected", "name"),
    [
        ([20, 24, 25, 31, 33, 38, 44, 47, 52, 60], 4.303, "rapidly_increasing"),
        ([12, 12, 13, 13, 14, 14, 15, 15, 16, 16], 0.485, "slowly_increasing"),
        ([60, 52, 47, 44, 38, 33, 31, 25, 24, 20], -4.303, "rapidly_decreasing"),
        ([16, 16, 15, 15, 14, 14, 13, 13, 12, 12], -0.485, "slowly_decreasing"),
        ([7] * 10, 0.0, "stable"),
    ],
)
def test_examples_of_trends(values, expected, name):
    found = trend(values, SLOW, RAPID)
    assert (rounded(found.slope, 3), found.name) == (expected, name)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Fraction(1), "slowly_increasing"), (Fraction(101, 100), "rapidly_increasing"),
        (Fraction(1, 5), "slowly_increasing"), (Fraction(199, 1000), "stable"), (Fraction(-1, 5), "slowly_decreasing"),
        (Fraction(-1), "slowly_decreasing"), (Fraction(-199, 1000), "stable"),
    ],
)  # fmt: skip
def test_borders_of_trends_are_exact(step, name):
    assert trend([step * n for n in range(10)], SLOW, RAPID).name == name


def test_a_trend_needs_ten_samples_and_takes_the_last_ten():
    assert trend(list(range(9)), SLOW, RAPID).name == "insufficient_data"
    assert trend([1000, *([5] * 10)], SLOW, RAPID).name == "stable"


@given(st.lists(st.integers(-(10**12), 10**12), min_size=2, max_size=40))
def test_the_slope_is_that_of_least_squares(values):
    expected = np.polyfit(range(len(values)), values, 1)[0]
    # The peer's floats lose the digits in which large values differ.
    assert float(slope(values)) == pytest.approx(expected, rel=1e-6, abs=1e-3 + 1e-13 * max(map(abs, values)))


def test_a_counter_growing_700_per_70_seconds_has_a_rate_of_exactly_10():
    counted = points([700 * n for n in range(9)], 70)
    assert rate(counted, counted[-1][0]) == 10


def test_a_restart_counts_from_zero():
    counted = points([500, 620, 40, 100, 160, 250], 60)
    assert rate(counted, counted[-1][0]) * 300 == 370


def test_with_less_history_the_span_since_the_first_sample_counts():
    assert rate(points([100, 130], 15), START + timedelta(seconds=15)) == 2
    assert rate(points([100], 15), START) is None
    assert rate([], START) is None


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=30), st.integers(1, 100))
def test_a_rate_does_not_depend_on_how_a_steady_counter_is_sampled(increments, step_s):
    """Over the whole window the growth per second is what the increments say."""
    values = [0]
    for step in increments:
        values.append(values[-1] + step)
    counted = points(values, step_s)
    window = min(300, step_s * len(increments))
    whole, part = divmod(window, step_s)
    expected = Fraction(sum(increments[-whole:])) if whole else Fraction(0)
    if part:
        expected += Fraction(increments[-whole - 1] * part, step_s)
    assert rate(counted, counted[-1][0]) == expected / window
