"""The simulated platforms: deterministic, coherent, and as irregular as promised.

What belongs here: rows in SQLite and MariaDB against each other and against the simulator's books. What does not: the
pipeline over them (``e2e``).
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines.demo import SMALL, World, generate
from monitoring_pipelines.demo.eventloop import to_ms
from monitoring_pipelines.demo.platform_model import ZERO_DATE
from monitoring_pipelines.demo.scale import Faults, Noise
from monitoring_pipelines.demo.tables import DATABASES, Table
from monitoring_pipelines.demo.world import mysql_schemas, sqlite_writers

NOW = datetime(2026, 3, 10, 4, 30)
NOISY = replace(
    SMALL,
    tasks_per_minute=12.0,
    worker_life_h=2.0,
    noise=Noise(
        slow_commit=0.05, late_row=0.02, duplicate=0.02, lost_end=0.01, reversed_clock=0.01, slow_submit=0.05,
        cancel_queued=0.03, cancel_running=0.02, snapshot_missing=0.02, case_variant=0.05,
    ),
)  # fmt: skip


def dump(folder: Path) -> dict[str, list[tuple]]:
    """All rows of all databases in ``folder``, by ``database.table``."""
    result = {}
    for database, tables in DATABASES.items():
        if not (folder / f"{database}.db").exists():
            continue
        con = sqlite3.connect(folder / f"{database}.db")
        for table in tables:
            result[f"{database}.{table.name}"] = con.execute(f'SELECT * FROM "{table.name}" ORDER BY 1').fetchall()
        con.close()
    return result


def query(folder: Path, database: str, sql: str) -> list[tuple]:
    con = sqlite3.connect(folder / f"{database}.db")
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A day of a small, very irregular world."""
    folder = tmp_path_factory.mktemp("noisy")
    result = generate(1.0, 11, NOW, scale=NOISY, folder=folder)
    yield folder, result.world
    result.world.close()


def test_same_seed_gives_same_rows_and_another_seed_does_not(tmp_path: Path) -> None:
    """E-005: nothing but the arguments decides, not the process, its clock or its time zone."""
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(0.3, seed, NOW, scale=SMALL, folder=tmp_path / name).world.close()
    a, b, c = (dump(tmp_path / name) for name in "abc")
    assert a == b
    assert a["waverless.tasks"] != c["waverless.tasks"]
    assert all(a[name] for name in a)


def test_live_steps_end_in_the_rows_that_bulk_generation_gives(tmp_path: Path) -> None:
    """Live mode is the same simulation: after uneven steps every table equals the one generated in one go."""
    until = NOW + timedelta(minutes=90)
    world = World(0.25, 5, NOISY, NOW, sqlite_writers(tmp_path / "live"))
    world.create()
    world.generate(NOW)
    instant = NOW
    for step in range(100_000):
        instant = min(until, instant + timedelta(milliseconds=250 + 7_919 * (step % 13)))
        world.advance(instant)
        if instant == until:
            break
    world.close()
    bulk = World(0.25, 5, NOISY, NOW, sqlite_writers(tmp_path / "bulk"))
    bulk.create()
    bulk.generate(until)
    bulk.close()
    live_rows, bulk_rows = dump(tmp_path / "live"), dump(tmp_path / "bulk")
    assert live_rows.keys() == bulk_rows.keys()
    for table in live_rows:
        assert live_rows[table] == bulk_rows[table], table


def test_live_mode_inserts_then_updates_and_commits_out_of_order(tmp_path: Path) -> None:
    """E-604, E-605: rows become visible late and behind higher ids; task rows change in place."""
    world = World(0.1, 5, NOISY, NOW, sqlite_writers(tmp_path))
    world.create()
    world.generate(NOW)
    pending_seen = updated = behind = 0
    known: set[int] = {row[0] for row in query(tmp_path, "waverless", "SELECT id FROM task_events")}
    status: dict[int, str] = {}
    for second in range(1, 1_800, 2):
        world.advance(NOW + timedelta(seconds=second))
        events = {row[0] for row in query(tmp_path, "waverless", "SELECT id FROM task_events")}
        behind += sum(1 for number in events - known if number < max(known))
        known = events
        for number, state in query(tmp_path, "waverless", "SELECT id, status FROM tasks ORDER BY id DESC LIMIT 200"):
            pending_seen += state == "PENDING"
            updated += number in status and status[number] != state
            status[number] = state
    world.close()
    assert min(pending_seen, updated, behind) > 0


def test_events_of_every_task_are_coherent(noisy: tuple[Path, World]) -> None:
    """A final row has a final event or is one of the few whose end was lost; an event never names an unknown worker."""
    folder, _ = noisy
    orphans = query(
        folder, "waverless", "SELECT count(*) FROM task_events e LEFT JOIN tasks t USING (task_id) WHERE t.id IS NULL"
    )
    assert orphans == [(0,)]
    unknown = query(
        folder,
        "waverless",
        "SELECT count(*) FROM task_events e LEFT JOIN workers w USING (worker_id) "
        "WHERE e.worker_id IS NOT NULL AND w.id IS NULL",
    )
    assert unknown == [(0,)]
    (done, silent) = query(
        folder,
        "waverless",
        """SELECT count(*), sum(NOT EXISTS (SELECT 1 FROM task_events e WHERE e.task_id = t.task_id AND e.event_type IN
           ('TASK_COMPLETED', 'TASK_FAILED', 'TASK_TIMEOUT', 'TASK_CANCELLED')))
           FROM tasks t WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED')""",
    )[0]
    assert 0 < silent < done * 0.05
    assert query(
        folder, "waverless", "SELECT count(*) FROM tasks WHERE status = 'COMPLETED' AND completed_at IS NULL"
    ) == [(0,)]


def test_promised_irregularities_are_there(noisy: tuple[Path, World]) -> None:
    """Late rows, duplicates, orphans, requeues, timeouts, reversed clocks, case variants, missing and empty samples."""
    folder, _ = noisy
    kinds = dict(query(folder, "waverless", "SELECT event_type, count(*) FROM task_events GROUP BY 1"))
    assert {
        "TASK_CREATED", "TASK_QUEUED", "TASK_ASSIGNED", "TASK_STARTED", "TASK_COMPLETED", "TASK_FAILED", "TASK_TIMEOUT",
        "TASK_CANCELLED", "TASK_ORPHANED", "WORKER_LOST", "TASK_REQUEUED",
    } <= set(kinds)  # fmt: skip
    late = (
        "SELECT count(*) FROM task_events a JOIN task_events b ON b.id = a.id + 1 "
        "AND b.event_time < datetime(a.event_time, '-60 seconds')"
    )
    assert query(folder, "waverless", late)[0][0] > 0
    same = (
        "SELECT count(*) FROM (SELECT 1 FROM task_events "
        "GROUP BY task_id, event_type, event_time, worker_id HAVING count(*) > 1)"
    )
    assert query(folder, "waverless", same)[0][0] > 0
    reversed_rows = "SELECT count(*) FROM tasks WHERE completed_at < started_at"
    assert query(folder, "waverless", reversed_rows)[0][0] > 0
    assert {"flux-dev", "Flux-Dev"} <= {
        row[0] for row in query(folder, "waverless", "SELECT DISTINCT endpoint FROM tasks")
    }
    silent = "SELECT count(*) FROM workers WHERE status = 'OFFLINE' AND terminated_at IS NULL"
    assert query(folder, "waverless", silent)[0][0] > 0
    empty = "SELECT count(*) FROM worker_resource_snapshots WHERE gpu_memory_total_mb = 0"
    assert query(folder, "waverless", empty)[0][0] > 0
    gap = to_ms(NOW) - 7 * 3_600_000
    assert Faults.relative_to(to_ms(NOW)).snapshot_gap_at == gap
    assert query(
        folder,
        "waverless",
        "SELECT count(*) FROM worker_resource_snapshots WHERE endpoint = 'sdxl-turbo' "
        "AND snapshot_at >= '2026-03-09 21:31' AND snapshot_at < '2026-03-09 23:29'",
    ) == [(0,)]


def test_seeded_faults_begin_when_they_should(tmp_path: Path) -> None:
    """Outputs lost since an instant on one workflow, tasks running for ever, a leaking process whose series stop, a
    failing job and one that is not started: all of them at the end of the history, where checks look."""
    generate(2.0, 7, NOW, scale=replace(SMALL, tktool_tasks_per_day=400), folder=tmp_path).world.close()
    lost_since = "2026-03-08 22:13"
    rate = """SELECT completed_at >= ?, avg(EXISTS (SELECT 1 FROM task_outputs o WHERE o.task_id = t.task_id))
              FROM tasks t WHERE workflow_id = ? AND status = 'SUCCESS' AND completed_at < '2026-03-10 02:00'
              GROUP BY 1 ORDER BY 1"""
    con = sqlite3.connect(tmp_path / "tktool.db")
    before, after = (row[1] for row in con.execute(rate, (lost_since, "wf-upscale")))
    assert before > 0.95
    assert after < 0.4
    assert all(row[1] > 0.95 for row in con.execute(rate, (lost_since, "wf-portrait")))
    overdue = con.execute(
        "SELECT count(*) FROM tasks WHERE status = 'RUNNING' AND timeout_at < ?", (str(NOW),)
    ).fetchone()
    con.close()
    assert overdue[0] > 0
    leak = [row[0] for row in query(tmp_path, "collector", "SELECT rss_bytes FROM mp_process_samples WHERE "
            "process_id = 'collector-okx' AND at > '2026-03-09 19:30' ORDER BY at")]  # fmt: skip
    assert leak[-1] > 3_000_000_000 > leak[0] * 2
    fds = query(tmp_path, "collector", "SELECT min(fds), max(fds), max(conns) FROM mp_process_samples WHERE "
                "process_id = 'collector-okx' AND at > '2026-03-09 19:00'")  # fmt: skip
    assert fds[0][0] < 120
    assert fds[0][1] > 700
    assert fds[0][2] > 80
    series = (
        "SELECT max(value) - min(value) FROM mp_ingest_samples WHERE series = 'trade' AND kind = 'ok' AND process_id = "
    )
    stopped = f"{series} 'collector-okx' AND at > '2026-03-10 04:10'"
    assert query(tmp_path, "collector", stopped) == [(0,)]
    assert query(tmp_path, "collector", stopped.replace("okx", "binance"))[0][0] > 0
    missed = "SELECT count(*), count(started_at) FROM mp_job_runs WHERE job_id = 'check_payment_reminder' AND scheduled_at > "
    assert query(tmp_path, "scheduler", f"{missed} '2026-03-09 23:45'") == [(5, 0)]
    hanging = """SELECT count(*) FROM mp_task_events s WHERE event_type = 'started' AND at > ? AND at < '2026-03-10 03:50' AND
        NOT EXISTS (SELECT 1 FROM mp_task_events e WHERE e.task_key = s.task_key AND e.event_type IN
        ('completed', 'failed', 'timeout'))"""
    for since, least in (("2026-03-08 12:31", 90), ("2026-03-10 02:50", 2)):
        assert query(tmp_path, "tts", hanging.replace("?", f"'{since}'"))[0][0] >= least
    swept = "SELECT max(at) FROM mp_task_events WHERE event_type = 'timeout'"
    assert query(tmp_path, "tts", swept)[0][0] < "2026-03-08 12:31"
    failing = query(tmp_path, "scheduler", "SELECT avg(outcome = 'failed') FROM mp_job_runs WHERE "
                    "job_id = 'sync_purchase_orders' AND ended_at > '2026-03-10 00:00'")  # fmt: skip
    assert failing[0][0] > 0.4


def test_truth_agrees_with_plain_counts_of_the_rows(noisy: tuple[Path, World]) -> None:
    """The books and the rows tell the same story where one SQL line suffices (M-201, M-205, M-216)."""
    folder, world = noisy
    totals: dict[str, int] = {}
    for row in world.truth().rows():
        for name, value in row.items():
            if isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
    written = query(folder, "waverless", "SELECT count(*) FROM tasks")[0][0]
    assert totals["tasks_submitted"] - 5 <= written <= totals["tasks_submitted"]
    requeued = (
        "SELECT count(*) FROM (SELECT DISTINCT task_id, event_time FROM task_events WHERE event_type = 'TASK_REQUEUED')"
    )
    assert query(folder, "waverless", requeued)[0][0] == pytest.approx(totals["tasks_retried"], abs=5)
    assert 0 < totals["busy_ms"] < totals["online_ms"]
    assert totals["tasks_completed"] > totals["execution_n"] > 0
    assert {row["endpoint"] for row in world.truth().rows()} >= {"flux-dev", "Flux-Dev"}


def test_truth_parquet_has_one_row_per_endpoint_and_minute(noisy: tuple[Path, World], tmp_path: Path) -> None:
    """The ground truth can be handed to other tools."""
    import duckdb

    _, world = noisy
    count = world.truth().write_parquet(tmp_path / "truth.parquet")
    with duckdb.connect() as con:
        con.execute(f"CREATE VIEW truth AS FROM '{tmp_path}/truth.parquet'")
        found = con.execute(
            "SELECT count(*), count(DISTINCT (endpoint, stat_minute)), sum(tasks_submitted) FROM truth"
        ).fetchone()
    assert found[0] == found[1] == count
    assert found[2] > 0


def _comparable(table: Table) -> list[str]:
    """Columns whose value reads the same from both servers: texts, integers, and instants in milliseconds."""
    kinds = ("varchar", "bigint", "int", "datetime(3)")
    return [name for name, kind in table.columns if kind.startswith(kinds)]


def _server_rows(cursor, schema: str, table: Table) -> list[tuple]:
    kinds = dict(table.columns)
    listed = ", ".join(
        f"CAST(`{name}` AS CHAR)" if kinds[name].startswith("datetime") else f"`{name}`" for name in _comparable(table)
    )
    cursor.execute(f"SELECT {listed} FROM `{schema}`.`{table.name}` ORDER BY 1")
    return list(cursor.fetchall())


def test_mariadb_holds_the_rows_of_sqlite_and_the_zero_dates_sqlite_cannot(mariadb_db, tmp_path: Path) -> None:
    """E-304: the same seed in a real server, also after live steps; only zero dates differ."""
    for options in ({"folder": tmp_path}, {"mysql_dsn": mariadb_db.dsn}):
        world = generate(0.2, 9, NOW, scale=NOISY, **options).world
        world.advance(NOW + timedelta(minutes=5))
        world.close()
    schemas = mysql_schemas(mariadb_db.dsn)
    zeros = 0
    con = mariadb_db.connect()
    with con.cursor() as cursor:
        for database, tables in DATABASES.items():
            for table in tables:
                server = _server_rows(cursor, schemas[database], table)
                zeros += sum(row.count(ZERO_DATE) for row in server)
                plain = [tuple(None if value == ZERO_DATE else value for value in row) for row in server]
                names = ", ".join(f'"{name}"' for name in _comparable(table))
                assert plain == query(tmp_path, database, f'SELECT {names} FROM "{table.name}" ORDER BY 1'), table.name
        for database in DATABASES:
            if database != "waverless":
                cursor.execute(f"DROP DATABASE `{schemas[database]}`")
    con.close()
    assert zeros > 0
