"""A store kept up to date tick by tick equals one computed from the same rows at once: every family (M-803, M-805).

What belongs here: random histories through the whole pipeline. What does not: single rules (their own tests, which say
what the values are; here only that the order of arrival does not matter).
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitoring_pipelines import pipeline
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.pipeline import DAY, DAY_TABLES, HOUR, HOUR_TABLES, Pipeline
from monitoring_pipelines.warehouse.connect import Warehouse
from monitoring_pipelines.warehouse.core_tables import CORE_DDL
from monitoring_pipelines_tests.source.random_history import MAPPING, RandomHistory
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import VARIABLE, settings_for

#: How a row came to be, which is not what it says.
BOOKKEEPING = {"revision", "first_closed_at", "restated_at", "frozen", "tasks_with_outputs_at_close"}
#: Every key that has a derived row.
TASKS = " UNION ".join(f"SELECT source_id, task_key FROM raw.{n}" for n in ("task", "task_event", "task_output"))
WORKERS = " UNION ".join(
    f"SELECT source_id, worker_key FROM raw.{name} WHERE worker_key IS NOT NULL"
    for name in ("worker", "worker_event", "worker_snapshot", "task_event", "task")
)
STEPS = 6
#: One by default, as a history takes half a minute of computing; a search is `MP_SEEDS=1,2,3`.
SEEDS = [int(seed) for seed in os.environ.get("MP_SEEDS", "3").split(",")]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process whose time zone a test sets."""
    with monkeypatch.context() as patch:
        yield patch
    time.tzset()


def _derived(pipe: Pipeline) -> dict[str, Counter[str]]:
    """Rows of all marts and of the core, as text, without bookkeeping."""
    with pipe.warehouse.reader("test") as con:
        names = con.execute(
            "SELECT 'mart.' || table_name FROM information_schema.tables WHERE table_schema = 'mart' ORDER BY 1"
        ).fetchall()
        found = {}
        for name in [*(row[0] for row in names), *(n for n in CORE_DDL if n != "core.endpoint_key")]:
            cursor = con.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            found[name] = Counter(repr([(k, v) for k, v in row.items() if k not in BOOKKEEPING]) for row in rows)
    return found


def _days(pipe: Pipeline) -> Iterator[datetime]:
    with pipe.warehouse.reader("test") as con:
        row = con.execute("SELECT min(origin) FROM meta.source_state").fetchone()
    assert row is not None
    day = row[0]
    while day <= pipe.clock.now():
        yield day
        day += DAY


def _work_off(pipe: Pipeline) -> None:
    """What the sensors would request until nothing is due."""
    for _ in range(40):
        done, left = pipeline.compute_due(pipe), pipeline.backlog(pipe)
        for hour in left.hours:
            list(pipeline.compute_range(pipe, HOUR_TABLES, hour, hour + HOUR))
        if not (done.hours_left or done.days_left or left.hours):
            break
    for day in _days(pipe):
        list(pipeline.compute_range(pipe, DAY_TABLES, day, day + DAY))


def _at_once(pipe: Pipeline, directory: Path) -> Pipeline:
    """A copy of the store whose derived rows are all forgotten and computed again."""
    with pipe.warehouse.writer("test") as con:
        con.execute("CHECKPOINT")
    directory.mkdir()
    shutil.copy(pipe.warehouse.path, directory / "w.duckdb")
    copy = dataclasses.replace(pipe, warehouse=Warehouse(directory / "w.duckdb", clock=pipe.clock))
    with copy.warehouse.writer("test") as con:
        marts = con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'mart'").fetchall()
        meta = ("dirty_hour", "dirty_day", "window_progress")
        for name in [*CORE_DDL, *(f"mart.{row[0]}" for row in marts), *(f"meta.{name}" for name in meta)]:
            con.execute(f"DELETE FROM {name}")
        con.execute(f"INSERT INTO meta.dirty_task SELECT source_id, task_key, now()::TIMESTAMP FROM ({TASKS})")
        con.execute(
            "INSERT INTO meta.dirty_worker SELECT source_id, worker_key, TIMESTAMP '1970-01-01', now()::TIMESTAMP "
            f"FROM ({WORKERS})"
        )
    pipeline.refresh_core(copy)
    _work_off(copy)
    return copy


@pytest.mark.parametrize("seed", SEEDS)
def test_ticks_end_in_the_rows_of_one_computation(
    mariadb_db: TestDatabase, tmp_path: Path, elsewhere: pytest.MonkeyPatch, seed: int
) -> None:
    """M-803, M-805: late, changed, deleted and late committed rows of all families, reconciled in between, in two zones."""
    elsewhere.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    elsewhere.setenv(VARIABLE, mariadb_db.dsn)
    rng = random.Random(seed)
    history = RandomHistory(mariadb_db, rng)
    settings = settings_for(tmp_path, None, MAPPING.format(zone="America/New_York"), "checks: {settle_s: 200}")
    now = datetime(2026, 2, 2, 1, 40)
    clock = FixedClock(now)
    pipe = Pipeline.of(settings, clock)
    for number in range(STEPS):
        clock.instant = now
        history.step(now)
        pipeline.tick(pipe)
        if number % 3 == 2:
            clock.instant = now = now + timedelta(seconds=5)
            pipeline.reconcile(pipe, now.date())
        now += timedelta(seconds=rng.choice([30, 60, 60, 95, 240, 700]))
    history.commit(everything=True)
    clock.instant = now + timedelta(seconds=700)
    pipeline.tick(pipe)
    _work_off(pipe)
    ticked, fresh = _derived(pipe), _derived(_at_once(pipe, tmp_path / "copy"))
    assert {
        name: (rows - fresh[name], fresh[name] - rows) for name, rows in ticked.items() if rows != fresh[name]
    } == {}
    assert ticked["core.task_attempt"]
    assert ticked["mart.endpoint_minute_stats"]
