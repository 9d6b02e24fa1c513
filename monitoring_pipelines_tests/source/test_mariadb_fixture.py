"""The test server itself: what other tests take for granted."""

from __future__ import annotations

from monitoring_pipelines_tests.support.mysql_server import TestDatabase


def test_fresh_database_keeps_rows_and_session_state(mariadb_db: TestDatabase) -> None:
    """Rows written through the helper are read back, and session settings last."""
    mariadb_db.execute("set sql_mode = ''")
    mariadb_db.execute("create table t (id int primary key, at datetime(3))")
    mariadb_db.executemany("insert into t values (%s, %s)", [(1, "0000-00-00"), (2, "2026-02-01 06:00:00.123")])
    assert mariadb_db.execute("select count(*), sum(at = 0) from t") == [(2, 1)]
    assert mariadb_db.dsn.endswith("/" + mariadb_db.name)
