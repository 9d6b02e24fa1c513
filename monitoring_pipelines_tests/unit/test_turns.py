"""Turns of the reader of the published files."""

from __future__ import annotations

import threading
import time

from monitoring_pipelines.published.reader import Turns


def test_turns_are_given_in_the_order_of_coming_and_never_more_than_there_are() -> None:
    turns, came, within, most = Turns(2), list(range(12)), [0], [0]
    order: list[int] = []
    guard = threading.Lock()

    def work(number: int) -> None:
        with turns:
            with guard:
                order.append(number)
                within[0] += 1
                most[0] = max(most[0], within[0])
            time.sleep(0.001)
            with guard:
                within[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in came]
    with turns, turns:
        for place, thread in enumerate(threads, 1):
            thread.start()
            while len(turns._waiting) < place:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert most == [2]
    # Two that were woken together may write their numbers in either order.
    assert all(abs(place - number) <= 1 for place, number in enumerate(order))
    with turns, turns:
        assert within == [0]
