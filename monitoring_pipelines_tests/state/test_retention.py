"""What the state store forgets, and what it keeps however old it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from monitoring_pipelines.config import load_settings
from monitoring_pipelines.state import StateStore, checks, counters, retention, self_jobs, tables
from monitoring_pipelines.state.self_jobs import JobRun
from monitoring_pipelines.state.tables import collected

NOW = datetime(2025, 3, 10, 12, 0)


@pytest.fixture
def settings(tmp_path: Path):
    path = tmp_path / "monitoring.yaml"
    path.write_text("version: 1\nretention: {check_days: 10, raw_days: 5}\n")
    return load_settings(path)


def ages(days: list[float]) -> list[datetime]:
    return [NOW - timedelta(days=age) for age in days]


def test_only_what_is_past_its_days_is_removed(settings):
    state = StateStore.of(settings)
    for at in ages([1, 9.9, 10.1, 50]):
        checks.record_unexecuted(state, "quick", "missed", at, at)
    for number, at in enumerate(ages([1, 4.9, 5.1])):
        self_jobs.store(state, [JobRun(f"done{number}", "j", "success", started_at=at)], at)
    self_jobs.store(state, [JobRun("open", "j", "running", started_at=ages([9])[0])], ages([9])[0])
    with state.begin() as con:
        for moved in (None, *ages([0.5, 1.5])):
            row = {"source_id": "s", "entity": "process_sample", "key": "k", "at": NOW, "row": {}, "moved_at": moved}
            con.execute(insert(collected).values(row))
    removed = retention.prune(state, settings, NOW)
    assert (removed["check_runs"], removed["job_runs"], removed["samples"]) == (2, 1, 1)
    runs, _ = self_jobs.runs_of(state, "j")
    assert {run.run_key for run in runs} == {"done0", "done1", "open"}
    assert not any(retention.prune(state, settings, NOW).values())


def test_runs_of_a_job_are_paged_newest_first(settings):
    """S-427."""
    state = StateStore.of(settings)
    for number, at in enumerate(ages([3, 2, 1])):
        self_jobs.store(state, [JobRun(f"r{number}", "j", "success", started_at=at)], at)
    first, total = self_jobs.runs_of(state, "j", size=2)
    second, _ = self_jobs.runs_of(state, "j", number=2, size=2)
    assert ([run.run_key for run in first + second], total) == (["r2", "r1", "r0"], 3)


def test_counters_count_on_when_retention_removes_what_they_counted(store, settings):
    """S-303: a counter that stood still until new rows outnumber the removed ones would hide that channels fail."""
    old, new = ages([500, 1])

    def happen(number: int, at: datetime) -> None:
        due = at + timedelta(minutes=number)
        checks.record_unexecuted(store, "quick", "missed", due, due)
        alert_row = {
            "alert_id": f"a{number}", "fingerprint": f"f{number}", "type": "t", "alertname": "t", "source_id": "shop", "labels": {},
            "severity": "high", "severity_label": "high", "state": "resolved", "active_at": at, "last_seen_at": at, "resolved_at": at,
        }  # fmt: skip
        event = {"alert_id": f"a{number}", "at": at, "kind": "transition"}
        note = {
            "notification_id": f"n{number}", "source_id": "shop", "alert_ids": [], "group_key": "g", "channel": "ops", "channel_type": "log",
            "kind": "firing", "state": "abandoned", "due_at": at, "created_at": at,
        }  # fmt: skip
        attempt = {"notification_id": f"n{number}", "channel": "ops", "at": at}
        with store.begin() as con:
            con.execute(insert(tables.alert).values(alert_row))
            for n, state in enumerate(("firing", "resolved")):
                con.execute(
                    insert(tables.alert_event).values(event | {"event_id": f"e{number}-{n}", "to_state": state})
                )
            con.execute(insert(tables.notification).values(note))
            for n, ok in enumerate((False, False, True)):
                con.execute(insert(tables.notification_attempt).values(attempt | {"attempt_no": n, "ok": ok}))
            asked = {"request_id": f"r{number}", "target": "gpu", "action": "restart", "at": at, "result": "failed"}
            con.execute(insert(tables.recovery_request).values(asked))

    def told() -> list[dict]:
        every = (counters.CHECK_RUNS, counters.TRANSITIONS, counters.MESSAGES, counters.ATTEMPTS, counters.RECOVERIES)
        with store.read() as con:
            return [counter.total(con) for counter in every]

    for number, at in enumerate((old, old, new)):
        happen(number, at)
    expected = [
        {("quick", "missed"): 3}, {("t", "firing"): 3, ("t", "resolved"): 3}, {("ops", "firing", "abandoned"): 3},
        {("ops", False): 6, ("ops", True): 3}, {("gpu", "failed"): 3},
    ]  # fmt: skip
    assert told() == expected
    removed = retention.prune(store, settings, NOW)
    assert (removed["check_runs"], removed["recovery_requests"]) == (2, 2)
    assert removed["alerts"] == 2 * (1 + 2 + 1 + 3)
    assert told() == expected
    retention.prune(store, settings, NOW)
    assert told() == expected
    happen(9, new)
    assert told() == [{key: n // 3 * 4 for key, n in counted.items()} for counted in expected]
    retention.prune(store, settings, NOW + timedelta(days=900))
    assert told() == [{key: n // 3 * 4 for key, n in counted.items()} for counted in expected]
