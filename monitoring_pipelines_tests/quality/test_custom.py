"""Checks of one's own: isolation, limit, types, ten thousand findings (C-601, C-026)."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from monitoring_pipelines.quality import custom, runs
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines_tests.quality.bench import NOW

MODULE = """
import os, time
from monitoring_pipelines.quality.model import Finding

def rows(ctx):
    (n,) = ctx.con.execute("SELECT count(*) FROM raw.task WHERE source_id = ?", [ctx.source_ids[0]]).fetchone()
    print("noise")
    return [Finding("shop", "x", "too_many_tasks", "medium", f"{n} tasks", ctx.now, {"n": n, "limit": ctx.params["limit"]})] if n > ctx.params["limit"] else []

def broken(ctx):
    raise ValueError("no idea")

def dies(ctx):
    os._exit(7)

def hangs(ctx):
    time.sleep(600)

def many(ctx):
    return [{"alert_type": "many", "severity": "low", "message": str(i), "task_ids": [f"t{i}"], "labels": {"n": i}} for i in range(10_000)]

def deep_only(ctx):
    return [{"severity": "info", "message": "x"}]
deep_only.run_types = ("deep",)

def wrong(ctx):
    return "everything is fine"
"""


@pytest.fixture
def own(platform, tmp_path, monkeypatch):
    (tmp_path / "own_checks.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "own_checks", None)

    def make(entries):
        return platform(f"checks: {{custom: {entries}}}")

    return make


def by_id(run):
    return {outcome.check_id: outcome for outcome in run.outcomes}


def test_a_custom_check_sees_rows_window_and_parameters(own):
    world = own("[{check: 'own_checks:rows', params: {limit: 1}}]")
    for number in range(2):
        world.task(f"t{number}", NOW - timedelta(minutes=30), 1)
    outcome = by_id(world.run("full"))["custom.rows"]
    assert [(f.alert_type, f.severity, f.message, f.details) for f in outcome.findings] == [
        ("too_many_tasks", "medium", "2 tasks", {"n": 2, "limit": 1})
    ]


def test_one_that_raises_dies_or_answers_nonsense_affects_only_itself(own):
    world = own(
        "['own_checks:broken', 'own_checks:dies', 'own_checks:wrong', 'own_checks:missing', {check: 'own_checks:rows', params: {limit: 9}}]"
    )
    run = world.run("full")
    found = by_id(run)
    for name, reason in (
        ("broken", "ValueError: no idea"),
        ("dies", "exit code 7"),
        ("wrong", "returned str"),
        ("missing", "missing"),
    ):
        outcome = found[f"custom.{name}"]
        assert outcome.status == "error"
        assert reason in outcome.message
        assert [(f.alert_type, f.labels) for f in outcome.findings] == [
            ("monitoring_error", {"check": f"custom.{name}"})
        ]
    assert found["custom.rows"].status == "passed"
    assert found["missing_outputs"].status == "insufficient_data"


def test_an_installed_package_brings_checks_by_its_entry_points(platform, tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "shop_checks-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "shop_checks.py").write_text(
        MODULE + "\ndef short(ctx):\n    return [{'severity': 'high', 'message': 'short'}]\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-checks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[monitoring_pipelines.checks]\nshort_texts = shop_checks:short\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    world = platform()
    assert [(check.id, check.target) for check in custom.discover(world.settings)] == [
        ("custom.short_texts", "shop_checks:short")
    ]
    [found] = by_id(world.run("full"))["custom.short_texts"].findings
    assert (found.alert_type, found.severity, found.message) == ("custom.short_texts", "high", "short")
    disabled = world.settings.model_copy(
        update={"checks": world.settings.checks.model_copy(update={"disabled": ["custom.short_texts"]})}
    )
    assert custom.discover(disabled) == []


def test_one_that_hangs_is_ended_at_the_limit(own):
    world = own("['own_checks:hangs']")
    run = world.run("quick")
    check = custom.discover(world.settings)[0]
    [outcome] = custom.run(check, world.pipe, runs.replace(run, type="full"), ["shop"], limit_s=1.5)
    assert (outcome.status, outcome.message) == ("error", "not finished after 1.5 s")


def test_custom_checks_run_in_full_unless_they_or_the_configuration_say_otherwise(own):
    world = own("['own_checks:deep_only', {check: 'own_checks:many', types: [quick]}]")
    assert set(by_id(world.run("full"))) & {"custom.deep_only", "custom.many"} == set()
    assert "custom.deep_only" in by_id(world.run("deep"))
    assert "custom.many" in by_id(world.run("quick"))


def test_ten_thousand_findings_are_stored_and_written_in_order(own):
    world = own("[{check: 'own_checks:many', types: [quick]}]")
    run = world.run("quick")
    assert len(run.findings) == 10_000
    assert stored.load(world.state, run.run_id).findings == run.findings
    found, total = stored.findings_page(world.state, run.run_id, number=200, size=50)
    assert (total, len(found), found[-1].task_ids) == (10_000, 50, ("t9999",))
    line = (world.settings.logs_path / "monitoring_results" / "monitoring_20260203.jsonl").read_text("utf-8")
    assert line.count('"alert_type":"many"') == 10_000
