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


#: Panels that turn at a threshold of a rule: its id, and what the panel's unit is of the rule's.
OF_RULE = {
    "Memory": ("resource.memory", 1), "Memory over time": ("resource.memory", 1), "FDs of limit": ("resource.fds", 1),
    "Open FDs of limit": ("resource.fds", 1), "Connections": ("resource.connections", 1),
    "Waiting tasks": ("endpoint.queue_depth", 1), "Execution": ("endpoint.p95_execution", 0.001),
    "Data lag": ("self.extract_lag", 60),
}  # fmt: skip
OF_BANDS = {"Completion (24 h)", "Completion by window"}
#: Panels of counts for whose rules one is too many: their rules have no threshold, or fire above 0.
ABOVE_NONE = {
    "Firing alerts": None, "Schema drift": "self.schema_drift", "Failures (24 h)": "jobs.failing",
    "Missed (24 h)": "jobs.missed", "Delivery failures (24 h)": "notify.channel_down",
}  # fmt: skip


def test_every_panel_with_thresholds_has_those_of_its_rule_or_of_the_bands():
    """C-452. Each panel is named: one that gets thresholds has to be compared too."""
    rules, bands = in_force(Settings()), Settings().checks.bands
    with_steps = {
        panel["title"]: panel for name in NAMES for panel in panels(name)
        if "thresholds" in panel["fieldConfig"]["defaults"] and steps(panel)
    }  # fmt: skip
    assert set(with_steps) == {*OF_RULE, *OF_BANDS, *ABOVE_NONE, "Target up"}
    for title, (rule, factor) in OF_RULE.items():
        wanted = [level.threshold * factor for level in rules[rule].levels]
        assert steps(with_steps[title]) == pytest.approx(wanted), title
    for title in OF_BANDS:
        assert steps(with_steps[title]) == [bands.degraded, bands.healthy], title
    for title, rule in ABOVE_NONE.items():
        assert steps(with_steps[title]) == [1], title
        assert rule is None or {level.threshold for level in rules[rule].levels} <= {None, 0}, title
    assert steps(with_steps["Target up"]) == [1]
    assert rules["target.down"]


def test_colours_grow_with_the_severity_of_the_level():
    rules = in_force(Settings())
    for panel in (panel for name in NAMES for panel in panels(name) if panel["title"] in OF_RULE):
        severities = [level.severity for level in rules[OF_RULE[panel["title"]][0]].levels]
        colours = [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
        assert colours == ["red" if one in ("high", "critical") else "yellow" for one in severities], panel["title"]


def test_dashboards_of_ones_own_have_the_thresholds_of_the_configuration(tmp_path):
    """C-452: one file decides, and the shipped dashboards stay as they are."""
    (tmp_path / "monitoring.yaml").write_text(
        "version: 1\nchecks: {bands: {healthy: 90, degraded: 70}}\nrules: [{id: resource.memory, threshold: 5.0e+9},"
        " {id: self.extract_lag, threshold: 5}]\n"
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
    assert found["Data lag"] == [5 * 60]
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
