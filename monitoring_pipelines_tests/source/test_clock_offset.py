"""The offset between the clocks of product and source is measured on a real server and stored with the cycle (C-512)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.clock import FixedClock, SystemClock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.source.engine import clock_offset, connect
from monitoring_pipelines_tests.support.mysql_server import TestDatabase


@pytest.mark.parametrize("ahead_s", [0, 90, -3600])
def test_a_server_is_ahead_by_what_the_product_is_behind(mariadb_db: TestDatabase, ahead_s: int):
    clock = FixedClock(SystemClock().now() - timedelta(seconds=ahead_s))
    with connect(mariadb_db.dsn, Settings()) as connection:
        assert clock_offset(connection, clock) == pytest.approx(ahead_s, abs=30)


def test_a_file_has_no_clock_of_its_own(tmp_path):
    import sqlite3

    sqlite3.connect(tmp_path / "a.db").close()
    with connect(f"sqlite:///{tmp_path / 'a.db'}", Settings()) as connection:
        assert clock_offset(connection, SystemClock()) is None
