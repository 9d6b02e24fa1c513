"""What the tests of checks share: rows by one line each, single checks, whole runs.

What belongs here: writing rows and running. What does not: expectations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.quality import registry, runs, thresholds
from monitoring_pipelines.quality.context import CheckContext, Session
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import TKTOOL, settings_for

NOW = datetime(2026, 2, 3, 4, 0, 0)
TASK = {
    "endpoint": "e", "status": "succeeded", "raw_status": "SUCCESS", "output_expected": True, "is_deleted": False,
    "src_table": "tasks", "anomalies": [],
}  # fmt: skip
OUTPUT = {"is_deleted": False, "valid": True, "origin": "app", "src_table": "task_outputs", "anomalies": []}
HASHED = ("task", "task_event", "task_output")


class Store:
    """A warehouse without a source behind it."""

    def __init__(self, directory: Path, preset: str | None, extra: str = "", head: str = "") -> None:
        self.settings = settings_for(directory, preset, extra, head)
        self.clock = FixedClock(NOW)
        self.pipe = Pipeline.of(self.settings, self.clock)
        #: Only tests that set it have a state store: creating one takes longer than a check.
        self.state: StateStore | None = None
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._number = 0

    def add(self, table: str, **row: Any) -> None:
        """One row of any table."""
        self.rows.setdefault(table, []).append({"source_id": "shop"} | row)

    def task(self, key: str, end: datetime | None, outputs: int = 0, **more: Any) -> None:
        """A task that ended at ``end`` with so many valid outputs a second later."""
        created = more.pop("created_at", end - timedelta(seconds=30) if end else None)
        ended = more.pop("ended_at", end)
        self.add("raw.task", task_key=key, created_at=created, ended_at=ended, effective_end=end, **TASK | more)
        for number in range(outputs):
            self.output(key, end + timedelta(seconds=1) if end else None, natural_key=f"{key}/{number}")

    def output(self, task: str, created: datetime | None, **more: Any) -> None:
        """One output row."""
        self._number += 1
        row = {"natural_key": f"n{self._number}"} | OUTPUT | more
        self.add("raw.task_output", output_key=str(self._number), task_key=task, created_at=created, **row)

    def tasks(self, count: int, complete: int, end: datetime, prefix: str = "t", **more: Any) -> None:
        """``count`` tasks that ended one second apart before ``end``; the first ``complete`` have an output."""
        for number in range(count):
            at = end - timedelta(seconds=count - number)
            self.task(f"{prefix}{number:06d}", at, 1 if number < complete else 0, **more)

    def flush(self) -> None:
        """Write the rows."""
        with self.pipe.warehouse.writer("test") as con:
            ensure_core(con)
            for table, rows in self.rows.items():
                for names in {tuple(row) for row in rows}:
                    same = [list(row.values()) for row in rows if tuple(row) == names]
                    listed = ", ".join(f'"{name}"' for name in names)
                    for at in range(0, len(same), 200):
                        part = same[at : at + 200]
                        places = ", ".join(f"({', '.join('?' * len(names))})" for _ in part)
                        con.execute(
                            f"INSERT INTO {table} ({listed}) VALUES {places}", [value for row in part for value in row]
                        )
                if table.removeprefix("raw.") in HASHED:
                    con.execute(
                        f"UPDATE {table} SET task_hash = md5_number_lower(concat_ws(chr(31), source_id, task_key)) "
                        "WHERE task_hash IS NULL"
                    )
            self.rows = {}

    def check(
        self, check_id: str, hours: float = 24, *, to: datetime | None = None, run_type: str = "full"
    ) -> CheckOutcome:
        """One check of ``shop`` over the hours before ``to`` (default: now)."""
        self.flush()
        end = to or self.clock.now()
        session = Session(self.pipe.warehouse)
        source = self.settings.source("shop")
        try:
            context = CheckContext(
                registry.checks()[check_id], self.settings, source, thresholds.effective(self.settings, self.state),
                self.clock.now(), end - timedelta(hours=hours), end, session, run_type=run_type, state=self.state,
                mapped=runs.mapped_inputs(source, session),
            )  # fmt: skip
            absent = context.check.missing_inputs(context.mapped)
            if absent:
                return context.outcome("not_applicable", message=", ".join(absent))
            return context.check.load()(context)
        finally:
            session.close()


class Platform:
    """Seed 002's tables on a real server, and a product that reads them."""

    def __init__(self, directory: Path, db: TestDatabase, head: str = "", extra: str = "") -> None:
        db.script(TKTOOL)
        self.db = db
        self.settings = settings_for(directory, "tktool", extra, head)
        self.clock = FixedClock(NOW)
        self.pipe = Pipeline.of(self.settings, self.clock)
        self.state = StateStore.of(self.settings)

    def task(self, key: str, end: datetime, outputs: int = 0, status: str = "SUCCESS", **more: Any) -> None:
        """A task that ended at ``end``."""
        row = {
            "task_id": key, "workflow_id": "w", "status": status, "created_at": end - timedelta(seconds=30),
            "started_at": end - timedelta(seconds=20), "completed_at": end,
        } | more  # fmt: skip
        listed = ", ".join(row)
        self.db.execute(f"insert into tasks ({listed}) values ({', '.join(['%s'] * len(row))})", tuple(row.values()))
        for number in range(outputs):
            self.output(key, end + timedelta(seconds=1), number)

    def output(self, task: str, created: datetime, node: int = 0) -> None:
        """One output row."""
        self.db.execute(
            "insert into task_outputs (task_id, node_id, name, file_type, file_size, file_url, created_at) "
            "values (%s, %s, 'f', 'png', 10, %s, %s)",
            (task, str(node), f"http://files/{task}/{node}", created),
        )

    def run(self, run_type: Any = "quick", **more: Any) -> CheckRun:
        """One check run."""
        return runs.execute(self.pipe, self.state, run_type, **more)
