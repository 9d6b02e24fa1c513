"""The product watching its own results: coverage, aggregation, checks, plausibility (C-503 to C-511).

What belongs here: conditions on what the product computed. What does not: heartbeats, reading and storage (``own``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from monitoring_pipelines.alerts.rules.queries import Row, rows
from monitoring_pipelines.alerts.rules.scope import Scope, SourceSeen, exact, seconds
from monitoring_pipelines.alerts.rules.table import Level
from monitoring_pipelines.collect.own import SELF
from monitoring_pipelines.cron import Cron
from monitoring_pipelines.severity import BandLimits, severity_of
from monitoring_pipelines.state.tables import check_run, self_job_run

if TYPE_CHECKING:
    import duckdb

HOUR = timedelta(hours=1)
RUN_TYPES = ("quick", "full", "deep")
#: The job that aggregates every minute.
TICK_JOB = "minute_tick_job"
#: Fewer expected snapshots than this say nothing about coverage (C-503).
LEAST_EXPECTED = 10
#: Fewer anomalies than this are no alert, whatever their share (C-511).
LEAST_ANOMALIES = 10
#: What is computed has no rows that are read: its anomalies are measured against the rows it is made of.
_MADE_OF = {"task_attempt": ("task_event", "task")}
_CLOSED_RULES = (
    "self.snapshot_coverage", "self.snapshot_gap", "self.aggregation", "self.plausibility", "self.anomalies",
)  # fmt: skip


@dataclass
class OwnResults:
    """What runs, checks and statistics say of themselves."""

    runs: tuple[int, int] = (0, 0)
    checks: dict[str, Any] = field(default_factory=dict)
    executed_at: dict[str, datetime] = field(default_factory=dict)
    snapshots: list[Row] = field(default_factory=list)
    implausible: list[Row] = field(default_factory=list)
    anomalies: list[Row] = field(default_factory=list)
    events: dict[tuple[str, str], int] = field(default_factory=dict)
    looked: bool = False

    def recall(self, con: Connection, scope: Scope) -> None:
        """Aggregation runs of the last hour and the newest run of each check."""
        run = self_job_run.c
        counted = select(run.outcome, func.count()).where(
            run.job_id == TICK_JOB, run.ended_at > scope.now - HOUR, run.ended_at <= scope.now
        )
        outcomes = {row[0]: row[1] for row in con.execute(counted.group_by(run.outcome))}
        good, bad = outcomes.get("success", 0), outcomes.get("failure", 0) + outcomes.get("timeout", 0)
        self.runs = (good, good + bad)
        for kind in RUN_TYPES:
            done = select(check_run).where(check_run.c.type == kind, check_run.c.ended_at.is_not(None))
            row = con.execute(done.order_by(check_run.c.scheduled_at.desc()).limit(1)).mappings().first()
            if row is not None:
                self.checks[kind] = dict(row)

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Snapshots, minutes that contradict themselves, anomalies."""
        since = scope.now - HOUR
        if "mart.endpoint_minute_stats" in scope.tables:
            if scope.is_on("self.snapshot_coverage", "self.snapshot_gap"):
                self.snapshots = rows(con, "snapshot_state")
            if scope.is_on("self.plausibility"):
                self.implausible = rows(con, "implausible_minutes")
        if scope.is_on("self.anomalies"):
            self.anomalies = rows(con, "anomalies", since=since, now=scope.now)
            for entity in {row["entity"] for row in self.anomalies}:
                for read in _MADE_OF.get(entity, (entity,)):
                    self._count(con, scope, entity, read, since)
        self.looked = True

    def _count(self, con: duckdb.DuckDBPyConnection, scope: Scope, entity: str, read: str, since: datetime) -> None:
        """Rows of ``read`` first seen since; of several that ``entity`` is made of the most count."""
        if f"raw.{read}" not in scope.tables:
            return
        counted = con.execute(
            f'SELECT source_id, count(*) FROM raw."{read}" WHERE first_seen_at > ? AND first_seen_at <= ? GROUP BY source_id',
            [since, scope.now],
        )
        for source_id, count in counted.fetchall():
            self.events[source_id, entity] = max(count, self.events.get((source_id, entity), 0))

    def judge(self, scope: Scope) -> None:
        """All of them; sources that are not read keep their state."""
        self._judge_runs(scope)
        self._judge_checks(scope)
        _judge_config(scope)
        if not self.looked:
            return
        for row in self.snapshots:
            _judge_snapshots(scope, row)
        for source in scope.settings.enabled_sources:
            seen = scope.sources.get(source.id)
            if seen is not None and not scope.is_late(seen):
                _judge_closing(scope, seen)
                self._judge_plausibility(scope, source.id)
        self._judge_anomalies(scope)
        scope.complete.update(_CLOSED_RULES)

    def _judge_runs(self, scope: Scope) -> None:
        """C-505: success rate of the aggregation of the last hour, by the bands of C-002."""
        good, total = self.runs
        if total == 0:
            scope.say("self.aggregation", SELF, {"check": "runs"}, "insufficient_data")
            return
        bands = scope.settings.checks.bands
        severity = severity_of(good, total, BandLimits(bands.healthy, bands.degraded, bands.critical))
        english = f"{total - good} of {total} runs of the last hour failed"
        chinese = f"近一小时 {total} 次运行中 {total - good} 次失败"
        details = {"reason": scope.word(english, chinese)} if severity else None
        scope.say(
            "self.aggregation", SELF, {"check": "runs"}, "true" if severity else "false", severity=severity,
            level=Level(severity or "high"), value=Fraction(100 * good, total), threshold=100,
            details=details,
        )  # fmt: skip

    def _judge_checks(self, scope: Scope) -> None:
        """C-507: a run that crashed, and a run that is overdue by one period."""
        for kind in RUN_TYPES:
            last = self.checks.get(kind)
            labels = {"check": kind}
            if last is None:
                scope.say("self.check_error", SELF, labels, "insufficient_data")
                continue
            reason = None
            if last["status"] == "error":
                reason = last["error"] or scope.word("the last run ended with an error", "上次运行出错")
            cron, zone = Cron.parse(getattr(scope.settings.checks, kind).cron), scope.settings.timezone
            period = cron.period(last["scheduled_at"], zone)
            due = cron.next(last["scheduled_at"], zone)
            if period is not None and due is not None and scope.now - due >= period:
                at = f"{due:%Y-%m-%d %H:%M} UTC"
                reason = scope.word(f"the run due at {at} has not been made", f"应于 {at} 进行的运行没有进行")
            details = {"reason": reason, "run_id": last["run_id"]} if reason else None
            scope.say("self.check_error", SELF, labels, "true" if reason else "false", details=details)

    def _judge_plausibility(self, scope: Scope, source_id: str) -> None:
        found = [row for row in self.implausible if row["source_id"] == source_id]
        count = sum(row["n"] for row in found)
        details = None
        if found:
            worst = max(found, key=lambda row: row["n"])
            details = {
                "reason": worst["reason"],
                "by_reason": {row["reason"]: row["n"] for row in found},
                "first": [{"endpoint": r["endpoint"], "minute": r["stat_minute"]} for r in found],
            }
        scope.say("self.plausibility", source_id, {}, "true" if count else "false", value=count, details=details)

    def _judge_anomalies(self, scope: Scope) -> None:
        """C-511: more than one percent of the rows, and ten at least."""
        limit = scope.rules["self.anomalies"].levels[0].threshold or 0
        for row in self.anomalies:
            events = self.events.get((row["source_id"], row["entity"]), 0)
            many = row["n"] >= LEAST_ANOMALIES and 100 * row["n"] > exact(limit) * events
            details = {"count": row["n"], "events": events, "entity": row["entity"]} if many else None
            scope.say(
                "self.anomalies", row["source_id"], {"kind": row["kind"], "entity": row["entity"]},
                "true" if many else "false", value=Fraction(100 * row["n"], events) if events else None,
                details=details,
            )  # fmt: skip


def _judge_snapshots(scope: Scope, row: Row) -> None:
    """C-503 and C-504."""
    seen = scope.sources.get(row["source_id"])
    if seen is None or seen.as_of is None or scope.is_late(seen):
        return
    expected, received = row["expected"] or 0, row["received"] or 0
    value = Fraction(100 * received, expected) if expected >= LEAST_EXPECTED else None
    details = {"expected": expected, "received": received}
    scope.judge("self.snapshot_coverage", row["source_id"], {}, value, details=details, missing="insufficient_data")
    limit = scope.rules["self.snapshot_gap"].levels[0].threshold or 0
    age = None if row["newest_at"] is None else seconds(seen.as_of - row["newest_at"])
    gap = row["online"] and (age is None or age > limit)
    scope.say(
        "self.snapshot_gap", row["source_id"], {}, "true" if gap else "false", value=age,
        details={"newest_at": row["newest_at"]} if gap else None,
    )  # fmt: skip


def _judge_closing(scope: Scope, seen: SourceSeen) -> None:
    """C-505: the oldest minute that could be closed is still open after five minutes."""
    if seen.closed_through is None or seen.as_of is None:
        scope.say("self.aggregation", seen.source_id, {}, "insufficient_data")
        return
    end = seen.closed_through + timedelta(minutes=1)
    closable_at = end + timedelta(seconds=scope.settings.stats.settle_s)
    age = seconds(scope.now - closable_at) if seen.as_of >= end else 0.0
    limit = scope.rules["self.aggregation"].levels[0].threshold or 0
    behind = age > limit
    minute = f"{seen.closed_through:%Y-%m-%d %H:%M} UTC"
    reason = scope.word(f"the minute from {minute} is not closed", f"从 {minute} 开始的分钟没有关闭")
    scope.say(
        "self.aggregation", seen.source_id, {}, "true" if behind else "false", value=max(age, 0.0),
        details={"reason": reason} if behind else None,
    )  # fmt: skip


def _judge_config(scope: Scope) -> None:
    """C-509: what the configuration asks for and cannot get. Routes without receiver are the alert engine's."""
    for place, text in _problems(scope):
        scope.say("self.config", SELF, {"check": place}, "true", details={"problem": text})
    scope.complete.add("self.config")


def _problems(scope: Scope) -> Iterator[tuple[str, str]]:
    settings = scope.settings
    for kind in RUN_TYPES:
        line = getattr(settings.checks, kind).cron
        if Cron.parse(line).next(scope.now, settings.timezone) is None:
            yield f"checks.{kind}.cron", f"checks.{kind}.cron is never due: {line}"
    mapped = {name for source in settings.enabled_sources for name in source.tables}
    mapped |= {"probe_result", "process_sample"} if settings.scrapes or settings.probes else set()
    mapped |= {"ingest_counter"} if any(scrape.series.ok for scrape in settings.scrapes) else set()
    for change in settings.rules:
        need = _INPUTS.get(change.id.partition(".")[0]) if change.metric is None and change.enabled else None
        if need is not None and not mapped & need:
            yield f"rules.{change.id}", f"rule {change.id} has no input: none of {', '.join(sorted(need))} is mapped"


#: Family of a rule → entities of which it needs at least one. The product's own processes need no mapping.
_INPUTS = {
    "tasks": {"task", "task_event"},
    "jobs": {"job", "job_run"},
    "target": {"probe_result"},
    "ingest": {"ingest_counter"},
    "endpoint": {"task", "task_event", "worker", "worker_snapshot"},
}
