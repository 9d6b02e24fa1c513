"""Rules over jobs and their runs, those of the product included (C-340, C-341).

What belongs here: conditions on registered jobs and their runs. What does not: statistics of jobs (M-50x).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from monitoring_pipelines.alerts.rules.queries import Row, rows
from monitoring_pipelines.alerts.rules.scope import Scope, exact, seconds
from monitoring_pipelines.collect.own import SELF
from monitoring_pipelines.cron import schedule_period

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.severity import Severity

RULES = ("jobs.failing", "jobs.duration_over_sla", "jobs.missed", "jobs.never_ran", "jobs.failure_rate")
#: A run is missed this long after two periods, seconds (C-340).
MISSED_GRACE_S = 300
#: Runs in a day from which a share of failures says something (C-341).
LEAST_RUNS = 20


@dataclass
class Jobs:
    """One row per job."""

    jobs: list[Row] = field(default_factory=list)
    looked: bool = False

    def recall(self, con: Connection, scope: Scope) -> None:
        """Runs of the product's own jobs are read from the warehouse too."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Jobs and runs of all sources."""
        if scope.is_on(*RULES):
            self.jobs = rows(con, "job_runs", now=scope.now, day_ago=scope.now - timedelta(days=1))
            self.looked = True

    def judge(self, scope: Scope) -> None:
        """Every enabled job of a source that is being read; disabled ones are exempt."""
        if not self.looked:
            return
        for job in self.jobs:
            seen = scope.sources.get(job["source_id"])
            if job["enabled"] and (job["source_id"] == SELF or (seen is not None and not scope.is_late(seen))):
                _judge(scope, job)
        scope.complete.update(RULES)


def _judge(scope: Scope, job: Row) -> None:
    source_id, labels = job["source_id"], {"job": job["job_id"]}
    severity: Severity = job["risk_level"]
    if job["last_began_at"] is not None:
        failures = job["failures"]
        details = {"error": job["error_message"], "name": job["name"]} if failures else None
        scope.say(
            "jobs.failing", source_id, labels, "true" if failures else "false", value=failures, severity=severity,
            details=details,
        )  # fmt: skip
        _judge_duration(scope, job, severity)
    _judge_schedule(scope, job, severity)
    runs, failed = job["day_runs"], job["day_failed"]
    if runs >= LEAST_RUNS:
        limit = scope.rules["jobs.failure_rate"].levels[0].threshold or 0
        often = Fraction(failed, runs) >= exact(limit)
        details = {"failed": failed, "runs": runs} if often else None
        scope.say(
            "jobs.failure_rate", source_id, labels, "true" if often else "false", value=Fraction(failed, runs),
            details=details,
        )  # fmt: skip
    else:
        scope.say("jobs.failure_rate", source_id, labels, "insufficient_data")


def _judge_duration(scope: Scope, job: Row, severity: Severity) -> None:
    limit, last = job["sla_seconds"], job["last_duration_ms"]
    if limit is None or last is None:
        return
    over = exact(last) > 1000 * exact(limit)
    scope.say(
        "jobs.duration_over_sla", job["source_id"], {"job": job["job_id"]}, "true" if over else "false",
        value=exact(last) / 1000, threshold=limit, severity=severity,
    )  # fmt: skip


def _judge_schedule(scope: Scope, job: Row, severity: Severity) -> None:
    """Missed: no run for two periods and five minutes; never ran: none within two periods of its registration."""
    period = schedule_period(job["schedule"], scope.now, scope.settings.timezone)
    source_id, labels = job["source_id"], {"job": job["job_id"]}
    if period is None:
        return
    period_s = seconds(period)
    if job["last_began_at"] is not None:
        idle = seconds(scope.now - job["last_began_at"])
        missed = idle > 2 * period_s + MISSED_GRACE_S
        details = {"period_s": period_s, "last_run": job["last_began_at"]} if missed else None
        scope.say(
            "jobs.missed", source_id, labels, "true" if missed else "false", value=max(idle, 0.0),
            threshold=2 * period_s + MISSED_GRACE_S, severity=severity, details=details,
        )  # fmt: skip
        scope.say("jobs.never_ran", source_id, labels, "false")
    elif job["first_seen_at"] is not None:
        age = seconds(scope.now - job["first_seen_at"])
        scope.say("jobs.never_ran", source_id, labels, "true" if age > 2 * period_s else "false", value=max(age, 0.0))
