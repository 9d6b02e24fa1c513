"""A warehouse that holds exactly the rows a test writes, and a platform on a real server that check runs read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring_pipelines_tests.quality.bench import Platform, Store
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import VARIABLE


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """``store(head="…", extra="…")``: rows are written straight into the warehouse; there is no source to ask."""
    monkeypatch.setenv(VARIABLE, "mysql://nobody@127.0.0.1:1/none")

    def make(head: str = "", extra: str = "", preset: str | None = "tktool") -> Store:
        return Store(tmp_path, preset, extra, head)

    return make


@pytest.fixture
def platform(tmp_path: Path, mariadb_db: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Platform]:
    """``platform(head="…")``: the tables of seed 002 on a real server."""
    monkeypatch.setenv(VARIABLE, mariadb_db.dsn)

    def make(head: str = "", extra: str = "") -> Platform:
        return Platform(tmp_path, mariadb_db, head, extra)

    return make
