"""Presets and the user's block over them (E-502, E-503, E-505, E-103, E-404)."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from monitoring_pipelines.config.loader import load_text
from monitoring_pipelines.config.source_schema import SourceSettings
from monitoring_pipelines.errors import ConfigError


def source(preset: str | None, tables: str = "", extra: str = "") -> SourceSettings:
    text = "sources:\n- id: s1\n  read_dsn_env: X\n"
    text += f"  preset: {preset}\n" if preset else ""
    text += textwrap.indent(textwrap.dedent(extra), "  ")
    if tables:
        text += "  tables:\n" + textwrap.indent(textwrap.dedent(tables), "    ")
    return load_text(text, "m.yaml", Path("/")).sources[0]


def error(preset: str | None, tables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        source(preset, tables)
    return " | ".join(str(problem) for problem in caught.value.problems)


def test_users_columns_are_merged_per_column() -> None:
    """E-502: a named column changes, the others stay."""
    task = source("waverless", "task: {table: app.jobs, columns: {created_at: {column: born, time: epoch_ms}}}").tables[
        "task"
    ][0]
    assert task.table == "app.jobs"
    assert (task.columns["created_at"].column, task.columns["created_at"].time) == ("born", "epoch_ms")
    assert task.columns["ended_at"].column == "completed_at"
    assert task.columns["task_key"].column == "task_id"


def test_null_removes_a_mapping() -> None:
    """E-502: ``column: null`` in both spellings, and a whole entity."""
    s = source("waverless", "task: {columns: {error_message: null, worker_key: {column: null}}}\nworker_event: null")
    assert {"error_message", "worker_key"}.isdisjoint(s.tables["task"][0].columns)
    assert "worker_event" not in s.tables


def test_options_alone_keep_the_presets_source() -> None:
    """E-502: a user adds a status word or a zone without repeating the column."""
    s = source(
        "tktool",
        "task: {columns: {status: {map: {PAUSED: queued}}}}\n"
        "task_output: {columns: {created_at: {time: naive_local, zone: Asia/Tokyo}}}",
    )
    status = s.tables["task"][0].columns["status"]
    assert status.expr is not None
    assert status.map is not None
    assert (status.map["PAUSED"], status.map["SUCCESS"]) == ("queued", "succeeded")
    created = s.tables["task_output"][0].columns["created_at"]
    assert (created.column, created.time, created.zone) == ("created_at", "naive_local", "Asia/Tokyo")


def test_a_renamed_column_keeps_its_map() -> None:
    """E-502."""
    status = source("waverless", "task: {columns: {status: state}}").tables["task"][0].columns["status"]
    assert status.column == "state"
    assert status.map is not None
    assert status.map["IN_PROGRESS"] == "running"


def test_list_form_matches_preset_tables_by_name() -> None:
    """E-505: blocks of the same table merge, others are added."""
    events = source(
        "waverless",
        """\
        worker_event:
          - {table: ops.status_events, columns: {new_status: null}}
          - {table: more_events, key: id, columns: {worker_key: w, event_type: t, at: happened}}
        """,
    ).tables["worker_event"]
    assert [e.table for e in events] == ["worker_events", "ops.status_events", "more_events"]
    assert "new_status" not in events[1].columns
    assert events[1].columns["old_status"].column == "old_status"


def test_one_block_over_several_preset_tables_must_name_one() -> None:
    """E-505."""
    assert "say which: worker_events, status_events" in error("waverless", "worker_event: {columns: {at: t}}")


def test_key_becomes_ordinary_columns() -> None:
    """Entities §6: single, computed and composite keys."""
    s = source("waverless")
    assert s.tables["task_event"][0].columns["event_key"].column == "event_id"
    computed = s.tables["worker_event"][1].columns["event_key"].expr
    assert computed is not None
    assert computed.render("mysql") == "concat('s', `id`)"
    sample = source("collector").tables["process_sample"][0]
    assert (sample.columns["process_id"].column, sample.columns["at"].column) == ("process_id", "at")
    assert "disagree" in error("waverless", "task: {key: a, columns: {task_key: b}}")


def test_defaults_fill_columns_that_are_never_null() -> None:
    """Entities §2: endpoint defaults to the source id, concurrency to 1, output_expected to true."""
    s = source(None, "task: {table: t, key: k, columns: {status: s}}\nworker: {table: w, key: k, columns: {status: s}}")
    assert s.tables["task"][0].columns["endpoint"].const == "s1"
    assert s.tables["task"][0].columns["output_expected"].const is True
    assert s.tables["worker"][0].columns["concurrency"].const == 1
    assert source("waverless").tables["worker"][0].columns["concurrency"].default == 1


def test_output_expected_may_be_a_predicate() -> None:
    """E-504: a predicate on the task row."""
    expected = source("waverless", extra="output_expected: \"kind <> 'ping'\"\n").output_expected
    assert not isinstance(expected, bool)
    assert expected.columns() == {"kind"}


def test_updated_at_of_the_table_fills_the_column() -> None:
    """Entities §6: the change mark is also the unified column."""
    task = source(None, "task: {table: t, key: k, updated_at: changed, columns: {status: s}}").tables["task"][0]
    assert task.columns["updated_at"].column == "changed"


def test_local_times_take_the_zone_of_the_source() -> None:
    """E-302."""
    s = source(
        None,
        "task: {table: t, key: k, columns: {status: s, created_at: {column: c, time: naive_local}, ended_at: e}}",
        "timezone: America/New_York\n",
    )
    columns = s.tables["task"][0].columns
    assert columns["created_at"].zone == "America/New_York"
    assert columns["ended_at"].time == "naive_utc"


def test_inline_outputs_follow_the_task_table() -> None:
    """E-103: same table and key, also after the user renamed the table."""
    output = source("waverless", "task: {table: app.jobs}").tables["task_output"][0]
    assert output.table == "app.jobs"
    assert output.columns["task_key"].column == "task_id"
    assert output.inline is not None
    assert output.inline.render("mysql") == "`output` is not null"


def test_an_own_output_table_takes_the_place_of_inline() -> None:
    """E-502."""
    output = source("waverless", "task_output: {table: outs, key: id, columns: {task_key: task_id}}").tables[
        "task_output"
    ][0]
    assert (output.table, output.inline) == ("outs", None)


def test_columns_of_optional_tables_are_optional() -> None:
    """Entities §9: absent → NULL; columns of mandatory tables must exist."""
    s = source("waverless")
    assert s.tables["worker_snapshot"][0].columns["gpu_utilization"].required is False
    assert s.tables["task"][0].columns["created_at"].required is True


@pytest.mark.parametrize(
    "column", ["worker_key: input", 'error_message: {expr: "left(output, 10)"}', 'owner_key: {expr: "lower(extend)"}']
)
def test_payload_columns_of_a_preset_are_never_read(column: str) -> None:
    """E-404: whatever the user's block says."""
    assert "is never read (E-404)" in error("waverless", f"task: {{columns: {{{column}}}}}")


def test_never_read_columns_may_be_tested_for_null() -> None:
    """E-103, E-403: the server evaluates the predicate, the value is not transferred."""
    s = source("waverless", "task: {columns: {error_message: {expr: \"if(output is null, 'none', null)\"}}}")
    assert s.tables["task"][0].columns["error_message"].kind == "expr"


def test_values_out_of_json_are_bounded() -> None:
    """E-403: at most 255 characters leave the server."""
    s = source(None, "task: {table: t, key: k, columns: {status: s, owner_key: {expr: \"json_value(j, '$.o')\"}}}")
    expr = s.tables["task"][0].columns["owner_key"].expr
    assert expr is not None
    assert expr.render("mysql") == "left(json_value(`j`, '$.o'), 255)"


@pytest.mark.parametrize("unit", ["kb", "mb", "mib", "bytes"])
def test_units_fit_the_column(unit: str) -> None:
    """E-122."""
    text = "task_output: {{table: t, key: k, columns: {{task_key: k, {}: {{column: c, unit: {}}}}}}}"
    assert source(None, text.format("size_bytes", unit)).tables["task_output"][0].columns["size_bytes"].unit == unit
    assert "has no unit" in error(None, text.format("name", unit))
