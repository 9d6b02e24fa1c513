"""Every YAML case of the statistics models holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring_pipelines.warehouse.sql_cases import find_cases, run_case

CASES = find_cases(schema="mart")


@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}/{path.stem}" for path in CASES])
def test_case_holds(path: Path) -> None:
    """The rules named in the case: expected rows and columns, and no row besides them."""
    result = run_case(path)
    assert not result.problems, str(result)


def test_every_model_has_cases() -> None:
    """Minute, hour and day statistics each have cases of their own."""
    tables = {path.parent.name for path in CASES}
    assert {"endpoint_minute_stats", "endpoint_hourly_stats", "endpoint_daily_stats"} <= tables
