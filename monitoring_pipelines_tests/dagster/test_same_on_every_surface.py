"""One set of rows, one answer: command, result file, asset check, API and page, with figures computed by hand.

What belongs here: tables of inputs with exact expected figures on several surfaces at once. What does not: rules one by
one (``quality``).
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from datetime import datetime, timedelta

import pytest
import requests
import yaml
from dagster import AssetCheckSeverity

from monitoring_pipelines.alerts.rules.prometheus import render
from monitoring_pipelines.cli.app import run as mp
from monitoring_pipelines.cli.serve import make_server
from monitoring_pipelines.config import load_settings
from monitoring_pipelines_tests.dagster.outputs_site import CONFIG, NOW, OutputsSite

#: Source: settled tasks, those with output → number, text, missing, health, severity, passed, severity in Dagster (C-002).
BANDS = {
    "all": (40, 40, 100.0, "100.0%", "0.0%", "healthy", None, True, "WARN"),
    "exact95": (40, 38, 95.0, "95.0%", "5.0%", "healthy", "low", False, "WARN"),
    "below95": (40, 37, 92.5, "92.5%", "7.5%", "degraded", "medium", False, "WARN"),
    "exact80": (40, 32, 80.0, "80.0%", "20.0%", "degraded", "medium", False, "WARN"),
    "below80": (40, 31, 77.5, "77.5%", "22.5%", "unhealthy", "high", False, "ERROR"),
    "exact50": (40, 20, 50.0, "50.0%", "50.0%", "unhealthy", "high", False, "ERROR"),
    "below50": (40, 19, 47.5, "47.5%", "52.5%", "unhealthy", "critical", False, "ERROR"),
    "none_there": (7, 0, 0.0, "0.0%", "100.0%", "unhealthy", "critical", False, "ERROR"),
    # 2 of 3: 66.666… % and 33.333… %, half up.
    "thirds": (3, 2, 66.67, "66.7%", "33.3%", "unhealthy", "high", False, "ERROR"),
    "empty": (0, 0, None, None, None, "unknown", None, None, None),
}  # fmt: skip


@pytest.fixture
def sites(tmp_path, monkeypatch):
    """A site with a source for each row of the table."""
    site = OutputsSite.make(tmp_path)
    document = yaml.safe_load(CONFIG.format(root=tmp_path))
    document["sources"] = []
    for name, (total, complete, *_) in BANDS.items():
        part = OutputsSite.make(tmp_path / name)
        part.tasks(total, complete, NOW - timedelta(minutes=10))
        document["sources"].append({"id": name, "preset": "tktool", "read_dsn_file": str(part.root / "shop.dsn")})
    site.config.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("MP_CONFIG", str(site.config))
    monkeypatch.setenv("MP_NOW", f"{NOW.isoformat()}Z")
    return site


def test_figures_of_the_bands_are_the_same_in_command_file_and_asset_check(sites, instance, capsys):
    """C-002, C-003, C-101, S-501: exactly 95, 80 and 50 %, thirds, nothing at all, no tasks."""
    assert mp(["check", "quick", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    (line,) = (sites.root / "logs" / "monitoring_results" / "monitoring_20250310.jsonl").read_text().splitlines()
    written = json.loads(line)
    for seen in (told, written):
        assert seen["total_alerts"] == sum(row[6] is not None for row in BANDS.values()) == 8
        assert seen["alerts_by_severity"] == {"low": 1, "medium": 2, "high": 3, "critical": 2}
        alerts = {alert["source_id"]: alert for alert in seen["alerts"]}
        for name, (total, complete, number, text, missing, health, severity, *_) in BANDS.items():
            figures = seen["metrics"][name]["missing_outputs"]
            assert (figures["success_tasks"], figures["tasks_with_outputs"]) == (total, complete), name
            assert (figures["completion_rate_value"], figures["completion_rate"]) == (number, text), name
            assert (figures["missing_rate"], figures["health"]) == (missing, health), name
            assert alerts.get(name, {}).get("severity") == severity, name
            if severity:
                details = alerts[name]["details"]
                assert (details["missing_count"], details["missing_rate"]) == (total - complete, missing), name
                assert len(alerts[name]["task_ids"]) == min(10, total - complete), name
    result = sites.job("quick_check_job").execute_in_process(instance=instance)
    (outputs,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "outputs_complete"]
    assert (outputs.passed, outputs.severity) == (False, AssetCheckSeverity.ERROR)
    shown = {record.data["source"]: record.data for record in outputs.metadata["sources"].records}
    for name, (_, _, _, text, _, health, severity, passed, _) in BANDS.items():
        status = {True: "passed", False: "findings", None: "insufficient data"}[passed]
        assert (shown[name]["status"], shown[name]["health"]) == (status, health), name
        assert (shown[name]["severity"], shown[name]["rate"]) == (severity or "–", text or "–"), name
    assert outputs.metadata["success_tasks"].value == 290
    assert outputs.metadata["missing_count"].value == 71
    assert outputs.metadata["completion_rate"].value == 75.52
    assert "exact95: " in outputs.description, "findings of several sources are told apart"
    assert outputs.metadata["worst_endpoint"].value.startswith("below50: "), "21 missing: the most"


#: Ends of tasks around the days on which clocks change in Berlin, UTC, and whether they have an output.
SPRING = [
    ("2025-03-29T22:59:59", True), ("2025-03-29T23:00:00", True), ("2025-03-30T00:59:59", False),
    ("2025-03-30T21:59:59", True), ("2025-03-30T22:00:00", False), ("2025-03-31T21:59:59", False),
]  # fmt: skip
AUTUMN = [
    ("2025-10-25T21:59:59", True), ("2025-10-25T22:00:00", False), ("2025-10-26T00:30:00", False),
    ("2025-10-26T01:30:00", True), ("2025-10-26T22:59:59", True), ("2025-10-26T23:00:00", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "first", "split", "last", "daily", "before", "after", "difference"),
    [
        # The 30th has 23 hours: 23:00 to 22:00 UTC. Before 1 of 1; after 2 of 5.
        (SPRING, "2025-03-29", "2025-03-30", "2025-03-31",
         [("2025-03-29", 1, 1, 100.0), ("2025-03-30", 3, 2, 66.67), ("2025-03-31", 2, 0, 0.0)],
         (1, 1, 100.0), (5, 2, 40.0), -60.0),
        # The 26th has 25 hours: 22:00 to 23:00 UTC. Before 1 of 1; after 3 of 5.
        (AUTUMN, "2025-10-25", "2025-10-26", "2025-10-27",
         [("2025-10-25", 1, 1, 100.0), ("2025-10-26", 4, 2, 50.0), ("2025-10-27", 1, 1, 100.0)],
         (1, 1, 100.0), (5, 3, 60.0), -40.0),
    ],
    ids=["spring", "autumn"],
)  # fmt: skip
def test_days_on_which_clocks_change_are_local_days(
    tmp_path, monkeypatch, capsys, ends, first, split, last, daily, before, after, difference
):
    """C-105, C-108, E-307: days of 23 and 25 hours; a border belongs to the day it begins."""
    site = OutputsSite.make(tmp_path)
    site.config.write_text(
        CONFIG.format(root=tmp_path)
        .replace("Asia/Shanghai", "Europe/Berlin")
        .replace("start: 2025-03-08", "start: 2025-03-28")
    )
    with sqlite3.connect(tmp_path / "shop.db") as con:
        for number, (end, complete) in enumerate(ends):
            local = local_text(end)
            con.execute(
                "insert into tasks values (?, 'w', 'SUCCESS', null, ?, ?, ?, null)", (f"t{number}", local, local, local)
            )
            if complete:
                con.execute(
                    "insert into task_outputs (task_id, node_id, name, file_type, file_size, file_url, created_at) "
                    "values (?, '1', 'f', 'png', 10, ?, ?)",
                    (f"t{number}", f"http://files/{number}", local),
                )
    con.close()
    monkeypatch.setenv("MP_CONFIG", str(site.config))
    monkeypatch.setenv("MP_NOW", f"{last}T23:30:00Z")
    code = mp(["check-integrity", "--start-date", first, "--end-date", last, "--split-date", split, "--json"])
    report = json.loads(capsys.readouterr().out)["reports"][0]
    assert code == 1
    assert [(day["date"], day["total"], day["with"], day["rate"]) for day in report["daily"]] == daily
    for side, expected in (("before", before), ("after", after)):
        found = report["split"][side]
        assert (found["total"], found["with"], found["rate"]) == expected
    assert report["split"]["difference"] == difference


def local_text(utc: str) -> str:
    """What the preset stores: naive UTC."""
    return datetime.fromisoformat(utc).isoformat(sep=" ")


def test_one_changed_threshold_is_seen_on_every_surface(tmp_path, instance, monkeypatch, capsys):
    """C-452: 31 of 40 are 77.5 %: unhealthy as shipped, degraded once the lower band is 70 %. One line of the configuration.

    The dashboards are in ``unit/test_grafana.py``, the rules' own thresholds in ``deploy/test_prometheus.py``.
    """
    site = OutputsSite.make(tmp_path)
    site.tasks(40, 31, NOW - timedelta(minutes=10))
    monkeypatch.setenv("MP_CONFIG", str(site.config))
    monkeypatch.setenv("MP_NOW", f"{NOW.isoformat()}Z")
    assert surfaces(site, instance, capsys) == {
        "command": "high", "asset check": "ERROR", "api": {"unhealthy", "high"}, "page": "80", "rule file": "< 80",
    }  # fmt: skip
    site.config.write_text(site.config.read_text() + "checks: {bands: {degraded: 70}}\n")
    assert surfaces(site, instance, capsys) == {
        "command": "medium", "asset check": "WARN", "api": {"degraded", "medium"}, "page": "70", "rule file": "< 70",
    }  # fmt: skip


def surfaces(site: OutputsSite, instance, capsys) -> dict[str, object]:
    """What each surface says of the source's completeness."""
    capsys.readouterr()
    mp(["check", "quick", "--json"])
    (alert,) = json.loads(capsys.readouterr().out)["alerts"]
    result = site.job("quick_check_job").execute_in_process(instance=instance)
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "outputs_complete"]
    mp(["aggregate", "--json"])
    settings = load_settings(site.config)
    server = make_server(settings, site.clock, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    session = requests.Session()
    session.trust_env = False
    base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        answer = session.get(f"{base}/api/v1/completeness?source=shop", timeout=60)
        assert answer.status_code == 200, answer.text
        rows = answer.json()["data"]["items"]
        page = session.get(f"{base}/consistency?source=shop", timeout=60, cookies={"mp_lang": "en"}).text
    finally:
        server.should_exit = True
        thread.join(timeout=20)
    judged = {word for row in rows if row["success_tasks"] for word in (row["health"], row["severity"])}
    text = render(settings)
    (rule,) = [
        one
        for group in yaml.safe_load(text)["groups"]
        for one in group["rules"]
        if one.get("alert") == "CompletionRateLow"
    ]
    return {
        "command": alert["severity"], "asset check": check.severity.value, "api": judged,
        "page": re.search(r'class="g-bad"[^>]* stroke-dasharray="(\d+)', page)[1], "rule file": rule["expr"][-4:],
    }  # fmt: skip
