"""A product without a platform: state store, warehouse and a clock that stands still; tests write the samples."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.alerts.rules import evaluate
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.collect.answers import Row
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.state import StateStore, collected
from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import component_heartbeat

START = datetime(2026, 2, 1, 6, 0)


@dataclass
class World:
    """One installation. Times are seconds after ``START``."""

    root: Path
    settings: Settings
    state: StateStore
    clock: FixedClock

    @property
    def pipe(self) -> Pipeline:
        return Pipeline.of(self.settings, self.clock)

    def configure(self, **blocks: Any) -> None:
        (self.root / "monitoring.yaml").write_text(json.dumps({"version": 1, **blocks}))
        self.settings = load_settings(self.root / "monitoring.yaml")

    def at(self, second: float) -> datetime:
        return START + timedelta(seconds=second)

    def collect(self, second: float, *rows: tuple[str, str, dict[str, Any]]) -> None:
        """Store what the built-in collectors would have: (entity, key, values) rows of source ``collector``."""
        at = self.at(second)
        made = [Row("collector", entity, key, at, {**values, "at": at}) for entity, key, values in rows]
        collected.store(self.state, made, at, 15)

    def scrape(self, second: float, up: bool = True, **series: float) -> None:
        """A scrape of target ``collector`` with counters."""
        rows = [
            (
                "probe_result",
                "scrape:collector",
                {"target": "collector", "kind": "scrape", "up": up, "http_status": 200 if up else None},
            )
        ]
        rows += [
            (
                "ingest_counter",
                f"collector/{name}/ok",
                {"process_id": "collector", "series": name, "kind": "ok", "value": value},
            )
            for name, value in series.items()
        ]
        self.collect(second, *rows)

    def process(self, second: float, name: str = "collector", **figures: Any) -> None:
        """A sample of a process."""
        self.collect(second, ("process_sample", name, {"process_id": name, "scope": "process", **figures}))

    def beat(self, component: str, second: float, period_s: float) -> None:
        row = {"component": component, "at": self.at(second), "period_s": period_s, "process_id": "h:1", "version": "1"}
        with self.state.begin() as con:
            upsert(con, component_heartbeat, [row])

    def put(self, table: str, *rows: dict[str, Any]) -> None:
        """Rows into a warehouse table; seconds after START may stand for instants of ``at``-like columns."""
        with self.pipe.warehouse.writer("test") as con:
            for row in rows:
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join("?" * len(row))
                con.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))

    def read_source(self, second: float, source_id: str = "shop", **more: Any) -> None:
        """An extraction of ``source_id`` that began then and succeeded."""
        with self.pipe.warehouse.writer("test") as con:
            con.execute("DELETE FROM meta.source_state WHERE source_id = ?", [source_id])
        self.put("meta.source_state", {"source_id": source_id, "as_of": self.at(second), **more})

    def tick(self, second: float) -> list[Observation]:
        """All rules at that instant."""
        self.clock.instant = self.at(second)
        said = evaluate(self.pipe, self.state, self.at(second))
        broken = [
            o
            for o in said
            if o.type == "self.check_error" and o.labels.get("check", "").startswith("rules") and o.condition != "false"
        ]
        assert not broken, broken
        return said

    def say(self, second: float, rule: str, **labels: str) -> Observation | None:
        """What a rule says at that instant of the scope with these labels; the newest if it says several things."""
        return find(self.tick(second), rule, **labels)


def find(observations: list[Observation], rule: str, **labels: str) -> Observation | None:
    found = [o for o in observations if o.type == rule and all(o.labels.get(k) == v for k, v in labels.items())]
    return found[-1] if found else None


COLLECTOR = {
    "scrapes": [
        {"target": "collector", "url": "http://127.0.0.1:9/metrics", "interval_s": 15, "series": {"ok": "n_total"}}
    ],
    "probes": [{"target": "page", "url": "http://127.0.0.1:9/health", "interval_s": 30}],
}
SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state store with its tables; every test gets a copy, because migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    store = StateStore(f"sqlite:///{path}")
    store.engine()
    store.dispose()
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def world(tmp_path: Path, empty_state: Path) -> Iterator[World]:
    shutil.copy(empty_state, tmp_path / "state.sqlite3")
    state = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    world = World(tmp_path, Settings(), state, FixedClock(START))
    world.configure(paths={"data": str(tmp_path), "logs": str(tmp_path)}, language="en", **COLLECTOR)
    yield world
    state.dispose()


@pytest.fixture
def warehouse_world(world: World) -> World:
    """The same with a warehouse that has its tables."""
    with world.pipe.warehouse.writer("test"):
        pass
    return world
