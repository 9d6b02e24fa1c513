"""Load limits: bulk reading waits while the source is busy, and says why it cannot look."""

from __future__ import annotations

import threading
from pathlib import Path

import pymysql
import pytest

from monitoring_pipelines.errors import SourceUnavailable
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.load import LoadGuard, replica_lag_s
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import VARIABLE, settings_for

TABLE = "tables: {task: {table: t, key: k, columns: {endpoint: {const: e}, status: {const: succeeded}}}}"


def test_reading_waits_until_the_server_is_calm(
    mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """extract.max_source_load: a running statement of somebody else holds the read back until it ends."""
    monkeypatch.setenv(VARIABLE, mariadb_db.dsn)
    # MySQL counts a thread of its own.
    calm = int(mariadb_db.execute("show global status like 'Threads_running'")[0][1])
    settings = settings_for(tmp_path, None, TABLE, head=f"extract: {{max_source_load: {{threads_running: {calm}}}}}")
    busy = mariadb_db.connect()
    ident = busy.thread_id()

    def occupy() -> None:
        with pytest.raises(pymysql.err.Error):
            busy.cursor().execute("select sleep(120)")

    worker = threading.Thread(target=occupy)
    worker.start()
    try:
        with connect(mariadb_db.dsn, settings) as connection:
            while not connection.query(
                f"select 1 from information_schema.processlist where id = {ident} and info is not null"
            ):
                pass
            pauses = []

            def sleep(seconds: float) -> None:
                pauses.append(seconds)
                if len(pauses) == 2:
                    mariadb_db.execute(f"kill {ident}")
                    worker.join()

            guard = LoadGuard.of(settings.extract)
            guard.sleep = sleep
            assert guard.wait(connection) == sum(pauses)
            assert len(pauses) >= 2
            assert guard.wait(connection) == 0
    finally:
        if worker.is_alive():
            mariadb_db.execute(f"kill {ident}")
        worker.join()


def test_a_server_that_is_no_replica_has_no_lag(
    mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """extract.max_source_load.replica_lag_s: nothing to wait for on a primary; a missing right is said, not ignored."""
    monkeypatch.setenv(VARIABLE, mariadb_db.dsn)
    settings = settings_for(tmp_path, None, TABLE, head="extract: {max_source_load: {replica_lag_s: 5}}")
    with connect(mariadb_db.dsn, settings) as connection:
        assert replica_lag_s(connection) is None
        assert LoadGuard.of(settings.extract).wait(connection) == 0
    mariadb_db.execute("drop user if exists 'poor'@'%'")
    mariadb_db.execute("create user 'poor'@'%' identified by 'pw'")
    mariadb_db.execute(f"grant select on `{mariadb_db.name}`.* to 'poor'@'%'")
    try:
        dsn = f"mysql://poor:pw@{mariadb_db.server.host}:{mariadb_db.server.port}/{mariadb_db.name}"
        with connect(dsn, settings) as connection, pytest.raises(SourceUnavailable, match="replica lag"):
            LoadGuard.of(settings.extract).wait(connection)
    finally:
        mariadb_db.execute("drop user 'poor'@'%'")
