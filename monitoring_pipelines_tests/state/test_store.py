"""The state store on each of its dialects: from empty, by several processes at once, and what its types keep."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from monitoring_pipelines.state import StateStore, alerts, migrate, tables
from monitoring_pipelines.state.store import _engine, upsert

AT = datetime(2026, 2, 1, 6, 0, 0, 123456)
HEARTBEAT = {"component": "extract", "at": AT, "period_s": 60.0, "process_id": "1@host", "version": "1"}


def test_newest_revision_is_the_one_the_program_expects():
    assert max(migrate._known()) == migrate.HEAD


def test_migrations_create_exactly_the_tables_and_columns_of_the_program(store):
    found = inspect(store.engine())
    names = {name for name in found.get_table_names() if name != "alembic_version"}
    assert names == set(tables.metadata.tables)
    for table in tables.metadata.tables.values():
        assert {c["name"]: c["nullable"] for c in found.get_columns(table.name)} == {
            c.name: c.nullable for c in table.columns
        }, table.name
        assert {i["name"] for i in found.get_indexes(table.name)} >= {i.name for i in table.indexes}, table.name


def _schema(engine):
    found = inspect(engine)
    return {
        table: (
            {(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)},
            {(i["name"], tuple(i["column_names"])) for i in found.get_indexes(table)},
        )
        for table in found.get_table_names()
    }


def test_a_store_of_every_earlier_revision_becomes_the_same_as_an_empty_one(url, store):
    from sqlalchemy import create_engine

    revisions = sorted(migrate._known())
    wanted = _schema(store.engine())
    for earlier in reversed(revisions[:-1]):
        store.dispose()
        engine = create_engine(url)
        with engine.begin() as con:
            for table in inspect(engine).get_table_names():
                con.exec_driver_sql(f"DROP TABLE {table}")
        migrate.upgrade(engine, earlier)
        assert migrate.current(engine) == earlier
        engine.dispose()
        assert _schema(store.engine()) == wanted
        assert migrate.current(store.engine()) == migrate.HEAD


def test_several_processes_may_open_an_empty_store_at_once(url):
    stores = [StateStore(url) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda store: store.engine(), stores))
    assert migrate.current(stores[0].engine()) == migrate.HEAD
    for store in stores:
        store.dispose()


def test_an_empty_file_opened_by_many_at_the_same_instant_opens_for_all_of_them(tmp_path):
    # SQLite answers "busy" at once when two switch the journal mode of one file; one round in five met it.
    for n in range(25):
        at_once = threading.Barrier(6)

        def opened(url: str, at_once: threading.Barrier = at_once) -> str:
            engine = _engine(make_url(url))
            at_once.wait()
            with engine.connect() as con:
                mode = con.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            engine.dispose()
            return mode

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(opened, [f"sqlite:///{tmp_path}/{n}.sqlite3"] * 6)) == ["wal"] * 6


def test_microseconds_keys_and_json_come_back_as_they_were_written(store):
    detail = {"b": [1, None, "缺失 🍄"], "a": {"n": 0}}
    with store.begin() as con:
        upsert(con, tables.component_heartbeat, [HEARTBEAT | {"component": name} for name in ("X9", "x9", "x9 ")])
        upsert(con, tables.setting, [{"name": "s", "value": detail, "updated_at": AT, "updated_by": None}])
    with store.read() as con:
        assert {row.component for row in con.execute(select(tables.component_heartbeat))} >= {"X9", "x9"}
        row = con.execute(select(tables.setting)).one()
    assert (row.value, row.updated_at, row.updated_by) == (detail, AT, None)


def test_a_stamp_changes_with_every_commit_and_with_nothing_else(store, url):
    first = store.stamp()
    if store.dialect != "sqlite":
        assert first is None
        return
    with store.read() as con:
        con.execute(select(tables.component_heartbeat)).all()
    assert store.stamp() == first
    seen = {first}
    other = StateStore(url)
    for number, writer in enumerate((store, other, store, other)):
        with writer.begin() as con:
            upsert(con, tables.component_heartbeat, [HEARTBEAT | {"component": f"c{number}"}])
        assert store.stamp() not in seen
        seen.add(store.stamp())
    other.dispose()


def test_a_stamp_of_a_removed_file_is_none_and_of_its_successor_another(tmp_path):
    url = f"sqlite:///{tmp_path}/state.sqlite3"
    store, successor = StateStore(url), StateStore(url)
    before = store.stamp()
    assert before is not None
    for path in tmp_path.glob("state.sqlite3*"):
        path.unlink()
    assert store.stamp() is None
    (tmp_path / "room").touch()  # so that the next file cannot have the number of the removed one
    successor.engine()
    assert store.stamp() not in (None, before)
    store.dispose()
    successor.dispose()


def test_upsert_twice_leaves_one_row_with_the_newer_values(store):
    for period in (60.0, 30.0):
        with store.begin() as con:
            upsert(con, tables.component_heartbeat, [HEARTBEAT | {"period_s": period}])
    with store.read() as con:
        assert [row.period_s for row in con.execute(select(tables.component_heartbeat))] == [30.0]


def test_an_instant_with_a_zone_is_refused(store):
    with pytest.raises(Exception, match="zone"), store.begin() as con:
        con.execute(insert(tables.component_heartbeat).values(HEARTBEAT | {"at": AT.replace(tzinfo=UTC)}))


def test_a_failed_block_leaves_nothing_behind(store):
    with pytest.raises(RuntimeError), store.begin() as con:
        con.execute(insert(tables.component_heartbeat).values(HEARTBEAT))
        raise RuntimeError
    with store.read() as con:
        assert con.execute(select(tables.component_heartbeat)).all() == []


def test_an_alert_fingerprint_is_open_at_most_once(store):
    row = {
        "fingerprint": "f", "open_fingerprint": "f", "type": "t", "alertname": "t", "source_id": "shop", "labels": {},
        "severity": "high", "severity_label": "high", "state": "firing", "active_at": AT, "last_seen_at": AT,
    }  # fmt: skip
    with store.begin() as con:
        con.execute(insert(tables.alert).values(row | {"alert_id": "1"}))
        con.execute(insert(tables.alert).values(row | {"alert_id": "2", "open_fingerprint": None}))
    with pytest.raises(IntegrityError), store.begin() as con:
        con.execute(insert(tables.alert).values(row | {"alert_id": "3"}))


def test_writers_of_many_threads_wait_for_each_other(store):
    def count_up(_: int) -> None:
        with store.begin() as con:
            row = con.execute(select(tables.setting.c.value).with_for_update()).one()
            con.execute(tables.setting.update().values(value=row.value + 1))

    with store.begin() as con:
        con.execute(delete(tables.setting))
        con.execute(insert(tables.setting).values(name="n", value=0, updated_at=AT))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(40)))
    with store.read() as con:
        assert con.execute(select(tables.setting.c.value)).scalar_one() == 40


def test_a_page_may_be_larger_than_the_parameters_a_statement_takes(store: StateStore) -> None:
    """``limit`` of the alerts has no bound, and PostgreSQL takes 65,535 parameters."""
    number = 66_000
    rows = [{"event_id": f"{n:06}", "alert_id": "a", "at": AT, "kind": "message"} for n in range(number)]
    with store.begin() as con:
        con.execute(insert(tables.alert_event), rows)
    found, total = alerts.list_events(store, page_size=number)
    assert total == number
    assert [row["event_id"] for row in found] == [row["event_id"] for row in reversed(rows)]
