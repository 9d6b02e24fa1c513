"""A store, a receiver and a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from monitoring_pipelines.alerts import engine, outbox
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.quality.model import Finding
from monitoring_pipelines.state import StateStore, tables
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines_tests.support.receiver import Receiver

T0 = datetime(2026, 2, 1, 6, 0, 0)
CONFIG = """\
version: 1
timezone: Asia/Shanghai
language: en
alerts:
  group_wait_s: {group_wait}
  routes:
    critical: {{channels: [{critical}], repeat_s: {critical_repeat}}}
    warning: {{channels: [{warning}], repeat_s: {repeat}}}
{alerts}
channels:
  - {{id: ops, type: dingtalk, webhook_file: ops.url, secret_file: ops.secret{ops}}}
{more}
"""


@dataclass
class World:
    """Everything one timeline needs. Seconds count from ``T0``."""

    root: Path
    clock: FixedClock
    ops: Receiver
    config: dict[str, str]
    state: StateStore
    truth: dict[str, Observation] = field(default_factory=dict)
    ticked: float = -1.0
    _settings: Any = None
    _loaded: str | None = None

    @property
    def settings(self) -> Any:
        text = CONFIG.format(
            **(
                {
                    "group_wait": "10",
                    "warning": "ops",
                    "critical": "ops",
                    "critical_repeat": "600",
                    "repeat": "7200",
                    "alerts": "",
                    "ops": "",
                    "more": "",
                }
                | self.config
            )
        )
        path = self.root / "monitoring.yaml"
        if self._loaded != text:
            path.write_text(text)
            self._settings, self._loaded = load_settings(path), text
        return self._settings

    @property
    def now(self) -> float:
        return (self.clock.now() - T0).total_seconds()

    def says(
        self, type_: str = "target.down", condition: str = "true", severity: str = "critical", *, for_s: float = 0.0,
        **more: Any,
    ) -> Observation:  # fmt: skip
        """From now on the rule ``type_`` says ``condition`` at every tick."""
        labels = more.pop("labels", {"target": "collector"})
        values = {"source_id": "collector", "alertname": type_, "message": f"{type_} is wrong", "service": "collector"}
        seen = Observation(
            type=type_, condition=condition, severity=severity, severity_label=severity, labels=labels, for_s=for_s,
            **(values | more),
        )  # fmt: skip
        self.truth[seen.fingerprint] = seen
        return seen

    def forgets(self) -> None:
        self.truth.clear()

    def tick(self) -> engine.Evaluation:
        return engine.apply(self.settings, self.state, self.clock.now(), list(self.truth.values()))

    def run(self, until: float) -> None:
        """Ticks every 30 s and dispatches at due instants, up to and including ``until``."""
        while True:
            step = max(self.ticked + 30, self.now) if self.ticked >= 0 else self.now
            due = outbox.next_due(self.state, self.settings, self.clock.now())
            soon = (due - T0).total_seconds() if due is not None else float("inf")
            soon = max(soon, self.now)
            if min(step, soon) > until:
                self.clock.instant = T0 + timedelta(seconds=until)
                return
            self.clock.instant = T0 + timedelta(seconds=min(step, soon))
            if step <= soon:
                self.tick()
                self.ticked = step
            outbox.dispatch(self.settings, self.state, self.clock)

    @property
    def sent(self) -> list[tuple[float, str]]:
        """Instants and titles of all posts."""
        return [((r.at - T0).total_seconds(), r.title) for r in self.ops.requests]

    @property
    def instants(self) -> list[float]:
        return [at for at, _ in self.sent]

    def rows(self, table: Any, *order: str) -> list[dict[str, Any]]:
        with self.state.read() as con:
            query = select(table)
            for name in order:
                query = query.order_by(table.c[name])
            return [dict(row) for row in con.execute(query).mappings()]

    def alerts(self) -> list[dict[str, Any]]:
        return self.rows(tables.alert, "active_at", "alert_id")

    def alert(self, type_: str = "target.down") -> dict[str, Any]:
        return [row for row in self.alerts() if row["type"] == type_][-1]

    def notes(self, **where: Any) -> list[dict[str, Any]]:
        rows = self.rows(tables.notification, "created_at", "notification_id")
        return [row for row in rows if all(row[k] == v for k, v in where.items()) and row["channel"] != "critical_file"]

    def history(self, alert_id: str | None = None) -> list[tuple[str, str | None, str | None]]:
        events = self.rows(tables.alert_event, "at", "event_id")
        return [(e["kind"], e["from_state"], e["to_state"]) for e in events if alert_id in (None, e["alert_id"])]

    def check(
        self, type_: str, *findings: Finding | tuple[str, str], status: str | None = None, check: str = "missing_outputs",
        source: str = "shop", at: float | None = None, metrics: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Store an executed run of one check. A finding may be given as (severity, message)."""
        when = self.clock.now() if at is None else T0 + timedelta(seconds=at)
        full = [
            f if isinstance(f, Finding) else Finding(source, check, "missing_task_outputs", f[0], f[1], when)  # type: ignore[arg-type]
            for f in findings
        ]
        run_id = new_id(when)
        outcome = status or ("findings" if full else "passed")
        with self.state.begin() as con:
            con.execute(insert(tables.check_run).values(
                run_id=run_id, type=type_, trigger="schedule", scheduled_at=when, started_at=when, ended_at=when,
                status="error" if outcome == "error" else "issues_detected" if full else "healthy",
                total_alerts=len(full), count=1,
            ))  # fmt: skip
            con.execute(insert(tables.check_result).values(
                run_id=run_id, source_id=source, check_id=check, status=outcome, stale=False, metrics=metrics,
            ))  # fmt: skip
            for seq, f in enumerate(full):
                con.execute(insert(tables.finding).values(
                    run_id=run_id, seq=seq, source_id=f.source_id, check_id=f.check_id, alert_type=f.alert_type,
                    severity=f.severity, labels=f.labels, message=f.message, details=f.details,
                    task_ids=list(f.task_ids), created_at=f.created_at,
                ))  # fmt: skip
        return run_id


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(T0)


@pytest.fixture
def ops(clock: FixedClock) -> Iterator[Receiver]:
    with Receiver(clock) as receiver:
        yield receiver


@pytest.fixture
def make_world(tmp_path: Path, clock: FixedClock, ops: Receiver) -> Iterator[Any]:
    made: list[World] = []

    def make(url: str | None = None, **config: str) -> World:
        (tmp_path / "ops.url").write_text(f"{ops.url}/robot/send?access_token=tok-0815")
        (tmp_path / "ops.secret").write_text("SECexample0815")
        world = World(tmp_path, clock, ops, config, StateStore(url or f"sqlite:///{tmp_path}/state.sqlite3"))
        if url is None:  # tests do not pull the plug of the machine
            event.listen(world.state.engine(), "connect", lambda con, _: con.execute("PRAGMA synchronous = OFF"))
            world.state.engine().dispose()
        made.append(world)
        return world

    yield make
    for world in made:
        world.state.dispose()


@pytest.fixture
def world(make_world: Any) -> World:
    return make_world()
