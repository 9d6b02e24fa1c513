"""`mp check`, `check-integrity`, `thresholds`, `sweep`, `prune-logs` on a real source (S-506, S-604)."""

from __future__ import annotations

import json
import os
import shutil
import socket
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines_tests.quality.bench import NOW

DAY = timedelta(days=1)
#: Noon of the first of February in Shanghai.
NOON = datetime(2026, 2, 1, 4)


@pytest.fixture
def world(platform, monkeypatch):
    made = platform()
    monkeypatch.setenv("MP_CONFIG", str(made.settings.file))
    return made


def call(capsys, *arguments, code=None, now="2026-02-03T04:00:00Z", as_json=True):
    capsys.readouterr()
    result = run([*arguments, "--now", now, *(["--json"] if as_json else [])])
    out = capsys.readouterr().out
    assert code is None or result == code, out
    return json.loads(out) if as_json else out


def two_weeks(world, days=4, good=(24, 25), bad=(3, 15), split=2):
    """Days around noon; before the split 24 of 25 have an output, then 3 of 15."""
    for number in range(days):
        complete, total = good if number < split else bad
        for task in range(total):
            world.task(
                f"d{number}-{task:02d}",
                NOON - DAY * (split - number) + timedelta(seconds=task),
                1 if task < complete else 0,
            )


def test_check_prints_the_run_and_its_exit_code_says_whether_something_was_found(world, capsys):
    world.task("a", NOW - timedelta(minutes=30), 1)
    clean = call(capsys, "check", "quick", code=0)
    assert (clean["status"], clean["total_alerts"], clean["run_status"]) == ("healthy", 0, "healthy")
    world.task("b", NOW - timedelta(minutes=20))
    found = call(capsys, "check", "quick", code=1)
    assert found["status"] == "issues_detected"
    assert found["alerts"][0]["task_ids"] == ["b"]
    assert found["window"] == {"from": "2026-02-03T03:00:00Z", "to": "2026-02-03T04:00:00Z", "hours": 1}
    assert stored.page(world.state)[1] == 2


def test_the_human_output_of_a_check_names_status_tasks_and_counts(world, capsys):
    world.task("b", NOW - timedelta(minutes=20))
    text = call(capsys, "check", "quick", code=1, as_json=False)
    assert "issues_detected, 1 findings" in text
    assert "[critical] missing_task_outputs (shop)" in text
    assert "tasks: b" in text


def test_a_source_that_cannot_be_read_is_exit_code_3(world, capsys):
    world.db.execute("rename table task_outputs to gone")
    data = call(capsys, "check", "quick", code=3)
    assert data["run_status"] == "error"
    assert [alert["alert_type"] for alert in data["alerts"]] == ["monitoring_error"]


@pytest.mark.parametrize("arguments", [("check", "hourly"), ("check", "deep", "--hours-back", "3"), ("check", "full", "--hours-back", "0"),
                                       ("check-integrity", "--start-date", "2026-02-30"), ("check-integrity", "--start-date", "2026-02-02", "--end-date", "2026-02-01"),
                                       ("check-integrity", "--split-date", "2026-02-09")])  # fmt: skip
def test_values_that_make_no_sense_are_exit_code_2(world, capsys, arguments):
    assert run([*arguments, "--json", "--now", "2026-02-03T04:00:00Z"]) == 2


def test_the_report_compares_before_and_after_a_date(world, capsys):
    two_weeks(world, days=4)
    data = call(
        capsys,
        "check-integrity",
        "--start-date",
        "2026-01-28",
        "--end-date",
        "2026-02-03",
        "--split-date",
        "2026-02-01",
        code=1,
    )
    report = data["reports"][0]
    assert report["split"] == {
        "date": "2026-02-01", "difference": -76.0,
        "before": {"total": 50, "with": 48, "rate": 96.0}, "after": {"total": 30, "with": 6, "rate": 20.0},
    }  # fmt: skip
    assert report["change_point"] == {
        "first": "2026-02-01", "before_rate": 96.0, "after_rate": 20.0, "difference": -76.0, "direction": "decline",
    }  # fmt: skip
    assert [(day["date"], day["total"], day["with"], day["rate"]) for day in report["daily"] if day["total"]] == [
        ("2026-01-30", 25, 24, 96.0), ("2026-01-31", 25, 24, 96.0), ("2026-02-01", 15, 3, 20.0), ("2026-02-02", 15, 3, 20.0),
    ]  # fmt: skip
    assert report["metrics"]["missing_count"] == 26
    assert "missing" not in report


def test_a_side_without_tasks_is_null(world, capsys):
    two_weeks(world, days=2)
    report = call(capsys, "check-integrity", "--split-date", "2026-02-02", code=1)["reports"][0]
    assert (report["split"]["after"], report["split"]["difference"]) == (None, None)


def test_a_detailed_report_lists_the_missing_tasks(world, capsys):
    two_weeks(world, days=1)
    report = call(capsys, "check-integrity", "--detailed-report", code=1)["reports"][0]
    assert (report["missing"], report["missing_listed"]) == (["d0-24"], 1)
    text = call(capsys, "check-integrity", "--detailed-report", code=1, as_json=False)
    assert "missing tasks (1):\n  d0-24" in text
    assert "25 succeeded tasks, 24 with output, 1 missing (4.0%), completion 96.0%, healthy" in text


def test_a_period_outside_the_store_is_read_from_the_source_and_leaves_the_store_alone(world, capsys):
    for number in range(3):
        world.task(f"old{number}", datetime(2024, 9, 15, 4, number), 1 if number else 0)
    world.run("quick")
    with world.pipe.warehouse.reader("before") as con:
        before = (
            con.execute("SELECT * FROM meta.extract_mark ORDER BY ALL").fetchall(),
            con.execute("SELECT count(*) FROM raw.task").fetchall(),
        )
    report = call(capsys, "check-integrity", "--start-date", "2024-09-14", "--end-date", "2024-09-16", code=1)[
        "reports"
    ][0]
    assert report["read_from"] == "source"
    assert (report["metrics"]["success_tasks"], report["metrics"]["missing_count"]) == (3, 1)
    with world.pipe.warehouse.reader("after") as con:
        after = (
            con.execute("SELECT * FROM meta.extract_mark ORDER BY ALL").fetchall(),
            con.execute("SELECT count(*) FROM raw.task").fetchall(),
        )
    assert after == before


def test_reports_are_kept(world, capsys):
    two_weeks(world, days=1)
    call(capsys, "check-integrity", code=1)
    kept = stored.believed(world.state, "integrity", "shop")
    assert kept.run_type == "report"
    assert kept.outcome.metrics["metrics"]["missing_count"] == 1


def test_thresholds_are_shown_changed_checked_and_journaled(world, capsys):
    assert call(capsys, "thresholds", code=0)["thresholds"]["max_pending_tasks"] == 50
    data = call(capsys, "thresholds", "max_pending_tasks=80", "max_failed_rate=0.25", code=0)
    assert (data["thresholds"]["max_pending_tasks"], data["thresholds"]["max_failed_rate"]) == (80, 0.25)
    assert {(e["name"], e["old"], e["new"], e["actor"]) for e in data["journal"]} == {
        ("max_pending_tasks", 50, 80, "cli"), ("max_failed_rate", 0.3, 0.25, "cli"),
    }  # fmt: skip
    for bad in (
        "max_failed_rate=1.5",
        "max_pending_tasks=-1",
        "max_pending_tasks=2.5",
        "unknown=1",
        "max_pending_tasks=x",
        "plain",
    ):
        assert run(["thresholds", "max_queue_wait_time=5", bad, "--json"]) == 2
    capsys.readouterr()
    assert call(capsys, "thresholds", code=0)["thresholds"]["max_queue_wait_time"] == 1800
    assert call(capsys, "thresholds", "max_pending_tasks=", code=0)["thresholds"]["max_pending_tasks"] == 50


def test_a_sweep_beats_and_times_out_what_is_over_its_limit(world, capsys):
    world.task("slow", NOW, status="RUNNING", completed_at=None, started_at=NOW - timedelta(hours=10, seconds=1))
    world.task("in time", NOW, status="RUNNING", completed_at=None, started_at=NOW - timedelta(hours=10))
    world.run("quick")
    data = call(capsys, "sweep", code=1)
    figures = {row["check_id"]: row for row in data}
    assert figures["tasks.timeouts"]["value"] == 1
    assert figures["tasks.slots"]["slots"] == {"limit": None, "in_use": 1, "available": None, "leaked": 1}
    with world.state.read() as con:
        assert con.exec_driver_sql("select component, period_s from component_heartbeat").all() == [("sweeper", 60.0)]


def test_folders_of_results_alerts_errors_and_repairs_are_there_from_the_start(world, capsys, monkeypatch):
    """S-506: whoever follows a folder need not wait for its first file; a page starts without them all the same."""
    from monitoring_pipelines.cli import logfiles, serve

    started = []
    monkeypatch.setenv(logfiles.SUPERVISED, "1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    monkeypatch.setattr(serve, "make_server", lambda *_: SimpleNamespace(run=lambda: started.append(True)))
    logs = world.settings.logs_path
    shutil.rmtree(logs, ignore_errors=True)
    call(capsys, "serve", "--port", port, code=0, as_json=False)
    assert {"monitoring_results", "alerts", "errors", "repairs"} <= {path.name for path in logs.iterdir()}
    shutil.rmtree(logs)
    logs.write_text("in the way")
    call(capsys, "serve", "--port", port, code=0, as_json=False)
    assert started == [True, True]


def test_old_files_go_and_repair_files_stay(world, capsys):
    logs = world.settings.logs_path
    old = (NOW - timedelta(days=401) - datetime(1970, 1, 1)).total_seconds()
    fresh = (NOW - datetime(1970, 1, 1)).total_seconds()
    for folder, name, at in (("monitoring_results", "a.jsonl", old), ("errors", "b.json", old), ("alerts", "c.json", old),
                             ("alerts", "d.json", fresh), ("repairs", "e.json", old)):  # fmt: skip
        path = logs / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (at, at))
    assert len(call(capsys, "prune-logs", code=0)["removed"]) == 3
    assert sorted(path.name for path in logs.rglob("*") if path.is_file()) == ["d.json", "e.json"]
