"""What the state store forgets, and what it keeps however old it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from monitoring_pipelines.config import load_settings
from monitoring_pipelines.state import StateStore, checks, retention, self_jobs
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
