"""Rules over tasks as they are now (C-107, C-311, C-312, C-320).

What belongs here: conditions on waiting, running and ended tasks of mapped sources. What does not: completeness of
outputs and the other checks, which run on their own schedule (``quality``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.alerts.rules.queries import Row, rows
from monitoring_pipelines.alerts.rules.scope import Scope, seconds
from monitoring_pipelines.quality import flow

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.config.schema import SourceSettings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Rules by what they read.
READ_TOGETHER = (
    ("tasks.backlog", "tasks.queue_wait"),
    ("tasks.long_running",),
    ("tasks.failure_rate", "tasks.success_rate"),
    ("tasks.timeouts",),
)
RULES = tuple(rule for group in READ_TOGETHER for rule in group)


@dataclass
class Tasks:
    """Figures per source."""

    waiting: dict[str, Row] = field(default_factory=dict)
    running: dict[str, Row] = field(default_factory=dict)
    ended: dict[str, Row] = field(default_factory=dict)
    looked: bool = False

    def recall(self, con: Connection, scope: Scope) -> None:
        """Thresholds are in the rules."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Waiting, running and ended tasks, as far as a rule in force asks for them."""
        if not {"core.task_wait", "core.task_attempt", "core.task_instant"} <= scope.tables:
            return
        limit = scope.rules["tasks.long_running"].levels[0].threshold or 0
        times: dict[str, Any] = {
            "now": scope.now,
            "hour_ago": scope.now - HOUR,
            "day_ago": scope.now - DAY,
            "long_before": scope.now - timedelta(seconds=limit),
        }
        for name, found, rules in (
            ("waiting_tasks", self.waiting, ("tasks.backlog", "tasks.queue_wait")),
            ("open_attempts", self.running, ("tasks.long_running", "tasks.timeouts")),
            ("ended_attempts", self.ended, ("tasks.failure_rate", "tasks.success_rate", "tasks.timeouts")),
        ):
            if scope.is_on(*rules):
                found.update({row["source_id"]: row for row in rows(con, name, **times)})
        self.looked = True

    def judge(self, scope: Scope) -> None:
        """Every source that maps tasks and is being read."""
        if not self.looked:
            return
        for source in _read_sources(scope):
            self._judge_waiting(scope, source.id)
            self._judge_running(scope, source.id)
            self._judge_ended(scope, source.id)
            self._judge_timeouts(scope, source)
        scope.complete.update(RULES)

    def _judge_waiting(self, scope: Scope, source_id: str) -> None:
        row = self.waiting.get(source_id, {"n": 0, "oldest_at": None, "task_keys": []})
        scope.judge("tasks.backlog", source_id, {}, row["n"], task_ids=row["task_keys"])
        age = seconds(scope.now - row["oldest_at"]) if row["oldest_at"] else 0
        scope.judge("tasks.queue_wait", source_id, {}, age, task_ids=row["task_keys"])

    def _judge_running(self, scope: Scope, source_id: str) -> None:
        row = self.running.get(source_id)
        age = seconds(scope.now - row["oldest_at"]) if row else 0
        details = {"count": row["long_n"]} if row else {}
        scope.judge(
            "tasks.long_running", source_id, {}, age, details=details, task_ids=(row["long_keys"] or ()) if row else ()
        )

    def _judge_ended(self, scope: Scope, source_id: str) -> None:
        """C-312: unfinished tasks are in no rate; without an ended task nothing is judged."""
        row = self.ended.get(source_id)
        completed, bad = (row["completed"], row["failed"] + row["timed_out"]) if row else (0, 0)
        ended = completed + bad
        details = {"completed": completed, "failed": bad, "ended": ended}
        for rule_id, part in (("tasks.failure_rate", bad), ("tasks.success_rate", completed)):
            value = Fraction(part, ended) if ended else None
            scope.judge(rule_id, source_id, {}, value, details=details, missing="insufficient_data")

    def _judge_timeouts(self, scope: Scope, source: SourceSettings) -> None:
        """C-320: over their limit (mode source), or ended by it within the last hour (mode derive)."""
        if source.timeouts.mode == "source":
            row = self.running.get(source.id) or {"over_n": 0, "over_keys": None}
            count, keys = row["over_n"], row["over_keys"]
        elif source.timeouts.mode == "derive":
            row = self.ended.get(source.id) or {"derived": 0, "derived_keys": None}
            count, keys = row["derived"], row["derived_keys"]
        else:
            scope.say("tasks.timeouts", source.id, {}, "not_applicable")
            return
        scope.judge("tasks.timeouts", source.id, {}, count, task_ids=keys or ())


@dataclass
class Flow:
    """C-107 as one more contribution to the alert of the check (A-002)."""

    flow: dict[str, flow.Flow] | None = None

    def recall(self, con: Connection, scope: Scope) -> None:
        """Nothing is stored."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Tasks that ended and outputs that were created in the last hour."""
        if "output_flow" in scope.settings.checks.disabled or "core.task_attempt" not in scope.tables:
            return
        settle = timedelta(seconds=scope.settings.checks.settle_s)
        with_output = con.execute("SELECT source_id FROM meta.source_setting WHERE has_output").fetchall()
        read = {source.id for source in _read_sources(scope)} & {row[0] for row in with_output}
        self.flow = {name: flow.flow(con, name, scope.now, scope.now, settle) for name in sorted(read)}

    def judge(self, scope: Scope) -> None:
        """Every source that maps tasks and is being read."""
        if self.flow is None:
            return
        for source in _read_sources(scope):
            found = self.flow.get(source.id, flow.Flow(0, 0))
            stopped = found.stopped(scope.settings.checks.flow_min_tasks)
            text = scope.word(found.text(chinese=False), found.text(chinese=True))
            observation = Observation(
                "output_flow", source.id, "true" if stopped else "false", "critical", "critical", "output_flow", text,
                value=float(found.outputs), details=found.details() if stopped else {},
            )  # fmt: skip
            scope.observations.append(observation)


def _read_sources(scope: Scope) -> Iterator[SourceSettings]:
    """Sources that map tasks and are being read; nothing new is known of the others."""
    for source in scope.settings.enabled_sources:
        seen = scope.sources.get(source.id)
        if seen and not scope.is_late(seen) and (source.mapped("task") or source.mapped("task_event")):
            yield source
