"""Checks of attempts: invariants, backlog, rates, timeouts, slots (C-310 to C-330).

What belongs here: rules over ``core``. What does not: outputs (``completeness``), deriving attempts (``dbt_like_sql/core``).
"""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.severity import rate_number

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome

#: Outcomes of attempts under the names of the task counters (S-222).
COUNTERS = {
    "open": "active", "completed": "completed", "failed": "failed", "timeout": "timeout", "cancelled": "cancelled",
    "lost": "lost",
}  # fmt: skip
#: Totals that only retention may make smaller (C-310 I2). An attempt given up as lost or timed out may still turn out
#: to have ended otherwise, so those two are in ``ended`` only.
_GROWING = ("started", "completed", "failed", "cancelled", "ended")


def counters(ctx: CheckContext) -> dict[str, int]:
    """Attempts by state, counted from the attempts themselves (C-310): started is their sum by construction of the rows."""
    key = "counters"
    if key not in ctx.memo:
        found = dict.fromkeys(COUNTERS.values(), 0)
        total = unnamed = 0
        for row in ctx.rows("attempts"):
            total += row["attempts"]
            if row["outcome"] in COUNTERS:
                found[COUNTERS[row["outcome"]]] = row["attempts"]
            else:
                unnamed += row["attempts"]
        ended = sum(found[name] for name in ("completed", "failed", "timeout", "cancelled", "lost"))
        ctx.memo[key] = {"started": total, **found, "ended": ended, "unnamed": unnamed}
    return ctx.memo[key]


def invariants(ctx: CheckContext) -> CheckOutcome:
    """I1: started = active + completed + failed + timeout + cancelled + lost; I2: no total is negative or shrinks."""
    from monitoring_pipelines.state import checks as stored

    now = counters(ctx)
    raw_from = _raw_from(ctx)
    metrics: dict[str, Any] = {"counters": now, "raw_from": raw_from}
    broken: list[dict[str, Any]] = []
    parts = sum(now[name] for name in COUNTERS.values())
    if now["started"] != parts:
        broken.append({"invariant": "I1", "started": now["started"], "sum": parts})
    known = (
        stored.believed(ctx.state, ctx.check.id, ctx.source_id, answers_only=True, at=ctx.now) if ctx.state else None
    )
    before = known.outcome.metrics if known else {}
    # Retention that moved on is a declared reason for smaller totals.
    if before.get("counters") and before.get("raw_from") == (raw_from.isoformat() + "Z" if raw_from else None):
        for name in _GROWING:
            old = before["counters"].get(name, 0)
            if now[name] < old:
                broken.append({"invariant": "I2", "total": name, "before": old, "now": now[name]})
    if not broken:
        return ctx.outcome(metrics=metrics)
    names = ", ".join(sorted({entry["invariant"] for entry in broken}))
    message = ctx.say(f"任务计数不成立：{names}", f"task counters do not hold: {names}")
    return ctx.outcome(findings=[ctx.finding("high", message, {"violations": broken})], metrics=metrics)


def backlog(ctx: CheckContext) -> CheckOutcome:
    """More tasks wait than ``max_pending_tasks`` (C-311)."""
    rows = ctx.rows("waiting")
    waiting = sum(row["waiting"] for row in rows)
    limit = ctx.thresholds.max_pending_tasks
    metrics: dict[str, Any] = {"waiting": waiting, "threshold": limit}
    if waiting <= limit:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"{waiting} 个任务在排队（阈值 {limit}）", f"{waiting} tasks are waiting (threshold {limit})")
    details = metrics | {"by_endpoint": {row["endpoint"]: row["waiting"] for row in rows[:10]}}
    found = ctx.finding("medium", message, details, [row["oldest_task"] for row in rows])
    return ctx.outcome(findings=[found], metrics=metrics)


def queue_wait(ctx: CheckContext) -> CheckOutcome:
    """The oldest waiting task waits longer than ``max_queue_wait_time`` (C-311)."""
    rows = sorted(ctx.rows("waiting"), key=lambda row: row["oldest_at"])
    limit = timedelta(seconds=ctx.thresholds.max_queue_wait_time)
    if not rows:
        return ctx.outcome(metrics={"oldest_wait_s": None, "threshold": limit.total_seconds()})
    waited = ctx.now - rows[0]["oldest_at"]
    metrics = {"oldest_wait_s": waited.total_seconds(), "threshold": limit.total_seconds()}
    if waited <= limit:
        return ctx.outcome(metrics=metrics)
    seconds = int(waited.total_seconds())
    message = ctx.say(f"最久的任务已排队 {seconds} 秒", f"the oldest waiting task has waited {seconds} s")
    details = metrics | {"endpoint": rows[0]["endpoint"], "since": rows[0]["oldest_at"]}
    found = ctx.finding("high", message, details, [row["oldest_task"] for row in rows])
    return ctx.outcome(findings=[found], metrics=metrics)


def long_running(ctx: CheckContext) -> CheckOutcome:
    """An open attempt is older than ``max_execution_time`` (C-311)."""
    limit = ctx.thresholds.max_execution_time
    rows = [row for row in _open(ctx) if ctx.now - row["started_at"] > timedelta(seconds=limit)]
    metrics: dict[str, Any] = {"long_running": len(rows), "threshold": limit}
    if not rows:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"{len(rows)} 个任务运行超过 {limit:g} 秒", f"{len(rows)} tasks run for more than {limit:g} s")
    details = metrics | {"oldest_started_at": rows[0]["started_at"]}
    return ctx.outcome(findings=[ctx.finding("medium", message, details, _keys(rows))], metrics=metrics)


def failure_rate(ctx: CheckContext) -> CheckOutcome:
    """(failed + timeout) / e over 24 h above ``max_failed_rate`` (C-312), exact."""
    done, executed = _executed(ctx)
    bad = done["failed"] + done["timeout"]
    limit = Fraction(str(ctx.thresholds.max_failed_rate))
    metrics = done | {"executed": executed, "failed_rate": rate_number(bad, executed), "threshold": float(limit)}
    if not executed:
        return ctx.outcome("insufficient_data", metrics=metrics)
    if Fraction(bad, executed) <= limit:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"24 小时失败率 {metrics['failed_rate']}%", f"{metrics['failed_rate']}% of 24 h failed")
    return ctx.outcome(findings=[ctx.finding("high", message, metrics)], metrics=metrics)


def success_rate(ctx: CheckContext) -> CheckOutcome:
    """Completed / e over 24 h below ``min_success_rate`` (C-312), exact."""
    done, executed = _executed(ctx)
    limit = Fraction(str(ctx.thresholds.min_success_rate))
    rate = rate_number(done["completed"], executed)
    metrics = done | {"executed": executed, "success_rate": rate, "threshold": float(limit)}
    if not executed:
        return ctx.outcome("insufficient_data", metrics=metrics)
    if Fraction(done["completed"], executed) >= limit:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"24 小时成功率 {rate}%", f"{rate}% of 24 h succeeded")
    return ctx.outcome(findings=[ctx.finding("medium", message, metrics)], metrics=metrics)


def timeouts(ctx: CheckContext) -> CheckOutcome:
    """Attempts over their limit (mode source) or timed out by it in the last hour (mode derive) (C-320)."""
    mode = ctx.source.timeouts.mode
    if mode == "off":
        return ctx.outcome("not_applicable", message="timeouts.mode is off")
    if mode == "derive":
        row = ctx.row("timeouts", window_start=ctx.now - timedelta(hours=1), window_end=ctx.now)
        count, keys = row["timed_out"], row["examples"] or []
    else:
        rows = [row for row in _open(ctx) if row["limit_at"] is not None and ctx.now > row["limit_at"]]
        count, keys = len(rows), _keys(rows)
    metrics = {"timeouts": count, "mode": mode}
    if not count:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"{count} 个任务超时", f"{count} tasks are over their time limit")
    return ctx.outcome(findings=[ctx.finding("high", message, metrics, keys)], metrics=metrics)


def slots(ctx: CheckContext) -> dict[str, int | None]:
    """Limit, in use, available and leaked slots (C-330); without a configured limit it and ``available`` are None."""
    limit = ctx.source.slots.limit
    in_use = counters(ctx)["active"]
    available = None if limit is None else max(0, limit - in_use)
    return {"limit": limit, "in_use": in_use, "available": available, "leaked": ctx.row("leaked_slots")["leaked"]}


def slot_state(ctx: CheckContext) -> CheckOutcome:
    """The figures of C-330 and the counters of S-222; they raise nothing."""
    return ctx.outcome(metrics={"slots": slots(ctx), "counters": counters(ctx)})


def _open(ctx: CheckContext) -> list[dict[str, Any]]:
    return ctx.rows("open_attempts", limit_s=ctx.source.timeouts.limit_s)


def _executed(ctx: CheckContext) -> tuple[dict[str, int], int]:
    """Counted outcomes of the last 24 h, and e = completed + failed + timeout."""
    window = {"window_start": ctx.now - timedelta(hours=24), "window_end": ctx.now}
    ended = {row["kind"]: row["n"] for row in ctx.rows("outcomes", **window)}
    done = {name: ended.get(name, 0) for name in ("completed", "failed", "timeout")}
    return done, sum(done.values())


def _raw_from(ctx: CheckContext) -> Any:
    row = ctx.session.con.execute(
        "SELECT raw_from FROM meta.source_state WHERE source_id = ?", [ctx.source_id]
    ).fetchone()
    return row[0] if row else None


def _keys(rows: list[dict[str, Any]]) -> list[str]:
    return [row["task_key"] for row in rows]
