"""The Grafana dashboards: made from the tables of rules, and asking only for families that are exported."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.config.schema import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "grafana"
NAMES = ("collectors", "endpoints", "overview", "scheduler")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_generate", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels(name: str) -> list[dict]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["panels"]


def steps(panel: dict) -> list[float]:
    found = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [step["value"] for step in found if step["value"] is not None]


def exported() -> set[str]:
    """Names of families as the program writes them; ``{…}`` of a name stands for any word."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / "monitoring_pipelines" / "metrics").glob("*.py"))
    return set(re.findall(r'"((?:mp|scheduler)_[a-z0-9_{}]+)"', text))


def is_exported(name: str, known: set[str]) -> bool:
    return any(re.fullmatch(re.sub(r"\{\w+\}", r"[a-z0-9_]+", pattern), name) for pattern in known)


def test_committed_dashboards_are_what_the_generator_gives(generator):
    assert sorted(generator.BOARDS) == list(NAMES)
    for name in NAMES:
        assert (FOLDER / f"{name}.json").read_text("utf-8") == generator.text_of(name), f"run `make grafana` ({name})"


@pytest.mark.parametrize("name", NAMES)
def test_panels_ask_only_for_families_that_are_exported(name):
    known = exported()
    asked = {found for panel in panels(name) for target in panel["targets"]
             for found in re.findall(r"\b(?:mp|scheduler)_[a-z0-9_]+", target["expr"])}  # fmt: skip
    assert asked
    assert [found for found in sorted(asked) if not is_exported(found, known)] == []


def test_panels_have_the_thresholds_of_rules_and_bands():
    rules, bands = in_force(Settings()), Settings().checks.bands
    by_title = {panel["title"]: panel for name in NAMES for panel in panels(name)}
    assert steps(by_title["Completion (24 h)"]) == [bands.degraded, bands.healthy]
    for title, rule in (
        ("Memory", "resource.memory"), ("FDs of limit", "resource.fds"), ("Connections", "resource.connections"),
        ("Waiting tasks", "endpoint.queue_depth"),
    ):  # fmt: skip
        assert steps(by_title[title]) == [level.threshold for level in rules[rule].levels], title


def test_dashboards_of_ones_own_have_the_thresholds_of_the_configuration(tmp_path):
    """C-452: one file decides, and the shipped dashboards stay as they are."""
    (tmp_path / "monitoring.yaml").write_text(
        "version: 1\nchecks: {bands: {healthy: 90, degraded: 70}}\nrules: [{id: resource.memory, threshold: 5.0e+9}]\n"
        "sources: [{id: shop, preset: tktool, read_dsn_env: SHOP_DSN}]\n"
    )
    before = {name: (FOLDER / f"{name}.json").read_bytes() for name in NAMES}
    command = [sys.executable, str(FOLDER / "generate.py"), "--config", str(tmp_path / "monitoring.yaml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2, "it would overwrite them"
    subprocess.run([*command, "--output", str(tmp_path / "own")], check=True)
    found = {
        panel["title"]: steps(panel)
        for name in NAMES
        for panel in json.loads((tmp_path / "own" / f"{name}.json").read_text("utf-8"))["panels"]
        if "thresholds" in panel["fieldConfig"]["defaults"]
    }
    assert found["Completion (24 h)"] == [70, 90]
    assert found["Memory"] == [5e9]
    assert {name: (FOLDER / f"{name}.json").read_bytes() for name in NAMES} == before


def test_unknown_is_a_gap_and_percentages_have_a_fixed_axis():
    for name in NAMES:
        for panel in panels(name):
            if panel["type"] == "timeseries":
                assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False
            else:
                assert panel["fieldConfig"]["defaults"]["noValue"] == "–"


def test_provisioning_files_are_yaml_that_grafana_reads():
    for file in (FOLDER / "provisioning").rglob("*.yml"):
        assert yaml.safe_load(file.read_text("utf-8"))["apiVersion"] == 1
