"""The three dialects of the state store, each on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from monitoring_pipelines.state import StateStore
from monitoring_pipelines_tests.support.mysql_server import ServerMissing
from monitoring_pipelines_tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test session."""
    try:
        server = PostgresServer.start()
    except ServerMissing as missing:
        if os.environ.get("ALLOW_SKIP") == "1":
            pytest.skip(str(missing))
        pytest.fail(str(missing), pytrace=False)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "mysql", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:
    """URL of an empty database of each dialect."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.sqlite3"
    elif request.param == "mysql":
        yield request.getfixturevalue("mariadb_db").dsn.replace("mysql://", "mysql+pymysql://")
    else:
        with request.getfixturevalue("postgres").database() as found:
            yield found


@pytest.fixture
def store(url: str) -> Iterator[StateStore]:
    """A store on it."""
    store = StateStore(url)
    yield store
    store.dispose()
