"""Arrival order, batching and repetition leave no trace in the store (E-602), nor do late snapshots.

What belongs here: ``convert`` + ``apply_batch`` without a server. What does not: what a cycle reads (``test_cycle_rows``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import duckdb
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from monitoring_pipelines.config.expressions import parse
from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings, TableMapping
from monitoring_pipelines.source.convert import convert, create_stage, load_stage
from monitoring_pipelines.source.digest import DIGEST_ALIAS
from monitoring_pipelines.source.inspect import ColumnType
from monitoring_pipelines.source.select import SelectPlan, build_select
from monitoring_pipelines.warehouse.ingest import BatchResult, apply_batch
from monitoring_pipelines.warehouse.schema import ensure_schema, transaction

NOW = datetime(2026, 2, 3, 12)
TYPES = {
    name: ColumnType(name, kind, kind, nullable=True)
    for name, kind in {"id": "bigint", "k": "varchar", "s": "varchar", "at": "datetime", "task": "varchar"}.items()
}
TASK = TableMapping(
    entity="task", table="t", row_id="id",
    columns={
        "task_key": ColumnMapping(column="k"),
        "status": ColumnMapping(column="s", map={"RUN": "running", "DONE": "succeeded"}),
        "created_at": ColumnMapping(column="at"),
        "endpoint": ColumnMapping(const="e"),
    },
)  # fmt: skip
EVENT = TableMapping(
    entity="task_event", table="ev", row_id="id",
    columns={
        "event_key": ColumnMapping(column="k"),
        "task_key": ColumnMapping(column="task"),
        "event_type": ColumnMapping(expr=parse("lower(s)")),
        "at": ColumnMapping(column="at"),
    },
)  # fmt: skip
SOURCE = SourceSettings(id="shop", tables={"task": [TASK], "task_event": [EVENT]})


def _store() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:")
    ensure_schema(con, NOW)
    return con


def _plan(mapping: TableMapping) -> SelectPlan:
    return build_select(mapping, SOURCE, "mariadb", TYPES)


def _feed(
    con: duckdb.DuckDBPyConnection, mapping: TableMapping, rows: list[dict[str, Any]], read_at: datetime
) -> BatchResult:
    """What a cycle does with rows it read at ``read_at``."""
    plan = _plan(mapping)
    create_stage(con, plan, "stage")
    columns = plan.stage_columns()
    listed = [
        tuple(row.get(name, hash(repr(row)) if name == DIGEST_ALIAS else None) for name, _ in columns) for row in rows
    ]
    load_stage(con, "stage", columns, listed)
    with transaction(con):
        return apply_batch(con, convert(con, plan, SOURCE, "stage", read_at), NOW + timedelta(days=1))


def _micros(second: int) -> int:
    return (NOW - datetime(1970, 1, 1)) // timedelta(microseconds=1) - 3_600_000_000 + second * 1_000_000


def _rows(con: duckdb.DuckDBPyConnection, entity: str) -> list[tuple[Any, ...]]:
    seen = "first_seen_at, changed_at" + (", status_seen_at" if entity == "task" else "")
    return sorted(con.execute(f"select * exclude ({seen}) from raw.{entity}").fetchall(), key=repr)


events = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("tu"), st.sampled_from(["created", "odd", ""]), st.integers(0, 3)),
    min_size=1, max_size=8,
)  # fmt: skip


@given(events, st.data())
@examples(max_examples=25, deadline=None)
def test_any_order_and_batching_of_events_gives_the_same_rows(
    found: list[tuple[str, str, str, int]], data: st.DataObject
) -> None:
    """E-602, M-202: repeated keys are one row, the one with the lowest id, whichever came first."""
    rows = [
        {"row_id": n + 1, "event_key": key, "task_key": task, "event_type": kind, "at": _micros(second)}
        for n, (key, task, kind, second) in enumerate(found)
    ]
    whole, pieces = _store(), _store()
    _feed(whole, EVENT, rows, NOW)
    shuffled = data.draw(st.permutations(rows + rows[:3]))
    size = data.draw(st.integers(1, 4))
    for start in range(0, len(shuffled), size):
        _feed(pieces, EVENT, shuffled[start : start + size], NOW)
    assert _rows(pieces, "task_event") == _rows(whole, "task_event")
    first = {}
    for row in rows:
        first.setdefault(row["event_key"], row["row_id"])
    assert dict(whole.execute("select event_key, row_id from raw.task_event").fetchall()) == first


@given(st.lists(st.sampled_from(["RUN", "DONE", "ODD", None]), min_size=1, unique=True), st.data())
@examples(max_examples=25, deadline=None)
def test_the_newest_snapshot_wins_in_any_order_of_commits(versions: list[str | None], data: st.DataObject) -> None:
    """E-602: different versions of one row, read one second after the other, written in any order and repeatedly."""
    batches = [
        (NOW + timedelta(seconds=n), [{"row_id": 1, "task_key": "a", "status": status, "created_at": _micros(0)}])
        for n, status in enumerate(versions)
    ]
    in_order, mixed = _store(), _store()
    for read_at, rows in batches:
        _feed(in_order, TASK, rows, read_at)
    for read_at, rows in data.draw(st.permutations(batches + batches[:1])):
        _feed(mixed, TASK, rows, read_at)
    assert _rows(mixed, "task") == _rows(in_order, "task")


def test_a_version_that_came_back_is_restored_by_the_next_reading() -> None:
    """E-602: that a row was read again unchanged is not stored, so a late commit of the version between may win."""
    con = _store()

    def read(status: str, second: int) -> None:
        row = {"row_id": 1, "task_key": "a", "status": status, "created_at": _micros(0)}
        _feed(con, TASK, [row], NOW + timedelta(seconds=second))

    for status, second in (("RUN", 0), ("RUN", 2), ("DONE", 1), ("RUN", 3)):
        read(status, second)
    assert con.execute("select status from raw.task").fetchall() == [("running",)]


def test_a_batch_fed_twice_is_reported_as_unchanged_and_marks_nothing() -> None:
    """E-602, E-603."""
    con = _store()
    rows = [{"row_id": n, "task_key": f"k{n}", "status": "RUN", "created_at": _micros(n)} for n in range(50)]
    assert _feed(con, TASK, rows, NOW).inserted == 50
    con.execute("delete from meta.dirty_task")
    again = _feed(con, TASK, rows, NOW + timedelta(seconds=30))
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 50)
    assert con.execute("select count(*) from meta.dirty_task").fetchone() == (0,)


def test_a_row_without_key_is_counted_and_stops_nothing() -> None:
    """E-007: it cannot be stored, so it is an anomaly; the rest of the batch is."""
    con = _store()
    rows = [{"row_id": 1, "task_key": None, "status": "RUN"}, {"row_id": 2, "task_key": "b", "status": "RUN"}]
    assert _feed(con, TASK, rows, NOW).rejected == 1
    assert con.execute("select task_key from raw.task").fetchall() == [("b",)]
    assert con.execute('select kind, "key" from raw.anomaly').fetchall() == [("bad_value", "row 1")]


def test_two_sources_with_equal_keys_never_merge() -> None:
    """E-001."""
    con = _store()
    row = [{"row_id": 1, "task_key": "a", "status": "RUN"}]
    _feed(con, TASK, row, NOW)
    plan, other = _plan(TASK), SourceSettings(id="other", tables={"task": [TASK]})
    create_stage(con, plan, "stage")
    load_stage(con, "stage", plan.stage_columns(), [tuple(row[0].get(name) for name, _ in plan.stage_columns())])
    apply_batch(con, convert(con, plan, other, "stage", NOW), NOW)
    assert con.execute("select source_id from raw.task order by 1").fetchall() == [("other",), ("shop",)]
