"""Orders of lists are the same on every database the state store can be in (S-804)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert

from monitoring_pipelines.state import StateStore, alerts, checks, repair
from monitoring_pipelines.state import tables as t

AT = datetime(2026, 2, 1)


def test_unknown_values_are_last_both_ways_and_only_rows_of_the_plan_are_read(store: StateStore) -> None:
    """The number of an item is unique within its plan only."""
    words = ("done", None, "failed", "done", None, "busy")
    rows = [
        {"plan_id": plan, "seq": n, "task_key": f"{plan}{n}", "class": "eligible", "remote_status": word, "rows": [],
         "run_state": "pending", "tries": 0}
        for plan in ("P", "Q") for n, word in enumerate(words)
    ]  # fmt: skip
    with store.begin() as con:
        con.execute(insert(t.repair_item), rows)
    expected = {
        "remote_status": [5, 0, 3, 2, 1, 4],
        "-remote_status": [2, 0, 3, 5, 1, 4],
        "-task_key": [5, 4, 3, 2, 1, 0],
    }
    with store.read() as con:
        for sort, order in expected.items():
            parts = [repair.get_items(con, "P", limit=4, offset=offset, sort=sort) for offset in (0, 4)]
            assert [row["task_key"] for part in parts for row in part] == [f"P{n}" for n in order], sort


@pytest.mark.parametrize(("sort", "order"), [
    ("window_hours", [3, 2, 1, 4, 0]), ("-window_hours", [1, 3, 2, 4, 0]), ("-total_alerts", [4, 3, 2, 1, 0]), (None, [4, 3, 2, 1, 0]),
])  # fmt: skip
def test_runs_without_a_window_are_last_and_equal_ones_newest_first(
    store: StateStore, sort: str | None, order: list[int]
) -> None:
    hours = (None, 24, 1, 1, None)
    rows = [
        {"run_id": f"R{n}", "type": "quick", "trigger": "schedule", "status": "healthy", "count": 1, "total_alerts": n,
         "scheduled_at": AT + timedelta(hours=n), "window_hours": window}
        for n, window in enumerate(hours)
    ]  # fmt: skip
    with store.begin() as con:
        con.execute(insert(t.check_run), rows)
    found, total = checks.page(store, sort=sort)
    assert ([run.run_id for run in found], total) == ([f"R{n}" for n in order], 5)


def test_keys_of_a_whole_list_are_read_only_where_they_can_be_remembered(store: StateStore) -> None:
    """Without a stamp of the store each page would read the keys of all messages there are."""
    rows = [
        {"notification_id": f"N{n}", "source_id": "shop", "alert_ids": [], "group_key": "g", "channel": f"c{n % 3}", "kind": "firing",
         "channel_type": "webhook", "state": "sent", "attempts": 1, "due_at": AT, "created_at": AT + timedelta(hours=n)}
        for n in range(9)
    ]  # fmt: skip
    with store.begin() as con:
        con.execute(insert(t.notification), rows)
    asked: list[str] = []

    def remember(_question: Any, compute: Any, *_more: Any) -> Any:
        asked.append("all")
        return compute()

    with_limit: list[bool] = []
    event.listen(store.engine(), "before_cursor_execute", lambda *given: with_limit.append(" LIMIT " in given[2]))
    found, total = alerts.list_notifications(store, page=2, page_size=2, sort="channel", remember=remember)
    assert ([row["notification_id"] for row in found], total) == (["N0", "N7"], 9)
    can_tell = store.dialect == "sqlite"
    assert asked == (["all"] if can_tell else [])
    assert any(with_limit) is not can_tell
