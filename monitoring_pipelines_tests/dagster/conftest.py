"""A small platform in SQLite, loaded once; every test works on its own copy.

The clock stands still, so results do not depend on when or how fast a test runs.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import DagsterInstance

from monitoring_pipelines import pipeline
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.demo import scale
from monitoring_pipelines.demo.generate import generate

#: The history ends here. Ticks of the tests happen later, on rows that are there from the start.
NOW = datetime(2025, 3, 10, 12, 20)
HOURS = 7
SCALE = replace(scale.SMALL, platform_only=True, endpoints=3, workers=4, tasks_per_minute=2.0)
CONFIG = """\
version: 1
timezone: Asia/Shanghai
stats: {{start: 2025-03-01}}
sources:
  - id: shop
    preset: waverless
    read_dsn_file: {folder}/shop.dsn
"""
HISTORY = ("revision", "first_closed_at", "restated_at", "frozen")


@dataclass
class Site:
    """A directory with configuration, source and data, and everything a test asks of it."""

    root: Path
    clock: FixedClock

    @property
    def config(self) -> Path:
        return self.root / "monitoring.yaml"

    @property
    def source(self) -> Path:
        return self.root / "waverless.db"

    def write_config(self) -> None:
        (self.root / "shop.dsn").write_text(f"sqlite:///{self.source}\n")
        self.config.write_text(CONFIG.format(folder=self.root))

    @property
    def settings(self):
        return load_settings(self.config)

    @property
    def pipe(self) -> pipeline.Pipeline:
        return pipeline.Pipeline.of(self.settings, self.clock)

    def defs(self):
        return build_defs(settings=self.settings, clock=self.clock)

    def job(self, name: str):
        return self.defs().resolve_job_def(name)

    def query(self, sql: str, parameters=None) -> list[tuple]:
        with self.pipe.warehouse.reader("test") as con:
            return con.execute(sql, parameters or []).fetchall()

    def write(self, sql: str, parameters=None) -> None:
        with self.pipe.warehouse.writer("test") as con:
            con.execute(sql, parameters or [])

    def marts(self) -> dict[str, list[tuple]]:
        """All statistics without the columns that tell their history."""
        tables = (*pipeline.HOUR_TABLES, *pipeline.DAY_TABLES)
        return {t: self.query(f"SELECT * EXCLUDE ({', '.join(HISTORY)}) FROM {t} ORDER BY ALL") for t in tables}


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and source, nothing extracted yet."""
    root = tmp_path_factory.mktemp("blank")
    made = generate(HOURS / 24, 7, NOW, scale=SCALE, folder=root)
    made.world.close()
    return root


@pytest.fixture(scope="session")
def loaded(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after its first tick."""
    root = tmp_path_factory.mktemp("loaded") / "site"
    shutil.copytree(blank, root)
    site = Site(root, FixedClock(NOW))
    site.write_config()
    pipeline.tick(site.pipe)
    return root


def _copy(of: Path, to: Path) -> Site:
    shutil.copytree(of, to)
    site = Site(to, FixedClock(NOW))
    site.write_config()
    return site


@pytest.fixture
def new_site(blank: Path, tmp_path: Path) -> Site:
    return _copy(blank, tmp_path / "site")


@pytest.fixture
def site(loaded: Path, tmp_path: Path) -> Site:
    return _copy(loaded, tmp_path / "site")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def hour(n: int) -> datetime:
    """The n-th hour before the one in which the history ends."""
    return NOW.replace(minute=0) - timedelta(hours=n)


def add_late_task(source: Path, at: datetime, key: str) -> None:
    """A task that was created and completed at ``at`` and whose rows appear only now."""
    import sqlite3

    with sqlite3.connect(source) as con:
        endpoint, worker = con.execute("SELECT endpoint, worker_id FROM tasks WHERE worker_id <> '' LIMIT 1").fetchone()
        text = [(at + timedelta(seconds=s)).isoformat(sep=" ", timespec="milliseconds") for s in (0, 2, 9)]
        con.execute(
            "INSERT INTO tasks(task_id, endpoint, status, worker_id, created_at, started_at, completed_at, updated_at) "
            "VALUES (?, ?, 'COMPLETED', ?, ?, ?, ?, ?)",
            (key, endpoint, worker, *text, text[2]),
        )
        for number, (kind, when) in enumerate(
            zip(("TASK_CREATED", "TASK_ASSIGNED", "TASK_COMPLETED"), text, strict=True)
        ):
            con.execute(
                "INSERT INTO task_events(event_id, task_id, endpoint, event_type, event_time, worker_id) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (f"{key}-{number}", key, endpoint, kind, when, worker if number else ""),
            )
    con.close()


def connect_lake(site: Site) -> duckdb.DuckDBPyConnection:
    from monitoring_pipelines.warehouse.lake import Lake

    return Lake(site.settings.lake_path).connect()
