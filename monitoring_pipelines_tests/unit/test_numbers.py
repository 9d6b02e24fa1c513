"""Quick ways to round and to write numbers give what the exact and slow ones give."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.api.answers import to_json
from monitoring_pipelines.published.endpoints import _exact_sum
from monitoring_pipelines.published.jobs import two
from monitoring_pipelines.severity import quotient, rounded

NUMBERS = st.integers(-(10**12), 10**12) | st.floats(-1e12, 1e12) | st.decimals(-(10**12), 10**12, places=3)


@given(NUMBERS, NUMBERS.filter(lambda number: abs(number) > 0.001), st.integers(0, 6), st.sampled_from([1, 100]))
def test_a_quotient_in_integers_is_the_rounded_fraction(
    top: float | Decimal, bottom: float | Decimal, digits: int, factor: int
) -> None:
    exact = factor * Fraction(top) / Fraction(bottom)
    assert quotient(top, bottom, digits, factor) == rounded(exact, digits)


@given(
    st.floats(-1e10, 1e10)
    | st.integers(0, 10**9).map(lambda n: n / 1000)
    | st.integers(0, 10**9).map(lambda n: n / 200)
)
def test_a_duration_is_rounded_as_its_decimals_say(value: float) -> None:
    assert two(value) == float(Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


@given(st.lists(st.decimals(-(10**11), 10**11, places=3), min_size=1))
def test_a_sum_of_floats_is_that_of_the_decimals_they_stand_for(values: list[Decimal]) -> None:
    assert _exact_sum([float(value) for value in values], 3) == sum(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 2, 1, 10), '"2026-02-01T10:00:00Z"'),
        (datetime(2026, 2, 1, 10, 0, 0, 120), '"2026-02-01T10:00:00.000120Z"'),
        (datetime(2026, 2, 1, tzinfo=UTC), '"2026-02-01T00:00:00Z"'),
        (date(2026, 2, 1), '"2026-02-01"'),
        (Decimal("3.000"), "3.0"),
        (Decimal("12"), "12"),
        (Decimal("0.10"), "0.1"),
        ([float("nan"), float("inf"), None, True], "[null,null,null,true]"),
        ({"b", "a"}, '["a","b"]'),
        (MappingProxyType({"数": "据"}), '{"数":"据"}'),
        ({1: 2**70, "at": date(2026, 2, 1)}, '{"1":1180591620717411303424,"at":"2026-02-01"}'),
    ],
)  # fmt: skip
def test_stored_values_have_one_form_in_json(value: object, text: str) -> None:
    assert to_json(value).decode() == text
    json.loads(to_json(value))


def test_what_has_no_form_in_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        to_json({"a": object()})
