"""A small task tool on a real server with lost outputs, and the result service that still has them.

What belongs here: tables, rows, configuration and the steps tests repeat. What does not: expectations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.compensation.approve import approve
from monitoring_pipelines.compensation.fake_api import API_KEY, FakeResultApi
from monitoring_pipelines.compensation.journal import ddl
from monitoring_pipelines.compensation.model import PlanRequest
from monitoring_pipelines.compensation.plan import Planner
from monitoring_pipelines.compensation.runs import Applier
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.state import StateStore

NOW = datetime(2026, 2, 1, 12, 0, 0)
DAY = (NOW - timedelta(hours=12), NOW)

TABLES = """
create table tasks (task_id varchar(50) collate utf8mb4_bin primary key, workflow_id varchar(50), status varchar(20),
  runninghub_task_id varchar(64), task_description text, created_at datetime(3), started_at datetime(3),
  completed_at datetime(3), timeout_at datetime(3), key (status, completed_at), key (completed_at));
create table task_outputs (id bigint auto_increment primary key, task_id varchar(36) not null, node_id varchar(50),
  name varchar(255), file_url text, file_type varchar(50), file_size bigint, local_path varchar(500),
  thumbnail_path varchar(500) not null, created_at datetime(3) not null, seen_at timestamp(6) not null default current_timestamp(6),
  key (task_id));
create table unrelated (id int primary key, text varchar(20));
insert into unrelated values (1, 'one'), (2, 'two');
"""
JOURNAL = "mp_journal_test"


def config(directory: Path, repair: str = "", source: str = "", head: str = "") -> Settings:
    """A configuration with the source ``shop`` (preset tktool) and the RunningHub recoverer ``rh``."""
    path = directory / "monitoring.yaml"
    extra = "".join(f"  {line}\n" for line in repair.splitlines())
    own = "".join(f"    {line}\n" for line in source.splitlines())
    path.write_text(
        f"version: 1\ntimezone: UTC\n{head}\n"
        "repair:\n"
        "  recoverers: [{id: rh, kind: http_result, preset: runninghub, base_url_env: RH_URL, api_key_env: RH_KEY, "
        "allow_http: true}]\n"
        "  rate_per_s: null\n  batch_pause_s: 0\n  backoff_s: [0]\n"
        f"{extra if 'journal_schema' in extra else extra + '  journal_schema: ' + JOURNAL + chr(10)}"
        "sources:\n  - id: shop\n    preset: tktool\n    read_dsn_env: SHOP_READ\n    repair_dsn_env: SHOP_REPAIR\n"
        f"{own}",
        "utf-8",
    )
    return load_settings(path)


@dataclass
class Shop:
    """The platform of one test."""

    db: Any
    api: FakeResultApi
    directory: Path
    settings: Settings
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    _state: StateStore | None = None

    @property
    def state(self) -> StateStore:
        if self._state is None:
            self._state = StateStore.of(self.settings)
        return self._state

    def configure(self, repair: str = "", source: str = "", head: str = "") -> None:
        self.settings = config(self.directory, repair, source, head)

    def create(self) -> None:
        self.db.script(TABLES)
        for statement in ddl(self.settings, "mysql"):
            self.db.execute(statement)

    def task(self, key: str, *, status: str = "SUCCESS", remote: str | None = "auto", outputs: int = 1,
             ended: datetime | None = None) -> None:  # fmt: skip
        """A task whose outputs the service knows; the table has none of them."""
        ended = ended or NOW - timedelta(hours=2)
        remote = f"r-{key}" if remote == "auto" else remote
        self.db.execute(
            "insert into tasks (task_id, workflow_id, status, runninghub_task_id, task_description, created_at, started_at,"
            " completed_at) values (%s, 'wf', %s, %s, 'secret text', %s, %s, %s)",
            [key, status, remote, ended - timedelta(minutes=5), ended - timedelta(minutes=4), ended],
        )
        if remote is not None:
            self.api.results[remote] = [self.entry(key, n) for n in range(outputs)]

    @staticmethod
    def entry(key: str, number: int = 0) -> dict[str, Any]:
        return {
            "fileUrl": f"https://files.example.net/{key}/{number}.png?sign=abc{number}", "fileType": "png",
            "nodeId": str(9 + number), "taskCostTime": "12", "consumeCoins": None,
        }  # fmt: skip

    def output(self, key: str, number: int = 0, connection: Any = None) -> None:
        """The output row as the application writes it."""
        entry = self.entry(key, number)
        sql = (
            "insert into task_outputs (task_id, node_id, name, file_url, file_type, file_size, thumbnail_path, created_at)"
            " values (%s, %s, %s, %s, 'png', 10, '', %s)"
        )
        args = [key, entry["nodeId"], f"{number}.png", entry["fileUrl"].replace("sign=abc", "sign=other"), NOW]
        if connection is None:
            self.db.execute(sql, args)
        else:
            with connection.cursor() as cursor:
                cursor.execute(sql, args)

    def planner(self) -> Planner:
        return Planner(self.settings, self.state, self.clock, sleep=lambda _: None)

    def applier(self) -> Applier:
        return Applier(self.settings, self.state, self.clock, sleep=lambda _: None)

    def plan(self, **request: Any) -> dict[str, Any]:
        if "task_ids" not in request and "window_from" not in request:
            request |= {"window_from": DAY[0], "window_to": DAY[1]}
        return self.planner().make(PlanRequest("shop", **request), "ann")

    def approved(self, **request: Any) -> dict[str, Any]:
        plan = self.plan(**request)
        approve(self.settings, self.state, self.clock, plan["plan_id"], "bob", placeholders=True)
        return plan

    def rows(self, columns: str = "task_id, node_id, name, file_url, file_type, file_size, local_path, thumbnail_path, "
             "created_at") -> list[tuple[Any, ...]]:  # fmt: skip
        return self.db.execute(f"select {columns} from task_outputs order by id")

    @contextmanager
    def statement_log(self) -> Iterator[list[str]]:
        """What the sessions that are opened for this database within the block send, filled in at its end."""
        sent: list[str] = []
        for statement in ("log_output = 'TABLE'", "general_log = 1"):
            self.db.execute(f"set global {statement}")
        try:
            yield sent
        finally:
            self.db.execute("set global general_log = 0")
        rows = self.db.execute(
            "select argument from mysql.general_log where command_type in ('Query', 'Execute') and thread_id in (select "
            "thread_id from mysql.general_log where command_type = 'Connect' and argument like %s)",
            [f"% on {self.db.name} %"],
        )
        packets = [row[0].decode() if isinstance(row[0], bytes) else row[0] for row in rows]
        # MariaDB logs what is sent together as one line, MySQL statement by statement.
        sent += [text.strip(" \n;") for packet in packets for text in packet.split("; ")]

    def journal(self, where: str = "1 = 1") -> list[tuple[Any, ...]]:
        return self.db.execute(
            f"select op, task_key, natural_key, state, rolled_back_by, run_id from `{JOURNAL}`.repair_journal "
            f"where {where} order by journal_id"
        )


def environment(monkeypatch: Any, api: FakeResultApi, read_dsn: str, repair_dsn: str | None = None) -> None:
    """The secrets the configuration names."""
    monkeypatch.setenv("RH_URL", api.url)
    monkeypatch.setenv("RH_KEY", API_KEY)
    monkeypatch.setenv("SHOP_READ", read_dsn)
    monkeypatch.setenv("SHOP_REPAIR", repair_dsn or read_dsn)
