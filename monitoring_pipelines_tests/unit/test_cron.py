"""Cron lines are due when Dagster's scheduler says so, in every zone and across clock changes."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.cron import Cron

ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "America/Santiago", "Asia/Kolkata")
#: Instants shortly before clocks change in one of the zones, and ordinary ones.
STARTS = [
    datetime(2025, 3, 9, 4), datetime(2025, 11, 2, 3), datetime(2025, 3, 29, 22), datetime(2025, 10, 25, 22),
    datetime(2025, 9, 6, 20), datetime(2025, 4, 5, 20), datetime(2024, 2, 28, 12), datetime(2025, 12, 31, 12),
]  # fmt: skip


def dagster_says(line: str, zone: str, start: datetime, count: int) -> list[datetime]:
    found = schedule_execution_time_iterator(start.replace(tzinfo=UTC).timestamp(), line, zone, True)
    later = (at.astimezone(UTC).replace(tzinfo=None) for at in found)
    return list(itertools.islice((at for at in later if at > start), count))


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    # Dagster's parser reads `0-0` in the weekday as every day.
    span = st.tuples(number, number).filter(lambda p: p[0] < p[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(2, max(2, (high - low) // 2)).map(lambda n: f"*/{n}")
    return st.one_of(st.just("*"), number.map(str), span, step, st.lists(number, min_size=2, max_size=3).map(
        lambda numbers: ",".join(str(n) for n in sorted(set(numbers)))))  # fmt: skip


#: Dagster reads `0-6` now as any day, now as a restriction.
WEEKDAY = field(0, 6).filter(lambda text: text != "0-6")


@settings(max_examples=150, deadline=None)
@given(
    parts=st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), WEEKDAY),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "Asia/Kolkata"]),
    start=st.sampled_from(STARTS),
)
def test_due_instants_are_those_of_the_scheduler(parts, zone, start):
    line = " ".join(parts)
    assert list(itertools.islice(Cron.parse(line).after(start, zone), 12)) == dagster_says(line, zone, start, 12)


@pytest.mark.parametrize(
    "line",
    [
        "*/15 * * * *",
        "0 * * * *",
        "0 2 * * *",
        "30 2 * * *",
        "30 1 * * *",
        "15,45 2 * * *",
        "*/30 1-3 * * *",
        "0 */2 * * 1-5",
    ],
)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("start", STARTS)
def test_usual_lines_across_clock_changes(line, zone, start):
    assert list(itertools.islice(Cron.parse(line).after(start, zone), 30)) == dagster_says(line, zone, start, 30)


@settings(max_examples=50, deadline=None)
@given(
    parts=st.tuples(field(0, 59), field(0, 23), st.just("*"), st.just("*"), field(0, 6)),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(STARTS),
    hours=st.integers(0, 80),
)
def test_previous_and_between_agree_with_after(parts, zone, start, hours):
    cron = Cron.parse(" ".join(parts))
    end = start + timedelta(hours=hours)
    due = cron.between(start, end, zone)
    assert due == sorted(set(due))
    assert all(start < at <= end for at in due)
    first = cron.next(start, zone)
    assert first == next(cron.after(start, zone))
    assert cron.previous(first + timedelta(seconds=1), zone) == first
    assert cron.previous(first, zone) <= start


def test_names_and_sunday_as_seven():
    assert Cron.parse("0 0 * jan,DEC sun").months == {1, 12}
    assert Cron.parse("0 0 * * 7").weekdays == Cron.parse("0 0 * * sun").weekdays == {0}


def test_a_line_that_is_never_due_ends():
    assert Cron.parse("0 0 30 2 *").next(datetime(2025, 1, 1), "UTC") is None
    assert Cron.parse("0 0 30 2 *").period(datetime(2025, 1, 1), "UTC") is None


def test_period_is_the_longest_pause_around_the_instant():
    friday = datetime(2025, 3, 7, 12, 30)
    assert Cron.parse("*/15 * * * *").period(friday, "UTC") == timedelta(minutes=15)
    assert Cron.parse("0 9-17 * * 1-5").period(datetime(2025, 3, 7, 20), "UTC") == timedelta(hours=64)


@pytest.mark.parametrize("line", ["* * * *", "60 * * * *", "* 24 * * *", "5-1 * * * *", "*/0 * * * *"])
def test_wrong_lines_are_refused(line):
    with pytest.raises(ValueError):
        Cron.parse(line)


def test_leap_days_are_found():
    """Dagster's iterator skips the first one; ours must not."""
    due = Cron.parse("0 0 29 2 *").between(datetime(2024, 1, 1), datetime(2033, 1, 1), "UTC")
    assert due == [datetime(2024, 2, 29), datetime(2028, 2, 29), datetime(2032, 2, 29)]
