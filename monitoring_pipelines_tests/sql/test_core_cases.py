"""Every YAML case of the core layer holds, and every rule of it has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from monitoring_pipelines.warehouse.sql_cases import find_cases
from monitoring_pipelines_tests.sql.core_cases import run_core_case

CASES = find_cases(schema="core")
RULES = [f"M-{n}" for n in (*range(201, 219), *range(301, 308), 313, 314, 318)]


@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}/{path.stem}" for path in CASES])
def test_case_holds(path: Path) -> None:
    """The rules named in the case: exactly the expected rows, also when computed again."""
    problems = run_core_case(path)
    assert not problems, "\n".join(problems)


def test_every_rule_has_a_case() -> None:
    """M-201 to M-218, M-301 to M-307, M-313, M-314, M-318 each have a case."""
    named = {rule for path in CASES for rule in yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]}
    assert not [rule for rule in RULES if rule not in named]
