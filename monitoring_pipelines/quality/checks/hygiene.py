"""Rows that do not fit together: orphans, wrong status, missing or impossible times, ids and keys (C-111 to C-117).

What belongs here: counting them with examples. What does not: missing outputs (``completeness``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality import figures

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome


#: Final statuses of a task that did not succeed (E-201).
UNSUCCESSFUL = ("failed", "timed_out", "cancelled")


def orphans(ctx: CheckContext) -> CheckOutcome:
    """Live outputs whose task exists neither here nor at the source (C-111).

    An inline output is part of its task's row and has an owner as long as it exists.
    """
    rows, owners = _strays(ctx)
    rows = [row for row in rows if not row["is_inline"]]
    states = {row["task_hash"]: _state(owners.get(row["task_hash"])) for row in rows}
    deleted = [row for row in rows if states[row["task_hash"]] == "deleted"]
    lost = [row for row in rows if states[row["task_hash"]] == "gone"]
    ctx.session.close()
    keys = sorted({row["task_key"] for row in lost})
    for at in range(0, len(keys), figures.LOOKUP_BATCH) if ctx.lookup else ():
        found = ctx.lookup(keys[at : at + figures.LOOKUP_BATCH]) if ctx.lookup else {}
        deleted += [row for row in lost if row["task_key"] in found and found[row["task_key"]].task["is_deleted"]]
        lost = [row for row in lost if row["task_key"] not in found]
    metrics: dict[str, Any] = {"orphan_outputs": len(lost), "outputs_of_deleted_tasks": len(deleted)}
    if not lost:
        return ctx.outcome(metrics=metrics)
    message = ctx.say("{n} 条输出没有对应的任务", "{n} outputs belong to no task", n=len(lost))
    details = {
        "count": len(lost), "outputs_of_deleted_tasks": len(deleted),
        "examples": [{"output_key": row["output_key"], "task_key": row["task_key"]} for row in lost[:10]],
    }  # fmt: skip
    task_keys = dict.fromkeys(row["task_key"] for row in lost)
    return ctx.outcome(findings=[ctx.finding("medium", message, details, task_keys)], metrics=metrics)


def _strays(ctx: CheckContext) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """Outputs of the window that no succeeded task of its time owns, and what the store knows of their tasks.

    Tasks of the window's time are looked at first, then those of the last week: nearly always that is enough.
    """
    key = ("strays", ctx.window_from, ctx.window_to)
    if key not in ctx.memo:
        rows = ctx.rows("stray_outputs", tasks_from=ctx.window_from - figures.HOUR)
        owners: dict[int, dict[str, Any]] = {}
        near = ctx.window_from - figures.HOUR
        for oldest in (near, ctx.window_from - timedelta(days=7), datetime(1970, 1, 1)):
            wanted = sorted({row["task_hash"] for row in rows} - set(owners))
            found = ctx.rows("owners", hashes=wanted, oldest=oldest) if wanted else ()
            owners |= {row["task_hash"]: row for row in found}
        ctx.memo[key] = rows, owners
    return ctx.memo[key]


def _state(owner: dict[str, Any] | None) -> str:
    """``known``, ``deleted`` (softly) or ``gone``: of no task, or of one the source no longer has."""
    if owner is None:
        return "gone"
    return "deleted" if owner["is_deleted"] else "gone" if owner["is_gone"] else "known"


def wrong_status(ctx: CheckContext) -> CheckOutcome:
    """Outputs of tasks that ended without success (C-112)."""
    rows, owners = _strays(ctx)
    by_status: dict[str, int] = {}
    found_at: dict[str, datetime] = {}
    for row in rows:
        owner = owners.get(row["task_hash"])
        if row["is_dated"] and owner and _state(owner) == "known" and owner["status"] in UNSUCCESSFUL:
            by_status[owner["status"]] = by_status.get(owner["status"], 0) + 1
            found_at[row["task_key"]] = owner["effective_end"] or datetime.max
    count = sum(by_status.values())
    metrics = {"outputs_of_unsuccessful": count}
    if not count:
        return ctx.outcome(metrics=metrics)
    message = ctx.say("{n} 条输出属于未成功的任务", "{n} outputs belong to tasks that did not succeed", n=count)
    details = {"count": count, "by_status": dict(sorted(by_status.items()))}
    examples = sorted(found_at, key=lambda key: (found_at[key], key))
    return ctx.outcome(findings=[ctx.finding("low", message, details, examples)], metrics=metrics)


def no_end_time(ctx: CheckContext) -> CheckOutcome:
    """Succeeded tasks without an end (C-113)."""
    return _count(ctx, "no_end", "medium", "no_end_time", ("成功任务没有结束时间", "succeeded tasks have no end time"))


def no_remote_id(ctx: CheckContext) -> CheckOutcome:
    """Succeeded tasks without remote id, where a recoverer needs one (C-115)."""
    if not ctx.settings.repair.recoverers:
        return ctx.outcome("not_applicable", message="no recoverer needs it")
    text = ("成功任务没有远程编号，无法恢复", "succeeded tasks have no remote id and cannot be recovered")
    return _count(ctx, "no_remote_id", "low", "no_remote_id", text)


def key_length(ctx: CheckContext) -> CheckOutcome:
    """Task keys longer than the output table's column for them (C-117)."""
    if ctx.key_length is None:
        return ctx.outcome("insufficient_data", message="the source was not asked")
    length = ctx.key_length()
    if length is None:
        return ctx.outcome("not_applicable", message="the output table's task key has no length")
    text = (
        f"任务编号长于输出表的列（{length} 个字符）", f"task keys are longer than the output table's column ({length})"
    )  # fmt: skip
    return _count(ctx, "long_key", "low", "key_length", text, length)


def _count(
    ctx: CheckContext, kind: str, severity: Any, name: str, text: tuple[str, str], length: int = 0
) -> CheckOutcome:
    row = ctx.row("task_examples", kind=kind, key_length=length)
    metrics: dict[str, Any] = {name: row["tasks"]} | ({"column_length": length} if length else {})
    if not row["tasks"]:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(f"{{n}} 个{text[0]}", f"{{n}} {text[1]}", n=row["tasks"])
    details = {"count": row["tasks"]} | ({"column_length": length} if length else {})
    return ctx.outcome(findings=[ctx.finding(severity, message, details, row["examples"] or [])], metrics=metrics)


def bad_times(ctx: CheckContext) -> CheckOutcome:
    """Times that cannot be (C-114)."""
    latest = figures.latest(ctx)
    rows = ctx.rows("future_tasks", latest=latest)
    for first, last in figures.chunks(ctx.window_from, ctx.window_to):
        if figures.figures(ctx, first, last).odd_times:
            window = {"window_start": first, "window_end": last}
            rows += ctx.rows("bad_times", **window, **figures.limits(ctx, first, last))
    kinds: dict[str, int] = {}
    for row in rows:
        kinds[row["kind"]] = kinds.get(row["kind"], 0) + row["n"]
    examples = [
        key for _, key in sorted(pair for row in rows for pair in zip(row["ends"], row["examples"], strict=True))
    ]
    metrics = {"by_kind": kinds}
    if not kinds:
        return ctx.outcome(metrics=metrics)
    count = sum(kinds.values())
    message = ctx.say("{n} 行的时间不合理", "{n} rows have times that cannot be right", n=count)
    found = ctx.finding("low", message, {"count": count, "by_kind": kinds}, dict.fromkeys(examples))
    return ctx.outcome(findings=[found], metrics=metrics)


def status_mismatch(ctx: CheckContext) -> CheckOutcome:
    """Tasks that succeeded here and failed at the remote service, as repair plans of the window found (C-116)."""
    from monitoring_pipelines.state import checks as stored

    if ctx.state is None:
        return ctx.outcome("insufficient_data", message="no state store")
    rows = stored.remote_failures(ctx.state, ctx.source_id, ctx.window_from, ctx.window_to)
    metrics = {"status_mismatch": len(rows)}
    if not rows:
        return ctx.outcome(metrics=metrics)
    message = ctx.say(
        "{n} 个本地成功的任务在远端失败", "{n} tasks succeeded here and failed at the remote service", n=len(rows)
    )
    details = {
        "count": len(rows),
        "examples": [{"task": task, "remote_code": code} for task, code in rows[:10]],
    }
    return ctx.outcome(findings=[ctx.finding("medium", message, details, [task for task, _ in rows])], metrics=metrics)
