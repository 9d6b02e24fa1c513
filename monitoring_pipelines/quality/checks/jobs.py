"""Checks of scheduled jobs and of message delivery (C-340, C-341, C-350).

What belongs here: one finding per job or channel that is wrong. What does not: statistics of jobs (``dbt_like_sql/mart``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.cron import schedule_period
from monitoring_pipelines.severity import Severity, rate_number

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome

#: Grace beyond two periods before a job counts as missed (C-340).
MISSED_GRACE = timedelta(seconds=300)
#: C-341: at least so many runs, and so many failures per hundred.
RATE_MIN_RUNS = 20
RATE_PERCENT = 5
#: C-350: window of delivery attempts.
DELIVERY_WINDOW = timedelta(minutes=5)
Row = dict[str, Any]


def failing(ctx: CheckContext) -> CheckOutcome:
    """At least one failure since the last success (C-340)."""

    def judge(job: Row) -> tuple[Severity, str, Row] | None:
        if not job["failures"]:
            return None
        text = ctx.say(
            f"任务 {job['name']} 自上次成功以来失败 {job['failures']} 次",
            f"job {job['name']} failed {job['failures']} times since its last success",
        )
        details = {name: job[name] for name in ("failures", "last_success_at", "last_ended_at", "last_error")}
        return job["risk_level"], text, details

    return _per_job(ctx, judge)


def duration_over_sla(ctx: CheckContext) -> CheckOutcome:
    """The last run lasted longer than the job's SLA (C-340)."""

    def judge(job: Row) -> tuple[Severity, str, Row] | None:
        if job["sla_seconds"] is None or job["last_duration_ms"] is None:
            return None
        if Fraction(str(job["last_duration_ms"])) <= 1000 * Fraction(str(job["sla_seconds"])):
            return None
        seconds = float(job["last_duration_ms"]) / 1000
        text = ctx.say(
            f"任务 {job['name']} 上次运行 {seconds:.1f} 秒，超过 SLA {job['sla_seconds']:g} 秒",
            f"the last run of job {job['name']} took {seconds:.1f} s, its SLA is {job['sla_seconds']:g} s",
        )
        return job["risk_level"], text, {"last_duration_ms": job["last_duration_ms"], "sla_seconds": job["sla_seconds"]}

    return _per_job(ctx, judge)


def missed(ctx: CheckContext) -> CheckOutcome:
    """No run for two schedule periods and five minutes (C-340)."""

    def judge(job: Row) -> tuple[Severity, str, Row] | None:
        period = schedule_period(job["schedule"], ctx.now, ctx.settings.timezone)
        if period is None or job["last_run_at"] is None or ctx.now - job["last_run_at"] <= 2 * period + MISSED_GRACE:
            return None
        text = ctx.say(
            f"任务 {job['name']} 自 {job['last_run_at']:%Y-%m-%d %H:%M} UTC 起没有运行",
            f"job {job['name']} has not run since {job['last_run_at']:%Y-%m-%d %H:%M} UTC",
        )
        return job["risk_level"], text, {"last_run_at": job["last_run_at"], "period_s": period.total_seconds()}

    return _per_job(ctx, judge)


def never_ran(ctx: CheckContext) -> CheckOutcome:
    """Registered and enabled, and no run two periods after that (C-340)."""

    def judge(job: Row) -> tuple[Severity, str, Row] | None:
        period = schedule_period(job["schedule"], ctx.now, ctx.settings.timezone)
        known_since = job["registered_at"]
        if not job["registered"] or job["last_run_at"] is not None or period is None or known_since is None:
            return None
        if ctx.now - known_since < 2 * period:
            return None
        text = ctx.say(f"任务 {job['name']} 从未运行", f"job {job['name']} has never run")
        return "low", text, {"registered_at": known_since, "period_s": period.total_seconds()}

    return _per_job(ctx, judge)


def failure_rate(ctx: CheckContext) -> CheckOutcome:
    """At least 5 % of at least 20 runs in 24 h failed (C-341)."""
    rows = ctx.rows("job_rates", window_start=ctx.now - timedelta(hours=24), window_end=ctx.now)
    findings, enough = [], 0
    for row in rows:
        n, bad = row["total_runs"], row["failures"]
        if not row["enabled"] or n < RATE_MIN_RUNS:
            continue
        enough += 1
        if 100 * bad < RATE_PERCENT * n:
            continue
        rate = rate_number(bad, n)
        text = ctx.say(f"任务 {row['job_id']} 24 小时失败率 {rate}%", f"{rate}% of 24 h of job {row['job_id']} failed")
        details = {"total_runs": n, "failures": bad, "failure_rate": rate}
        findings.append(ctx.finding("medium", text, details, labels={"job": row["job_id"]}))
    metrics = {"jobs": len(rows), "jobs_with_enough_runs": enough}
    return ctx.outcome(None if enough else "insufficient_data", findings, metrics=metrics)


def channel_down(ctx: CheckContext) -> CheckOutcome:
    """Attempts of a channel failed and none succeeded in the last five minutes (C-350)."""
    return _per_channel(ctx, lambda ok, failed: failed > 0 and ok == 0)


def failure_ratio(ctx: CheckContext) -> CheckOutcome:
    """10 · failed > 3 · (ok + 1) in the last five minutes (C-350)."""
    return _per_channel(ctx, lambda ok, failed: 10 * failed > 3 * (ok + 1))


def _per_job(ctx: CheckContext, judge: Callable[[Row], tuple[Severity, str, Row] | None]) -> CheckOutcome:
    """One finding per enabled job the judge has something to say about."""
    key = ("jobs", ctx.source_id)
    if key not in ctx.memo:
        ctx.memo[key] = ctx.rows("jobs")
    jobs = [job for job in ctx.memo[key] if job["enabled"]]
    findings = []
    for job in jobs:
        said = judge(job)
        if said is not None:
            severity, text, details = said
            findings.append(
                ctx.finding(severity, text, {"job_id": job["job_id"]} | details, labels={"job": job["job_id"]})
            )
    return ctx.outcome(None if jobs else "insufficient_data", findings, metrics={"jobs": len(jobs)})


def _per_channel(ctx: CheckContext, bad: Callable[[int, int], bool]) -> CheckOutcome:
    findings = []
    channels = _deliveries(ctx)
    for channel, (ok, failed) in channels.items():
        if bad(ok, failed):
            text = ctx.say(
                f"通道 {channel} 近 5 分钟成功 {ok} 次，失败 {failed} 次",
                f"channel {channel}: {ok} deliveries succeeded and {failed} failed in the last 5 min",
            )
            findings.append(ctx.finding("high", text, {"ok": ok, "failed": failed}, labels={"channel": channel}))
    metrics = {"channels": {name: {"ok": ok, "failed": failed} for name, (ok, failed) in channels.items()}}
    return ctx.outcome(None if channels else "insufficient_data", findings, metrics=metrics)


def _deliveries(ctx: CheckContext) -> dict[str, tuple[int, int]]:
    """Channel → (successful, failed) attempts; the product's own come from its log of attempts."""
    from monitoring_pipelines.state import checks as stored

    start = ctx.now - DELIVERY_WINDOW
    if ctx.source_id == stored.SELF:
        return stored.own_deliveries(ctx.state, start, ctx.now) if ctx.state else {}
    rows = ctx.rows("notification_attempts", window_start=start, window_end=ctx.now)
    return {row["channel"]: (row["ok"], row["failed"]) for row in rows if row["ok"] or row["failed"]}
