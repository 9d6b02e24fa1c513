"""What a team's application records with the client arrives as unified rows (E-512), on a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from monitoring_pipelines import client
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.ddl import TABLES, columns, ddl
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines_tests.support.mysql_server import TestDatabase

NOW = datetime(2026, 2, 3, 10, 30, 0, 123456)


@pytest.fixture
def recorder(mariadb_db: TestDatabase) -> client.Recorder:
    for statement in ddl(None, mariadb_db.server.dialect).split(";\n"):
        if statement.strip():
            mariadb_db.execute(statement)
    recorder = client.Recorder(mariadb_db.dsn, strict=True, clock=FixedClock(NOW))
    yield recorder
    recorder.engine.dispose()


def test_ddl_creates_exactly_the_unified_columns_on_the_server(recorder: client.Recorder, mariadb_db: TestDatabase):
    for entity, table in TABLES.items():
        stored = [row[0] for row in mariadb_db.execute(f"SHOW COLUMNS FROM {table}")]
        assert stored == ["id", *(column.name for column in columns(entity))]


def test_ddl_text_is_valid_for_mysql_names_and_sqlite(tmp_path: Path):
    assert "utf8mb4_0900_bin" in ddl("task_event", "mysql")
    recorder = client.Recorder(f"sqlite:///{tmp_path / 'r.db'}", strict=True)
    with recorder.engine.begin() as connection:
        for statement in ddl(None, "sqlite").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    assert recorder.record_event("t", "created", event_key="e") == "e"
    assert recorder.record_event("t", "created", event_key="e") == "e"
    with recorder.engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM mp_task_events").scalar() == 1


def test_ddl_refuses_what_does_not_exist():
    with pytest.raises(UsageError, match="unknown dialect"):
        ddl("job_run", "oracle")
    with pytest.raises(UsageError, match="no table to write"):
        ddl("task", "mysql")


def test_an_event_is_stored_with_microseconds_in_utc(recorder: client.Recorder, mariadb_db: TestDatabase):
    key = recorder.record_event("任务-1", "started", worker_key="w1", endpoint="e")
    at = NOW - timedelta(hours=1)
    recorder.record_event("任务-1", "failed", at=at, error_message="é" * 900)
    rows = mariadb_db.execute("SELECT event_key, task_key, event_type, at, worker_key FROM mp_task_events ORDER BY id")
    assert rows[0] == (key, "任务-1", "started", NOW, "w1")
    assert rows[1][3:] == (at, None)
    assert mariadb_db.execute("SELECT char_length(error_message) FROM mp_task_events WHERE event_type = 'failed'") == [
        (500,)
    ]


def test_an_event_with_its_own_key_is_recorded_once(recorder: client.Recorder, mariadb_db: TestDatabase):
    for _ in range(2):
        assert recorder.record_event("t", "completed", event_key="once") == "once"
    assert recorder.record_event("t", "completed", event_key="ONCE ") == "ONCE "
    assert mariadb_db.execute("SELECT count(*) FROM mp_task_events") == [(2,)]
    assert recorder.failures == 0


def test_unknown_event_types_and_times_with_zone_are_refused(recorder: client.Recorder):
    with pytest.raises(UsageError, match="unknown event type"):
        recorder.record_event("t", "finished")
    with pytest.raises(UsageError, match="zone"):
        recorder.record_event("t", "created", at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_run_is_visible_while_it_runs_and_ends_with_its_outcome(recorder: client.Recorder, mariadb_db: TestDatabase):
    with recorder.track_job("import", scheduled_at=NOW, attempt=2, trigger="manual"):
        running = mariadb_db.execute("SELECT outcome, ended_at, `trigger`, attempt, scheduled_at FROM mp_job_runs")
        assert running == [("running", None, "manual", 2, NOW)]
        recorder.clock.advance(5)
    rows = mariadb_db.execute("SELECT job_id, outcome, started_at, ended_at, duration_ms >= 0 FROM mp_job_runs")
    assert rows == [("import", "success", NOW, NOW + timedelta(seconds=5), 1)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("bad"), "failure"),
        (TimeoutError("slow"), "timeout"),
        (KeyboardInterrupt(), "failure"),
        (asyncio.CancelledError(), "failure"),
    ],
)
def test_an_exception_is_recorded_once_and_passes_on(
    recorder: client.Recorder, mariadb_db: TestDatabase, error: BaseException, outcome: str
):
    with pytest.raises(type(error)), recorder.track_job("j"):
        raise error
    rows = mariadb_db.execute("SELECT outcome, error_message FROM mp_job_runs")
    assert rows == [(outcome, f"{type(error).__name__}: {error}")]


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        ({"error": "partial"}, "partial"),
        ({"error": None}, None),
        ({"error": ""}, None),
        ({"rows": 3}, None),
        ("error", None),
        (None, None),
        ({"error": {"code": 1}}, "{'code': 1}"),
    ],
)
def test_an_error_in_the_result_is_kept_beside_the_outcome(
    recorder: client.Recorder, mariadb_db: TestDatabase, result: object, stored: str | None
):
    """E-121: whether it counts as a failure is decided where the rows are read."""
    with recorder.track_job("j") as run:
        run.result = result
    assert mariadb_db.execute("SELECT outcome, result_error FROM mp_job_runs") == [("success", stored)]


def test_the_decorator_uses_the_return_value(mariadb_db: TestDatabase, recorder: client.Recorder):
    configured = client.configure(mariadb_db.dsn, strict=True)

    @client.tracked("nightly", trigger="catchup")
    def job(number: int) -> dict[str, object]:
        """Do it."""
        return {"error": f"{number} bad"}

    assert job(3) == {"error": "3 bad"}
    assert job.__doc__ == "Do it."
    configured.engine.dispose()
    rows = mariadb_db.execute("SELECT job_id, `trigger`, result_error FROM mp_job_runs")
    assert rows == [("nightly", "catchup", "3 bad")]


def test_a_sample_of_this_process_is_plausible_and_stored(recorder: client.Recorder, mariadb_db: TestDatabase):
    first = recorder.sample_process("me")
    assert first["cpu_pct"] is None
    recorder.clock.advance(1)
    second = recorder.sample_process("me")
    assert second["rss_bytes"] > 1_000_000
    assert second["cpu_pct"] >= 0
    assert second["objects"] > 1000
    assert second["fds"] >= 3
    assert second["threads"] >= 1
    assert second["effective_cores"] > 0
    rows = mariadb_db.execute("SELECT process_id, at, rss_bytes, cpu_pct, scope FROM mp_process_samples ORDER BY id")
    assert rows[0] == ("me", NOW, first["rss_bytes"], None, "process")
    assert rows[1][2] == second["rss_bytes"]


def test_connections_count_owned_sockets_only(recorder: client.Recorder):
    """E-123: sockets without an owner are in the host's map only, listening ones are no connections."""
    row = recorder.sample_process("me")
    with recorder.engine.connect():
        busy = recorder.sample_process("me2")
    states, host = json.loads(busy["tcp_by_state"]), json.loads(busy["host_tcp_by_state"])
    assert busy["conns"] == sum(count for state, count in states.items() if state != "LISTEN")
    assert "TIME_WAIT" not in states
    assert busy["conns"] >= (row["conns"] or 0)
    assert sum(host.values()) >= busy["conns"]


def test_what_may_not_be_looked_at_is_null_not_zero(recorder: client.Recorder, mariadb_db: TestDatabase):
    """E-123: of another user's process only what everybody may see is measured."""
    as_root = os.geteuid() == 0
    if as_root:
        recorder.engine.connect().close()
        os.seteuid(65534)
    try:
        recorder.sample_process("init", pid=1)
    finally:
        if as_root:
            os.seteuid(0)
    stored = mariadb_db.execute("SELECT fds, conns, tcp_by_state, objects, gc_collections FROM mp_process_samples")
    assert stored == [(None, None, None, None, None)]
    assert mariadb_db.execute("SELECT rss_bytes > 0 FROM mp_process_samples") == [(1,)]


def test_a_process_that_does_not_exist_is_refused(recorder: client.Recorder):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    with pytest.raises(UsageError, match="no process"):
        recorder.sample_process("gone", pid=process.pid)


def test_the_address_is_not_shown(recorder: client.Recorder):
    """E-006."""
    assert recorder.engine.url.password not in repr(recorder)


def test_a_database_that_is_away_does_not_stop_the_application(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    recorder = client.Recorder("mysql://user:secret@127.0.0.1:1/none")
    with caplog.at_level(logging.WARNING):
        assert recorder.record_event("t", "created") is None
        with recorder.track_job("j") as run:
            run.result = 1
    assert recorder.failures == 3
    assert "could not be recorded" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(SQLAlchemyError):
        client.Recorder("mysql://user@127.0.0.1:1/none", strict=True).record_event("t", "created")


@pytest.mark.parametrize("dsn", ["postgresql://x/y", "nonsense"])
def test_an_unusable_address_is_refused_at_once(dsn: str):
    with pytest.raises(UsageError):
        client.Recorder(dsn)
