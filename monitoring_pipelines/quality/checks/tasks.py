"""Checks of attempts that need a memory or raise nothing: invariants and slots (C-310, C-330).

What belongs here: counters of attempts. What does not: rules of the alert tick (``live``), outputs (``completeness``),
deriving attempts (``dbt_like_sql/core``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def slots(ctx: CheckContext) -> dict[str, int | None]:
    """Limit, in use, available and leaked slots (C-330); without a configured limit it and ``available`` are None."""
    limit = ctx.source.slots.limit
    in_use = counters(ctx)["active"]
    available = None if limit is None else max(0, limit - in_use)
    leaked = {row["source_id"]: row["leaked"] for row in ctx.rows("leaked_slots")}
    return {"limit": limit, "in_use": in_use, "available": available, "leaked": leaked.get(ctx.source_id, 0)}


def slot_state(ctx: CheckContext) -> CheckOutcome:
    """The figures of C-330 and the counters of S-222; they raise nothing."""
    return ctx.outcome(metrics={"slots": slots(ctx), "counters": counters(ctx)})


def _raw_from(ctx: CheckContext) -> Any:
    rows = ctx.session.query("SELECT raw_from FROM meta.source_state WHERE source_id = ?", [ctx.source_id])
    return rows[0][0] if rows else None
