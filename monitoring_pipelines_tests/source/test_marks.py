"""Marks: which ids a cycle asks for again (E-604), whatever the order in which transactions commit."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.source.marks import MOST_GAPS, Mark

START = datetime(2026, 1, 1)
OVERLAP = timedelta(seconds=600)


def _matches(condition: str, ident: int) -> bool:
    return bool(eval(_python(condition), {"id": ident}))


def _python(condition: str) -> str:
    text = re.sub(r"id between (\d+) and (\d+)", r"(\1 <= id <= \2)", condition)
    return re.sub(r"id = (\d+)", r"id == \1", text)


def test_new_mark_reads_everything() -> None:
    """Before the first cycle no id is excluded."""
    assert Mark("t", "task_event").id_conditions("id") == "1 = 1"


def test_missing_ids_are_asked_for_until_the_overlap_has_passed() -> None:
    """E-604: ids that become visible late are read; after the overlap they no longer can appear."""
    mark = Mark("t", "task_event", max_id=0).advanced([1, 2, 5], START, OVERLAP)
    assert mark.gaps == ((3, 4),)
    assert mark.id_conditions("id") == "(id > 5 or id between 3 and 4)"
    mark = mark.advanced([4], START + timedelta(minutes=1), OVERLAP)
    assert mark.gaps == ((3, 3),)
    mark = mark.advanced([6], START + timedelta(minutes=12), OVERLAP)
    assert mark.gaps == ()
    assert mark.safe_id == 5


def test_too_many_gaps_read_the_overlap_again() -> None:
    """Servers that hand out every second id do not make statements without end."""
    mark = Mark("t", "task_event", max_id=0, safe_id=0).advanced(range(1, 4 * MOST_GAPS, 2), START, OVERLAP)
    assert mark.id_conditions("id") == "id > 0"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.permutations(range(1, 25)), st.lists(st.integers(1, 6), min_size=8, max_size=8))
def test_every_id_is_read_exactly_when_it_becomes_visible(order: list[int], sizes: list[int]) -> None:
    """E-604: whatever order transactions commit in, each id is asked for in the cycle after its commit."""
    mark = Mark("t", "task_event", max_id=0)
    visible: set[int] = set()
    read: set[int] = set()
    rest = list(order)
    for number, size in enumerate(sizes):
        visible.update(rest[:size])
        rest = rest[size:]
        condition = mark.id_conditions("id")
        found = [ident for ident in visible if _matches(condition, ident)]
        read.update(found)
        mark = mark.advanced(found, START + timedelta(seconds=30 * number), OVERLAP)
        assert read == visible
