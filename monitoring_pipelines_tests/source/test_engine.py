"""Connections are read-only, in UTC, of one instant, and limited; the SELECT survives what drivers stumble over.

What belongs here: E-301, E-403, E-601 at the connection and in the statement. What does not: cycles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.expressions import parse
from monitoring_pipelines.config.schema import ColumnMapping, SourceSettings, TableMapping
from monitoring_pipelines.errors import ConfigError, SchemaDrift, SourceUnavailable
from monitoring_pipelines.source.bulk import QueryTooSlow
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.inspect import ColumnType, inspect_tables
from monitoring_pipelines.source.select import INVALID_TIME, SelectPlan, build_select
from monitoring_pipelines_tests.source.tail_bench import Bench

Make = Callable[..., Bench]


def test_the_session_is_in_utc_and_utf8mb4_although_the_server_is_not(tail: Make) -> None:
    """E-301, E-601: the test server's own zone is +09:00."""
    bench = tail()
    with connect(bench.db.dsn, bench.settings) as source:
        found = source.query("select @@session.time_zone, @@character_set_connection, @@session.sql_mode")
        assert found == [("+00:00", "utf8mb4", "")]
        assert source.dialect == bench.db.server.dialect


def test_nothing_can_be_written(tail: Make) -> None:
    """E-601: a read-only transaction, whatever the account may do."""
    bench = tail()
    with connect(bench.db.dsn, bench.settings) as source, pytest.raises(SourceUnavailable):
        source.query("insert into event (event_id) values ('x')")
    assert bench.db.execute("select count(*) from event") == [(0,)]


def test_everything_is_read_as_of_the_beginning(tail: Make) -> None:
    """E-601: also a table that is first touched later."""
    bench = tail()
    with connect(bench.db.dsn, bench.settings) as source:
        bench.event("later")
        assert source.query("select count(*) from event") == [(0,)]


def test_a_slow_statement_is_ended_by_the_server(tail: Make) -> None:
    """E-601."""
    bench = tail(head="extract: {query_timeout_s: 1}")
    with connect(bench.db.dsn, bench.settings) as source, pytest.raises(QueryTooSlow):
        # Not sleep(): MySQL ends it without an error.
        three = ", ".join(f"information_schema.columns {name}" for name in "abc")
        source.query(f"select sum(length(concat(a.column_name, b.column_name, c.column_name))) from {three}")


def test_values_that_drivers_mistreat_arrive_as_they_are(tail: Make) -> None:
    """E-302, E-304, E-401: zero dates, microseconds, decimals, wide integers, any character, in reserved names."""
    bench = tail()
    bench.db.execute(
        "create table `select` (`from` varchar(20) not null, z datetime not null, d datetime(6), big bigint unsigned, "
        "dec_ decimal(30,9), flag bit(1), utf varchar(20))"
    )
    bench.db.execute(
        "insert into `select` values ('a ', '0000-00-00', '2026-01-01 00:00:00.000001', 18446744073709551615, "
        "'123456789012345678901.5', b'1', '你好😀')"
    )
    mapping = TableMapping(
        entity="task", table="select",
        columns={
            "task_key": ColumnMapping(column="from"), "created_at": ColumnMapping(column="z"),
            "started_at": ColumnMapping(column="d"), "remote_id": ColumnMapping(column="big"),
            "owner_key": ColumnMapping(column="dec_"), "output_expected": ColumnMapping(column="flag"),
            "content_hash": ColumnMapping(column="utf"),
        },
    )  # fmt: skip
    with connect(bench.db.dsn, bench.settings) as source:
        info = inspect_tables(source, ["select"])["select"]
        plan = build_select(mapping, bench.source, source.dialect, info.columns)
        row = dict(zip([f.alias for f in plan.fields], source.query(plan.render())[0], strict=True))
    row.pop("__digest")
    assert row == {
        "task_key": "a ", "created_at": INVALID_TIME, "started_at": 1_767_225_600_000_001,
        "remote_id": "18446744073709551615", "owner_key": "123456789012345678901.500000000", "output_expected": 1,
        "content_hash": "你好😀",
    }  # fmt: skip


def _plan(columns: dict[str, ColumnMapping], optional: bool = False, **types: str) -> SelectPlan:
    mapping = TableMapping(
        entity="task", table="t", optional=optional, columns={"task_key": ColumnMapping(column="k"), **columns}
    )
    known = {name: ColumnType(name, kind, kind, True) for name, kind in {"k": "varchar", **types}.items()}
    return build_select(mapping, SourceSettings(id="shop", tables={"task": [mapping]}), "mysql", known)


@pytest.mark.parametrize("kind", ["json", "longtext", "mediumtext", "text", "blob"])
def test_a_payload_column_is_never_selected_whole(kind: str) -> None:
    """E-403: a piece of it is, when that is asked for."""
    with pytest.raises(ConfigError):
        _plan({"content_hash": ColumnMapping(column="c")}, c=kind)
    piece = _plan({"content_hash": ColumnMapping(expr=parse("left(c, 20)"))}, c=kind).render()
    assert "left(`c`, 20)" in piece


def test_a_geometry_column_is_never_selected() -> None:
    """E-403: a piece of its bytes would mean nothing."""
    for mapped in (ColumnMapping(column="c"), ColumnMapping(expr=parse("left(c, 20)"))):
        with pytest.raises(ConfigError):
            _plan({"content_hash": mapped}, c="geometry")
    assert (
        "`c` is not null"
        in _plan({"output_expected": ColumnMapping(expr=parse("c is not null"))}, c="geometry").render()
    )


def test_an_absent_column_is_drift_unless_the_table_is_optional() -> None:
    """E-702: and an optional table without its key is not readable at all."""
    with pytest.raises(SchemaDrift):
        _plan({"remote_id": ColumnMapping(column="gone")})
    assert _plan({"remote_id": ColumnMapping(column="gone")}, optional=True).absent == ("remote_id",)
    with pytest.raises(SchemaDrift):
        build_select(
            TableMapping(entity="task", table="t", optional=True, columns={"task_key": ColumnMapping(column="gone")}),
            SourceSettings(id="shop", tables={}), "mysql", {},
        )  # fmt: skip


def test_names_cannot_break_out_of_their_quotes() -> None:
    """E-504: quoting doubles the quote."""
    assert "`a``b`" in _plan({"remote_id": ColumnMapping(column="a`b")}, **{"a`b": "varchar"}).render()


def test_a_server_that_is_not_there_is_not_said_to_have_answered(tmp_path) -> None:
    (tmp_path / "monitoring.yaml").write_text("version: 1\n")
    settings = load_settings(tmp_path / "monitoring.yaml")
    with (
        pytest.raises(SourceUnavailable, match="cannot be reached: 2003"),
        connect("mysql://u:p@127.0.0.1:1/x", settings),
    ):
        pass
