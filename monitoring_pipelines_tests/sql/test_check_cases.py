"""Every YAML case of the checks' statements holds, and those that judge rows have one."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring_pipelines.warehouse.sql_cases import find_cases, run_case

CASES = find_cases(schema="checks")


@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}/{path.stem}" for path in CASES])
def test_case_holds(path: Path) -> None:
    """The rules named in the case: exactly the expected rows."""
    result = run_case(path)
    assert not result.problems, str(result)


def test_statements_that_judge_rows_have_cases() -> None:
    assert {path.parent.name for path in CASES} >= {
        "bad_times", "completeness", "duplicate_examples", "leaked_slots", "missing_facts", "missing_tasks", "output_flow",
        "owners", "ratio", "stray_outputs",
    }  # fmt: skip
