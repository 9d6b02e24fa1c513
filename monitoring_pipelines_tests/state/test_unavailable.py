"""A state store that is gone is said as such on every dialect, at the first use and while it is used (S-102, S-802)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from monitoring_pipelines.state.store import StateStore, StateUnavailable
from monitoring_pipelines_tests.support.mysql_server import TestServer
from monitoring_pipelines_tests.support.postgres_server import PostgresServer


def ask(store: StateStore) -> int:
    with store.read() as con:
        return int(con.execute(text("SELECT count(*) FROM alert")).scalar_one())


def mysql() -> tuple[str, Callable[[], None]]:
    server = TestServer.start()
    with server.connect() as con, con.cursor() as cursor:
        cursor.execute("CREATE DATABASE state_of_it")
    return server.dsn("state_of_it", "mysql+pymysql"), server.stop


def postgresql() -> tuple[str, Callable[[], None]]:
    server = PostgresServer.start()
    return server.dsn("postgres"), server.stop


@pytest.mark.parametrize("start", [mysql, postgresql], ids=["mysql", "postgresql"])
def test_a_server_that_ends_while_the_store_is_used_is_unavailable_for_reading_and_writing(
    start: Callable[[], tuple[str, Callable[[], None]]],
) -> None:
    url, stop = start()
    store = StateStore(url)
    try:
        assert ask(store) == 0
        stop()
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                ask(store)
        with pytest.raises(StateUnavailable), store.begin() as con:
            con.execute(text("DELETE FROM alert"))
    finally:
        store.dispose()
        stop()


def test_a_file_that_is_no_database_is_unavailable_and_a_wrong_statement_is_not(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"this is no database " * 500)
    with pytest.raises(StateUnavailable, match="cannot be used"):
        ask(StateStore(f"sqlite:///{tmp_path}/broken"))
    good = StateStore(f"sqlite:///{tmp_path}/good")
    with pytest.raises(OperationalError), good.read() as con:
        con.execute(text("SELECT nothing FROM alert"))
    good.dispose()


def test_a_file_whose_pages_are_destroyed_while_it_is_used_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "state"
    store = StateStore(f"sqlite:///{file}")
    assert ask(store) == 0
    store.dispose()  # what was written is in the file now
    size = file.stat().st_size
    store.engine()
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * (size - 4096))
    with pytest.raises(StateUnavailable):
        for table in ("alert", "notification", "silence", "check_run"):
            with store.read() as con:
                con.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all()
    store.dispose()


def test_a_driver_that_is_not_installed_is_named() -> None:
    """What somebody meets who follows the guide but not its first step."""
    with pytest.raises(StateUnavailable, match="driver that is not installed") as caught:
        StateStore("postgresql+pg8000://mp:secret@127.0.0.1/x").engine()
    assert "secret" not in str(caught.value)
