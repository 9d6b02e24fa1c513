"""Change point and split: the worked examples, ties, and independence of the order of rows (C-108, C-109)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.quality.change import Point, change_point, difference


def points(rates):
    return [Point(number + 1, 100, rate) for number, rate in enumerate(rates)]


def test_the_example_of_the_specification():
    found = change_point(points([98, 99, 97, 100, 40, 35, 42]))
    assert (found.first, found.before, found.after, found.direction) == (5, Fraction(197, 2), Fraction(39), "decline")
    assert found.as_dict() == {
        "first": 5, "before_rate": 98.5, "after_rate": 39.0, "difference": -59.5, "direction": "decline",
    }  # fmt: skip


@pytest.mark.parametrize("rates", [[], [100, 0], [100, 90, 85], [50, 50, 50]])
def test_nothing_is_reported_without_enough_days_or_difference(rates):
    assert change_point(points(rates)) is None


def test_a_difference_of_exactly_the_limit_is_reported():
    assert change_point(points([100, 100, 80, 80])).first == 3
    assert change_point(points([100, 100, 81, 80])) is None


def test_the_earliest_of_equal_splits_wins():
    assert change_point(points([100, 50, 0])).first == 2


def test_a_rise_is_named_so():
    assert change_point(points([10, 10, 90])).direction == "rise"


def test_days_without_tasks_are_left_out():
    series = [Point("a", 10, 10), Point("empty", 0, 0), Point("b", 10, 10), Point("c", 10, 0)]
    assert change_point(series).first == "c"


@given(st.lists(st.integers(0, 100), min_size=3, max_size=12))
def test_no_other_split_explains_more(rates):
    found = change_point(points(rates), 0)
    n = len(rates)

    def score(k):
        before, after = Fraction(sum(rates[:k]), k), Fraction(sum(rates[k:]), n - k)
        return Fraction(k * (n - k), n) * (before - after) ** 2

    assert found.first - 1 == max(range(1, n), key=lambda k: (score(k), -k))


def test_split_of_the_specification():
    assert difference((240, 250), (33, 150)) == -74
    assert difference((0, 0), (33, 150)) is None
    assert difference((240, 250), (0, 0)) is None
