"""A small platform with tasks and outputs in SQLite, read by the real pipeline: what the check jobs are tested on.

What belongs here: rows and configuration. What does not: expectations.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.state import StateStore

NOW = datetime(2025, 3, 10, 12, 0)
TABLES = """
create table tasks (task_id varchar(50) primary key, workflow_id varchar(50), status varchar(20),
  runninghub_task_id varchar(64), created_at datetime, started_at datetime, completed_at datetime, timeout_at datetime);
create table task_outputs (id integer primary key, task_id varchar(36), node_id varchar(50), name varchar(255),
  file_type varchar(20), file_size bigint, file_url text, created_at datetime);
"""
CONFIG = """\
version: 1
timezone: Asia/Shanghai
language: en
stats: {{start: 2025-03-08, backfill_days: 2}}
sources:
  - {{id: shop, preset: tktool, read_dsn_file: {root}/shop.dsn}}
"""


@dataclass
class OutputsSite:
    root: Path
    clock: FixedClock

    @classmethod
    def make(cls, root: Path, extra: str = "") -> OutputsSite:
        root.mkdir(parents=True, exist_ok=True)
        (root / "shop.dsn").write_text(f"sqlite:///{root / 'shop.db'}\n")
        (root / "monitoring.yaml").write_text(CONFIG.format(root=root) + extra)
        with sqlite3.connect(root / "shop.db") as con:
            con.executescript(TABLES)
        con.close()
        return cls(root, FixedClock(NOW))

    @property
    def config(self) -> Path:
        return self.root / "monitoring.yaml"

    @property
    def settings(self):
        return load_settings(self.config)

    @property
    def pipe(self) -> Pipeline:
        return Pipeline.of(self.settings, self.clock)

    @property
    def state(self) -> StateStore:
        return StateStore.of(self.settings)

    def defs(self):
        return build_defs(settings=self.settings, clock=self.clock)

    def job(self, name: str):
        return self.defs().resolve_job_def(name)

    def tasks(self, count: int, complete: int, end: datetime, prefix: str = "t") -> None:
        """``count`` succeeded tasks that ended one second apart before ``end``; the first ``complete`` have an output."""
        with sqlite3.connect(self.root / "shop.db") as con:
            for number in range(count):
                at = end - timedelta(seconds=count - number)
                times = [(at - timedelta(seconds=s)).isoformat(sep=" ") for s in (30, 20, 0)]
                con.execute(
                    "insert into tasks values (?, 'w', 'SUCCESS', ?, ?, ?, ?, null)",
                    (f"{prefix}{number}", f"r{number}", *times),
                )
                if number < complete:
                    con.execute(
                        "insert into task_outputs (task_id, node_id, name, file_type, file_size, file_url, created_at) "
                        "values (?, '1', 'f', 'png', 10, ?, ?)",
                        (f"{prefix}{number}", f"http://files/{prefix}{number}", times[2]),
                    )
        con.close()
