"""Due times become exactly one row each, or one summary, whatever happened to the scheduler (C-021 to C-023)."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from monitoring_pipelines.quality.calendar import LATE, SINGLE_WITHIN, Missed, is_too_late, missed

NOW = datetime(2025, 3, 10, 12, 0)
MINUTES = st.lists(st.integers(0, 4000), unique=True).map(lambda ns: [NOW - timedelta(minutes=n) for n in ns])


def test_a_run_may_start_five_minutes_late_and_not_later():
    assert not is_too_late(NOW - LATE, NOW)
    assert is_too_late(NOW - LATE - timedelta(microseconds=1), NOW)


def test_downtime_over_a_night_is_one_row_per_due_time():
    due = [NOW - timedelta(hours=n) for n in range(1, 10)]
    assert missed(due, {due[3]}, NOW) == [Missed(at) for at in sorted(due) if at != due[3]]


def test_what_is_older_than_a_day_is_one_summary():
    """C-023: exactly 24 h old still has a row of its own."""
    due = [NOW - timedelta(hours=n) for n in range(1, 60)]
    rows = missed(due, (), NOW)
    assert rows[0] == Missed(NOW - timedelta(hours=25), 35)
    assert [row.scheduled_at for row in rows[1:]] == [NOW - timedelta(hours=n) for n in range(24, 0, -1)]


@given(due=MINUTES, handled=MINUTES, order=st.randoms())
def test_every_lost_due_time_is_counted_once_in_any_order(due, handled, order):
    rows = missed(due, handled, NOW)
    lost = {at for at in due if at < NOW - LATE and at not in handled}
    assert sum(row.count for row in rows) == len(lost)
    assert {row.scheduled_at for row in rows} <= lost
    assert all(row.count == 1 for row in rows if NOW - row.scheduled_at <= SINGLE_WITHIN)
    shuffled = list(due)
    order.shuffle(shuffled)
    assert missed(shuffled, handled, NOW) == rows
