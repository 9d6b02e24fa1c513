"""Fixtures of the repair tests: a task tool on a real server, a result service on the loopback."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring_pipelines.compensation.fake_api import FakeResultApi
from monitoring_pipelines.state import StateStore
from monitoring_pipelines_tests.compensation.platform import JOURNAL, Shop, config, environment


@pytest.fixture
def api() -> Iterator[FakeResultApi]:
    with FakeResultApi() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """A state store with all tables and no rows; copying it is faster than migrating again."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    store = StateStore(f"sqlite:///{path}")
    store.engine()
    store.dispose()
    with sqlite3.connect(path) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def shop(mariadb_db, api, tmp_path, monkeypatch, migrated) -> Iterator[Shop]:
    (tmp_path / "data").mkdir()
    shutil.copy(migrated, tmp_path / "data" / "state.sqlite3")
    environment(monkeypatch, api, mariadb_db.dsn)
    shop = Shop(mariadb_db, api, tmp_path, config(tmp_path))
    shop.create()
    yield shop
    shop.state.dispose()
    mariadb_db.execute(f"drop database if exists `{JOURNAL}`")
