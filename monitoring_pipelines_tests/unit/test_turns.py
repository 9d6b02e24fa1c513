"""Turns of the reader of the published files."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from monitoring_pipelines.published.reader import Turns


@pytest.mark.parametrize("at_once", [1, 2])
def test_turns_are_given_in_the_order_of_coming_and_never_more_than_there_are(at_once: int) -> None:
    turns = Turns(at_once)
    order: list[int] = []
    within: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with turns:
            order.append(number)
            within.append(number)
            most.append(len(within))
            time.sleep(0.001)
            within.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    with ExitStack() as held:
        for _ in range(at_once):
            held.enter_context(turns)
        for place, thread in enumerate(threads, 1):
            thread.start()
            while len(turns._waiting) < place:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(12))
    # Two that have their turns may write their numbers down in either order.
    assert at_once > 1 or order == sorted(order)
    assert max(most) <= at_once
    assert (turns._free, len(turns._waiting)) == (at_once, 0)
