"""SQL files are found, understood and turned into tables."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from monitoring_pipelines.warehouse.audits import load_audits
from monitoring_pipelines.warehouse.families import DAY_TABLES, FAMILIES, HOUR_TABLES
from monitoring_pipelines.warehouse.sql_cases import run_case
from monitoring_pipelines.warehouse.sql_models import (
    ROLLUPS,
    Model,
    ModelError,
    column_types,
    ensure_table,
    load_model,
    load_models,
    references,
)
from monitoring_pipelines_tests.sql.worlds import warehouse

MARTS = [*HOUR_TABLES, *DAY_TABLES]


def model(sql: str, name: str = "mart.example") -> Model:
    """A model that exists only here."""
    return Model(name, Path("example.sql"), f"/*---\nkey: [a]\n---*/\n{sql}")


def test_references_are_tables_not_ctes_and_parameters_are_allowed() -> None:
    """Lineage comes from DuckDB's parser; a CTE may even be called like a table's last name."""
    sql = (
        "with t as (select * from raw.task where created_at >= $window_start), u as (select * from t) "
        'select "at" from u join core.worker_life as t2 using (source_id) where x in (select y from meta.source_state)'
    )
    assert references(sql) == {"raw.task", "core.worker_life", "meta.source_state"}


def test_references_look_through_macros() -> None:
    """A table read inside a shared macro is a reference of the model that uses the macro."""
    assert {"core.task_attempt", "core.worker_interval", "meta.source_state"} <= load_model(MARTS[1]).refs
    assert "mart.endpoint_minute_stats" in load_model(MARTS[1]).refs


def test_what_is_no_select_is_refused() -> None:
    """A model is exactly one SELECT."""
    with pytest.raises(ModelError, match="not a SELECT"):
        references("delete from raw.task")


@pytest.mark.parametrize("name", MARTS)
def test_every_column_is_documented_and_every_documented_column_exists(name: str) -> None:
    """The front matter is the data dictionary: same columns, same order, known roll-ups."""
    with warehouse() as con:
        names = [column for column, _ in column_types(con, load_model(name))]
    assert names == list(load_model(name).columns)
    assert all(entry.doc and entry.rollup in ROLLUPS for entry in load_model(name).columns.values())


@pytest.mark.parametrize("name", ["task_attempt", "task_instant", "task_wait", "worker_life", "worker_interval"])
def test_core_tables_have_the_columns_their_models_document(name: str) -> None:
    """What statistics read is what the core models fill."""
    with warehouse() as con:
        columns = {row[0] for row in con.execute(f"DESCRIBE core.{name}").fetchall()}
    assert set(load_model(f"core.{name}").columns) <= columns


def test_missing_front_matter_is_an_error() -> None:
    """The message names the file."""
    with pytest.raises(ModelError, match=r"x\.sql does not open with a block comment"):
        _ = Model("mart.x", Path("x.sql"), "select 1").meta


def test_tables_grow_by_columns_and_never_change_a_type() -> None:
    """Additive schema change: new columns appear with NULL in old rows, a changed type is refused."""
    con = duckdb.connect(":memory:")
    ensure_table(con, model("select 1 as a"))
    con.execute("INSERT INTO mart.example VALUES (7)")
    assert ensure_table(con, model("select 1 as a, 'x' as b")) == ["b"]
    assert con.execute("SELECT a, b FROM mart.example").fetchall() == [(7, None)]
    assert ensure_table(con, model("select 1 as a, 'x' as b")) == []
    with pytest.raises(ModelError, match="INTEGER in the warehouse"):
        ensure_table(con, model("select 1.5 as a, 'x' as b"))


def test_models_and_audits_are_found() -> None:
    """The three grains of every family and the audits of all invariants travel with the product."""
    assert set(MARTS) <= set(load_models())
    assert {audit.meta["rule"] for audit in load_audits()} >= {f"M-{n}" for n in range(901, 911)}
    assert len([audit for audit in load_audits() if audit.meta["rule"] == "M-903"]) == len(FAMILIES)


def test_a_failing_case_says_what_differs(tmp_path: Path) -> None:
    """Missing, unexpected and different rows are each named with their key."""
    folder = tmp_path / "mart" / "endpoint_minute_stats"
    folder.mkdir(parents=True)
    case = folder / "wrong.yaml"
    case.write_text(
        "input: {raw.endpoint_registration: [{endpoint: a}, {endpoint: b}]}\n"
        "window: [2026-02-01 10:00:00, 2026-02-01 10:01:00]\n"
        "expect: {rows: [{endpoint: a, tasks_submitted: 1, nonsense: 2}, {endpoint: c}]}\n",
        encoding="utf-8",
    )
    assert run_case(case).problems == [
        "endpoint=a: there is no column nonsense",
        "endpoint=a: tasks_submitted is 0, expected 1",
        "no row endpoint=c",
        "unexpected row source_id=shop, endpoint=b, stat_minute=2026-02-01 10:00:00",
    ]
