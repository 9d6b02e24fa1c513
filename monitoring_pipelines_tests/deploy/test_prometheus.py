"""The files for Prometheus, Alertmanager, containers and systemd, checked by the tools that read them (S-360 to S-362)."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from monitoring_pipelines.alerts.rules import in_force
from monitoring_pipelines.alerts.rules.prometheus import render
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"


def run(tool: str, *arguments: str | Path, cwd: Path = DEPLOY) -> str:
    path = shutil.which(tool)
    if path is None:
        if os.environ.get("ALLOW_SKIP") == "1":
            pytest.skip(f"{tool} is not installed")
        pytest.fail(f"{tool} is missing: run scripts/install_test_tools.sh", pytrace=False)
    done = subprocess.run([path, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts(text: str) -> dict[str, dict]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def test_the_shipped_rule_file_is_what_the_table_of_rules_gives():
    assert RULES.read_text() == render(Settings())


def test_promtool_accepts_the_rules_and_their_unit_tests_pass():
    run("promtool", "check", "rules", RULES)
    assert "SUCCESS" in run("promtool", "test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")


def test_every_alert_of_the_rule_file_has_a_unit_test():
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    assert [name for name in alerts(RULES.read_text()) if name not in tests] == []


def test_the_rules_of_the_collector_keep_their_names_durations_and_severities():
    found = {name: (rule.get("for"), rule["labels"]["severity"]) for name, rule in alerts(RULES.read_text()).items()}
    assert found == {
        "CollectorTargetDown": ("30s", "critical"), "CollectorHighMemory": ("5m", "warning"),
        "CollectorNoDataIngestion": ("3m", "critical"), "CollectorDataIngestionLow": ("5m", "warning"),
        "CompletionRateLow": ("5m", "warning"), "CompletionRateCritical": ("5m", "critical"),
        "MonitoringStale": ("2m", "critical"), "MonitoringDown": ("1m", "critical"), "Watchdog": (None, "none"),
        "SchedulerJobFailing": (None, "warning"), "NotificationChannelDown": (None, "warning"),
    }  # fmt: skip


def test_a_threshold_set_once_moves_rule_and_rule_file_together(tmp_path: Path):
    settings = Settings(
        rules=[{"id": "resource.memory", "threshold": 5e9, "for": "90s"}, {"id": "ingest.low", "threshold": 2.5}],
        checks={"bands": {"degraded": 70}},
    )
    text = render(settings, "published_total", "feeds")
    found = alerts(text)
    assert found["CollectorHighMemory"]["expr"] == 'process_resident_memory_bytes{job="feeds"} > 5000000000'
    assert found["CollectorHighMemory"]["for"] == "90s"
    assert found["CollectorDataIngestionLow"]["expr"].endswith("< 2.5")
    assert found["CompletionRateLow"]["expr"].endswith("< 70")
    assert in_force(settings)["resource.memory"].levels[0].threshold == 5e9
    (tmp_path / "alerts.yml").write_text(text)
    run("promtool", "check", "rules", tmp_path / "alerts.yml")


def test_promtool_accepts_the_example_configuration():
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["monitoring-pipelines"]["authorization"]["type"] == "Bearer"
    assert {"collector", "monitoring-pipelines"} == set(jobs)


def test_amtool_accepts_the_routes_and_sends_by_severity():
    file = DEPLOY / "alertmanager" / "alertmanager.yml"
    run("amtool", "check-config", file)
    for severity, receiver in (
        ("critical", "dingtalk"),
        ("warning", "dingtalk"),
        ("none", "nobody"),
        ("other", "dingtalk"),
    ):
        assert (
            run("amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}").strip()
            == receiver
        )


def test_the_intervals_of_alertmanager_are_those_of_the_product():
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    route = config["route"]
    assert (route["group_by"], route["group_wait"], route["group_interval"], route["repeat_interval"]) == (
        ["alertname", "service"], "10s", "1m", "2h",
    )  # fmt: skip
    by_severity = {part["matchers"][0]: part for part in route["routes"]}
    assert (
        by_severity['severity="critical"']["group_interval"],
        by_severity['severity="critical"']["repeat_interval"],
    ) == ("30s", "10m")
    assert by_severity['severity="warning"']["repeat_interval"] == "2h"
    assert config["receivers"][1]["webhook_configs"][0]["send_resolved"] is True
    inhibited = {(rule["source_matchers"][0], rule["target_matchers"][0]) for rule in config["inhibit_rules"]}
    assert ('alertname="BrokerDown"', 'service=~"hot-storage|cold-storage|collector"') in inhibited
    assert ('alertname="CollectorNoDataIngestion"', 'alertname="CollectorDataIngestionLow"') in inhibited
    assert not any("TargetDown" in source for source, _ in inhibited)


def test_the_container_is_checked_by_its_liveness_page_and_its_text_tells_what_that_does_not_do():
    text = (DEPLOY / "docker-compose.yml").read_text()
    service = yaml.safe_load(text)["services"]["monitoring-pipelines"]
    check = service["healthcheck"]
    assert (check["interval"], check["timeout"], check["retries"], check["start_period"]) == ("30s", "10s", 3, "120s")
    assert "/health/live" in " ".join(check["test"])
    assert "does not restart a container because its health" in " ".join(text.split())
    assert "recovery hook" in text


def test_systemd_units_are_complete():
    units = {}
    for path in (DEPLOY / "systemd").iterdir():
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read_string(path.read_text())
        units[path.name] = parser
    main = units["monitoring-pipelines.service"]["Service"]
    assert main["ExecStart"].endswith("/mp up")
    assert main["Restart"] == "on-failure"
    health = units["monitoring-pipelines-health.service"]["Service"]["ExecStart"]
    assert "--max-time 10" in health
    assert health.endswith("/health/live")
    timer = units["monitoring-pipelines-health.timer"]["Timer"]
    assert (timer["OnActiveSec"], timer["OnUnitInactiveSec"]) == ("120s", "30s")
    assert timedelta(seconds=float(timer["OnActiveSec"].rstrip("s"))) == timedelta(minutes=2)


def test_where_the_guide_puts_data_and_logs_unit_and_container_may_write(tmp_path: Path):
    """Relative paths would lie beside the configuration in /etc, which neither may write."""
    guide = (DEPLOY.parent / "docs" / "operations.md").read_text("utf-8")
    (said,) = re.findall(r"```yaml\n(paths: .*?)```", guide, re.DOTALL)
    (tmp_path / "monitoring.yaml").write_text("version: 1\n" + said)
    settings = load_settings(tmp_path / "monitoring.yaml")
    unit = (DEPLOY / "systemd" / "monitoring-pipelines.service").read_text()
    service = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]["monitoring-pipelines"]
    (volume,) = [one.split(":")[1] for one in service["volumes"] if one.startswith("data:")]
    for folder in (re.findall(r"^ReadWritePaths=(.+)$", unit, re.MULTILINE)[0], volume):
        assert settings.data_path.is_relative_to(folder)
        assert settings.logs_path.is_relative_to(folder)
    assert service["command"][-2:] == ["--host", "0.0.0.0"], "a port of a container leads nowhere on its loopback"
