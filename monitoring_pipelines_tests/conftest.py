"""Fixtures every test area may use: real MySQL-compatible and PostgreSQL servers and databases on them.

What belongs here: fixtures shared by several areas. What does not: fixtures of one area (its own conftest),
and stand-ins for a server: tests talk to a real one or fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from monitoring_pipelines.config import secrets
from monitoring_pipelines_tests.support.mysql_server import ServerMissing, TestDatabase, TestServer
from monitoring_pipelines_tests.support.postgres_server import PostgresServer


def _start() -> TestServer:
    try:
        return TestServer.start()
    except ServerMissing as missing:
        if os.environ.get("ALLOW_SKIP") == "1":
            pytest.skip(str(missing))
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets one test reads are not masked in the output of the next."""
    monkeypatch.setattr(secrets, "_seen", set())


@pytest.fixture(scope="session")
def mariadb() -> Iterator[TestServer]:
    """A MariaDB server of this test session, or the server named in ``MP_TEST_MYSQL_DSN``."""
    given = os.environ.get("MP_TEST_MYSQL_DSN")
    if given:
        yield TestServer.from_dsn(given)
        return
    server = _start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def mariadb_db(mariadb: TestServer) -> Iterator[TestDatabase]:
    """A fresh, empty database: ``.dsn``, ``.execute(sql, args)``, ``.executemany``, ``.connect()``."""
    database = TestDatabase(mariadb).create()
    try:
        yield database
    finally:
        database.drop()


@pytest.fixture
def own_mariadb() -> Iterator[TestServer]:
    """A server of this test alone, which it may ``kill()`` and ``boot()`` again."""
    server = _start()
    try:
        yield server
    finally:
        server.stop()


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
