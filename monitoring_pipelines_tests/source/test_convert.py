"""What staged values mean: kinds of time, zones, units, null_if, maps, bad values (E-003, E-122, E-202, E-302 to E-304).

What belongs here: single conversions, by value. What does not: reading (``test_cycle_rows``), storing (``test_ingest_order``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings, TableMapping
from monitoring_pipelines.source import convert as conversion
from monitoring_pipelines.source.convert import convert, create_stage, load_stage, zone_shifts
from monitoring_pipelines.source.inspect import ColumnType
from monitoring_pipelines.source.select import INVALID_TIME, build_select

NOW = datetime(2026, 12, 1)
EPOCH = datetime(1970, 1, 1)


def _one(entity: str, name: str, value: Any, data_type: str, **options: Any) -> tuple[Any, list[str]]:
    """The unified value and the kinds of anomalies of one source value."""
    key = {
        "task": "task_key",
        "process_sample": "process_id",
        "task_output": "output_key",
        "notification": "notification_id",
    }
    mapping = TableMapping(
        entity=entity, table="t",
        columns={key[entity]: ColumnMapping(column="k"), name: ColumnMapping(column="c", **options)},
    )  # fmt: skip
    if entity == "process_sample":
        mapping.columns["at"] = ColumnMapping(const="2026-01-01")
    types = {n: ColumnType(n, t, t, True) for n, t in (("k", "varchar"), ("c", data_type))}
    source = SourceSettings(id="shop", timezone="Asia/Shanghai", tables={entity: [mapping]})
    plan = build_select(mapping, source, "mysql", types)
    with duckdb.connect(":memory:") as con:
        create_stage(con, plan, "stage")
        columns = plan.stage_columns()
        given = {key[entity]: "k", name: value}
        load_stage(con, "stage", columns, [tuple(given.get(alias) for alias, _ in columns)])
        relation = convert(con, plan, source, "stage", NOW).relation
        row = con.execute(f'SELECT "{name}", anomalies FROM "{relation}"').fetchone()
    assert row is not None
    return row[0], row[1]


def _wall(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("wall", "utc", "anomalies"),
    [
        ("2026-11-01 00:30:00", "2026-11-01 04:30:00", []),
        # Twice: the earlier instant, still daylight-saving time.
        ("2026-11-01 01:30:00", "2026-11-01 05:30:00", ["ambiguous_time"]),
        ("2026-11-01 02:00:00", "2026-11-01 07:00:00", []),
        ("2026-03-08 01:59:59.999999", "2026-03-08 06:59:59.999999", []),
        # Never: shifted forward by the gap, 03:30 daylight-saving time.
        ("2026-03-08 02:30:00", "2026-03-08 07:30:00", ["ambiguous_time"]),
        ("2026-03-08 03:00:00", "2026-03-08 07:00:00", []),
    ],
)
def test_wall_clocks_that_occur_twice_or_never(wall: str, utc: str, anomalies: list[str]) -> None:
    """E-303, at both changes of New York."""
    found = _one("task", "created_at", _wall(wall), "datetime", time="naive_local", zone="America/New_York")
    assert found == (datetime.fromisoformat(utc), anomalies)


def test_the_default_zone_is_the_sources() -> None:
    """E-302."""
    found = _one("task", "created_at", _wall("2026-02-03 08:00:00"), "datetime", time="naive_local")
    assert found == (datetime(2026, 2, 3), [])


def test_a_timestamp_column_is_utc_whatever_the_mapping_says() -> None:
    """E-301."""
    found = _one("task", "created_at", _wall("2026-02-03 08:00:00"), "timestamp", time="naive_local")
    assert found == (datetime(2026, 2, 3, 8), [])


@pytest.mark.parametrize(
    ("value", "data_type", "kind", "expected"),
    [
        ("1767225600", "bigint", "epoch_s", datetime(2026, 1, 1)),
        ("1767225600.123456", "decimal", "epoch_s", datetime(2026, 1, 1, 0, 0, 0, 123456)),
        ("1767225600123", "bigint", "epoch_ms", datetime(2026, 1, 1, 0, 0, 0, 123000)),
        ("1767225600123456", "bigint", "epoch_us", datetime(2026, 1, 1, 0, 0, 0, 123456)),
        ("2026-01-01T08:00:00+08:00", "varchar", "iso8601", datetime(2026, 1, 1)),
        ("2025-12-31 19:00:00.5-0500", "varchar", "iso8601", datetime(2026, 1, 1, 0, 0, 0, 500000)),
        ("2026-01-01T00:00:00Z", "varchar", "iso8601", datetime(2026, 1, 1)),
        ("2026-01-01T00:00:00", "varchar", "iso8601", datetime(2026, 1, 1)),
        ("2026-01-01", "varchar", "iso8601", datetime(2026, 1, 1)),
        ("0", "bigint", "epoch_s", EPOCH),
    ],
)
def test_kinds_of_time(value: str, data_type: str, kind: str, expected: datetime) -> None:
    """E-302, E-305: fractions as stored, offsets applied, no offset is UTC."""
    assert _one("task", "created_at", value, data_type, time=kind) == (expected, [])


@pytest.mark.parametrize(
    ("value", "data_type", "options", "anomaly"),
    [
        (INVALID_TIME, "datetime", {}, "zero_date"),
        ("0000-00-00 00:00:00", "varchar", {"time": "iso8601"}, "zero_date"),
        ("2026-00-10", "varchar", {"time": "iso8601"}, "zero_date"),
        (-1, "datetime", {}, "time_out_of_range"),
        (_wall("2100-01-01"), "datetime", {}, "time_out_of_range"),
        ("soon", "varchar", {"time": "iso8601"}, "bad_value"),
        ("infinity", "varchar", {"time": "iso8601"}, "bad_value"),
        ("nan", "double", {"time": "epoch_s"}, "bad_value"),
    ],
)
def test_what_is_no_instant_is_null_and_an_anomaly(
    value: Any, data_type: str, options: dict[str, Any], anomaly: str
) -> None:
    """E-003, E-304."""
    assert _one("task", "created_at", value, data_type, **options) == (None, [anomaly])


def test_the_last_microsecond_of_the_range_is_in_it() -> None:
    """E-304."""
    assert _one("task", "created_at", _wall("2099-12-31 23:59:59.999999"), "datetime")[1] == ["future_time"]


@pytest.mark.parametrize(
    ("name", "value", "data_type", "options", "expected"),
    [
        ("rss_bytes", "1.5", "decimal", {"unit": "mb"}, 1_572_864),
        ("rss_bytes", "9007199254740993", "decimal", {}, 9_007_199_254_740_993),
        ("rss_bytes", 3, "bigint", {"unit": "kb"}, 3072),
        ("host_mem_available_bytes", 0, "bigint", {"null_if": [0]}, None),
        ("cpu_pct", "0.25", "decimal", {"unit": "ratio"}, 25.0),
        ("uptime_s", "1500", "decimal", {"unit": "ms"}, 1.5),
        ("tcp_by_state", '{"LISTEN": 2}', "varchar", {}, '{"LISTEN": 2}'),
    ],
)
def test_units(name: str, value: Any, data_type: str, options: dict[str, Any], expected: Any) -> None:
    """E-122: counts never pass through a float."""
    assert _one("process_sample", name, value, data_type, **options) == (expected, [])


@pytest.mark.parametrize(
    ("name", "value", "data_type"),
    [("rss_bytes", "many", "varchar"), ("cpu_pct", "nan", "double"), ("tcp_by_state", "{broken", "varchar")],
)
def test_values_that_cannot_be_read_are_null_and_an_anomaly(name: str, value: str, data_type: str) -> None:
    """E-003: never 0."""
    assert _one("process_sample", name, value, data_type) == (None, ["bad_value"])


def test_durations_are_exact_milliseconds() -> None:
    """E-122."""
    assert _one("notification", "latency_ms", "1.0005", "decimal", unit="s") == (Decimal("1000.500"), [])


def test_zone_rules_of_the_past_are_known() -> None:
    """E-303: Shanghai had daylight-saving time from 1986 to 1991, UTC never."""
    assert len(zone_shifts("UTC")) == 1
    assert len(zone_shifts("Asia/Shanghai")) > 1
    found = _one("task", "created_at", _wall("1988-07-01 09:00:00"), "datetime", time="naive_local")
    assert found == (datetime(1988, 7, 1), [])


_TRANSPORTED: list[tuple[Any, ...]] = [
    (1, "plain", None),
    (None, None, 0),
    (-(2**63), "", 2**63 - 1),
    (1_152_921_504_606_846_975, 'a "quoted" \\ line\nwith\ttab', True),
    (2, "NUL \x00 inside, \x01 \x7f \u2028, \\u0041 and 😀 工作", None),
    (3, b"bytes \xff are replaced", 4),
    (4, Decimal("1.50"), 5),
    (5, "null", 6),
]


@pytest.mark.parametrize("few_rows", [0, len(_TRANSPORTED)])
def test_staged_values_are_those_of_the_driver_however_many_rows_there_are(
    few_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "JSON_ROWS", few_rows)
    columns = [("n", "BIGINT"), ("t", "VARCHAR"), ("m", "BIGINT")]
    with duckdb.connect(":memory:") as con:
        con.execute("CREATE TABLE stage (n BIGINT, t VARCHAR, m BIGINT)")
        load_stage(con, "stage", columns, _TRANSPORTED)
        stored = con.execute("SELECT * FROM stage").fetchall()
    texts = [row[1] for row in _TRANSPORTED]
    texts[5], texts[6] = "bytes \ufffd are replaced", "1.50"
    assert stored == [
        (n, text, m if m is None else int(m)) for (n, _, m), text in zip(_TRANSPORTED, texts, strict=True)
    ]


@pytest.mark.parametrize("few_rows", [0, 1])
def test_an_integer_that_does_not_fit_is_an_error_and_no_null(few_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "JSON_ROWS", few_rows)
    with duckdb.connect(":memory:") as con:
        con.execute("CREATE TABLE stage (n BIGINT)")
        with pytest.raises((OverflowError, duckdb.Error)):
            load_stage(con, "stage", [("n", "BIGINT")], [(2**63,)])
