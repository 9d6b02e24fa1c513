"""A mapping against column types: extraction itself refuses payload columns, not only validation (E-403)."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring_pipelines.config.expressions import parse
from monitoring_pipelines.config.features import features
from monitoring_pipelines.config.live import payload_problem
from monitoring_pipelines.config.loader import load_text
from monitoring_pipelines.config.source_schema import SourceSettings
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.source.inspect import ColumnType
from monitoring_pipelines.source.select import build_select

TYPES = {
    name: ColumnType(name, kind, kind, True)
    for name, kind in (
        ("k", "varchar"),
        ("s", "varchar"),
        ("j", "json"),
        ("t", "text"),
        ("b", "longblob"),
        ("g", "point"),
    )
}


def source(columns: str) -> SourceSettings:
    text = (
        "sources:\n- id: s\n  read_dsn_env: X\n  tables:\n    task:\n      table: t\n      key: k\n"
        f"      columns: {{status: s, {columns}}}\n"
    )
    return load_text(text, "m.yaml", Path("/")).sources[0]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("left(j, 1000)", True),
        ("json_value(j, '$.a')", True),
        ("j is not null", True),
        ("if(b is null, 'a', left(b, 10))", True),
        ("left(t, 1000)", True),
        ("t is null", True),
        ("g is null", True),
        ("lower(s)", True),
        ("j", False),
        ("left(j, 1001)", False),
        ("concat(left(j, 5), b)", False),
        ("json_value(t, '$.a')", False),
        ("substring(t, 1, 10)", False),
        ("t = 'x'", False),
        ("left(g, 10)", False),
    ],
)
def test_payload_columns_are_read_in_pieces_only(text: str, allowed: bool) -> None:
    """E-403, every type family."""
    assert (payload_problem(parse(text), TYPES) is None) is allowed


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_extraction_refuses_what_validation_refuses(dialect: str) -> None:
    """E-403: also when nobody ran validate."""
    refused = source("owner_key: {expr: 'lower(j)'}")
    with pytest.raises(ConfigError, match="json column j can only be read"):
        build_select(refused.tables["task"][0], refused, dialect, TYPES)  # type: ignore[arg-type]
    good = source("owner_key: {expr: \"json_value(j, '$.o')\"}")
    sql = build_select(good.tables["task"][0], good, dialect, TYPES).render()  # type: ignore[arg-type]
    assert "left(json_value(`j`, '$.o'), 255)" in sql


def test_features_follow_what_is_mapped() -> None:
    """E-510: a feature whose input is absent is off and says what it needs."""
    found = {f.name: f for f in features(source("created_at: c, started_at: d, ended_at: e"))}
    assert found["endpoint counts and durations"].on
    assert not found["retries, orphaning, first event wins"].on
    assert not found["completeness, trend, split"].on
    assert "task_output" in found["completeness, trend, split"].needs
    assert not {f.name: f for f in features(source("created_at: c"))}["endpoint counts and durations"].on
