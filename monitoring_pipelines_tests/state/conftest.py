"""The three dialects of the state store, each on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitoring_pipelines.state import StateStore


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
