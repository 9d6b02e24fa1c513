"""The example configuration for Prometheus scrapes the address a server listens on as shipped, and is answered.

What belongs here: the shipped file against a real Prometheus. What does not: its syntax and the rules (``deploy``).
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from monitoring_pipelines.clock import SystemClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines_tests.e2e.conftest import start_server
from monitoring_pipelines_tests.support.documented import ROOT
from monitoring_pipelines_tests.support.prometheus_server import prometheus

EXAMPLE = ROOT / "deploy" / "prometheus" / "prometheus.yml"
JOB = "monitoring-pipelines"


def test_the_address_of_the_example_is_the_one_of_a_server_as_shipped() -> None:
    (job,) = [one for one in yaml.safe_load(EXAMPLE.read_text())["scrape_configs"] if one["job_name"] == JOB]
    api = Settings().api
    assert job["static_configs"] == [{"targets": [f"{api.host}:{api.port}"]}]


def test_a_prometheus_with_the_example_scrapes_a_server_that_wants_a_token(tmp_path: Path) -> None:
    """The file as it is, but for the port, the place of the token and the wait between two scrapes."""
    (tmp_path / "viewer.token").write_text("a-token-of-this-test-alone")
    (tmp_path / "monitoring.yaml").write_text(
        "version: 1\napi: {tokens: [{name: prometheus, token_file: viewer.token, roles: [viewer]}]}\n"
    )
    (tmp_path / "viewer.token").chmod(0o600)
    url, stop = start_server(load_settings(tmp_path / "monitoring.yaml"), SystemClock())
    text, api = EXAMPLE.read_text(), Settings().api
    for theirs, ours in (
        (f"{api.host}:{api.port}", url.removeprefix("http://")),
        ("/etc/prometheus/monitoring-pipelines.token", str(tmp_path / "viewer.token")),
        ("scrape_interval: 15s", "scrape_interval: 1s"),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_text((EXAMPLE.parent / "alerts.yml").read_text())
    try:
        with prometheus(tmp_path, tmp_path / "prometheus.yml") as address:
            deadline = time.monotonic() + 60
            while (up := value(address, f'up{{job="{JOB}"}}')) != "1":
                assert time.monotonic() < deadline, up
                time.sleep(0.2)
    finally:
        stop()


def value(address: str, expression: str) -> str | None:
    """Newest value of the one series that the expression gives; None when there is none yet."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return str(found[0]["value"][1]) if found else None
