"""``mp repair``: plan, approve, apply, verify, roll back (S-605, compensation §9).

What belongs here: arguments, progress and output. What does not: the steps themselves (``compensation``).
"""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from monitoring_pipelines.cli.context import Context, Ctx, OptionalWhole, Whole
from monitoring_pipelines.cli.output import table
from monitoring_pipelines.cli.repair_text import Bar, plan_text, run_text
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.model import PlanRequest
    from monitoring_pipelines.state import StateStore

app = App(name="repair", help="Repair lost outputs: plan, approve, apply, verify, roll back.", help_format="plaintext")
Mode = Literal["only_if_empty", "add_missing"]
Start = Annotated[str | None, Parameter(name="--from")]
End = Annotated[str | None, Parameter(name="--to")]


def state_of(ctx: Context) -> StateStore:
    """The state store of the configuration."""
    from monitoring_pipelines.state import StateStore

    return StateStore.of(ctx.settings)


def actor_of() -> str:
    """Who works at this terminal."""
    from monitoring_pipelines.cli.alerts import actor

    return actor()


def one_source(ctx: Context) -> str:
    """The source a plan is for: ``--source``, or the only one whose outputs a recoverer can find; UsageError."""
    if len(ctx.source) == 1:
        return ctx.settings.source(ctx.source[0]).id
    able = [source.id for source in ctx.settings.enabled_sources if source.is_repairable]
    if ctx.source or len(able) != 1:
        raise UsageError("which source?", f"--source {' or '.join(able) or 'ID'}")
    return able[0]


def request_of(
    ctx: Context, *, start: str | None = None, end: str | None = None, start_date: str | None = None,
    end_date: str | None = None, hours: float | None = None, task_ids: str | None = None,
    max_tasks: OptionalWhole = None, mode: Mode | None = None, batch_size: OptionalWhole = None,
) -> PlanRequest:  # fmt: skip
    """The request the options describe; UsageError when they contradict each other (R-303, R-304)."""
    from monitoring_pipelines.cli.times import day
    from monitoring_pipelines.compensation import scope
    from monitoring_pipelines.compensation.model import PlanRequest

    given = {
        "--task-ids": task_ids is not None, "--hours": hours is not None,
        "--from/--to": start is not None or end is not None,
        "--start-date/--end-date": start_date is not None or end_date is not None,
    }  # fmt: skip
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} cannot be used together")
    for option, value in (("--max-tasks", max_tasks), ("--batch-size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{option} must be at least 1, not {value}")
    now, zone = ctx.clock.now(), ctx.settings.timezone
    window: tuple[datetime, datetime] | tuple[None, None] = (None, None)
    if start_date is not None or end_date is not None:
        first = day(start_date, "--start-date") if start_date else None
        window = scope.of_days(first, day(end_date, "--end-date") if end_date else None, zone, now)
    elif start is not None or end is not None:
        if start is None:
            raise UsageError("--to needs --from")
        window = (_bound(start, "--from", zone), _bound(end, "--to", zone) if end else now)
    elif task_ids is None:
        window = scope.of_hours(scope.DEFAULT_HOURS if hours is None else hours, now)
    return PlanRequest(
        one_source(ctx), window[0], window[1], task_ids=scope.ids(task_ids), max_tasks=max_tasks, mode=mode, batch_size=batch_size,
    )  # fmt: skip


def _bound(text: str, option: str, zone: str) -> Any:
    """A date is local midnight (R-304), anything else an instant with offset."""
    from monitoring_pipelines.cli.times import day, instant
    from monitoring_pipelines.compensation.scope import local_midnight

    return local_midnight(day(text, option), zone) if len(text) == 10 else instant(text, option)


@app.command
def plan(
    *, start: Start = None, end: End = None, start_date: str | None = None, end_date: str | None = None,
    hours: float | None = None, task_ids: str | None = None, max_tasks: OptionalWhole = None, mode: Mode | None = None,
    batch_size: OptionalWhole = None, ctx: Ctx,
) -> int:  # fmt: skip
    """Look for lost outputs and propose rows. Writes nothing to the source.

    Args:
        start: Start of the window, RFC 3339, or a local day.
        end: End of the window, exclusive.
        start_date: First local day.
        end_date: Last local day, inclusive.
        hours: The last so many hours (default 24).
        task_ids: Exactly these tasks, separated by commas.
        max_tasks: Most candidates.
        mode: only_if_empty: tasks without any output; add_missing: also missing rows of others.
        batch_size: Tasks per batch when it is applied.
        ctx: Global options.
    """
    wanted = request_of(
        ctx, start=start, end=end, start_date=start_date, end_date=end_date, hours=hours, task_ids=task_ids,
        max_tasks=max_tasks, mode=mode, batch_size=batch_size,
    )  # fmt: skip
    return make_plan(ctx, wanted)[0]


def make_plan(ctx: Context, wanted: PlanRequest) -> tuple[int, dict[str, Any]]:
    """Make and show a plan: (exit code, plan)."""
    from monitoring_pipelines.compensation.plan import Planner, error_of
    from monitoring_pipelines.state import repair as store

    state = state_of(ctx)
    with Bar("planning", "tasks", quiet=ctx.json) as bar:
        made = Planner(ctx.settings, state, ctx.clock).make(wanted, actor_of(), bar.update)
    with state.read() as con:
        items = store.get_items(con, made["plan_id"], "eligible", limit=10)
    ctx.emit({"plan": made, "first_items": items}, lambda: plan_text(made, items, ctx.settings.timezone))
    error = error_of(made)
    return (0 if error is None else error.exit_code), made


@app.command
def show(
    plan_id: str,
    *,
    rows: bool = False,
    format: Literal["table", "json", "csv"] = "table",  # noqa: A002 - the option's name
    ctx: Ctx,
) -> int:
    """Show a plan with its runs.

    Args:
        plan_id: The plan.
        rows: Show every candidate and proposed row.
        format: table, json or csv (csv: the proposed rows).
        ctx: Global options.
    """
    from monitoring_pipelines.cli.output import write, write_json
    from monitoring_pipelines.state import repair as store

    with state_of(ctx).read() as con:
        found = store.get_plan(con, plan_id)
        approval, runs = store.get_approval(con, plan_id), store.list_runs(con, plan_id)
        items = store.get_items(con, plan_id) if rows or format == "csv" else store.get_items(con, plan_id, limit=10)
    if format == "csv":
        write(_csv(items).rstrip("\n"))
        return 0
    data = {"plan": found, "approval": approval, "runs": runs, "items": items}
    if format == "json" or ctx.json:
        write_json(data)
        return 0
    write("\n\n".join([plan_text(found, items, ctx.settings.timezone, approval), *(run_text(run) for run in runs)]))
    return 0


def _csv(items: list[dict[str, Any]]) -> str:
    names = ("task_key", "class", "natural_key", "node_key", "name", "uri", "media_type", "size_bytes", "run_state")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for item in items:
        for row in item["rows"] or [{}]:
            merged = {**{name: item[name] for name in ("task_key", "class", "run_state")}, **row}
            writer.writerow([merged.get(name) for name in names])
    return out.getvalue()


@app.command(name="list")
def list_(*, state: list[str] | None = None, limit: Whole = 20, ctx: Ctx) -> int:
    """List plans, newest first.

    Args:
        state: Only plans in this state; may be repeated.
        limit: Most plans shown.
        ctx: Global options.
    """
    from monitoring_pipelines.state import repair as store

    if limit < 1:
        raise UsageError("--limit must be at least 1")
    sources: list[str | None] = [*ctx.source] or [None]
    with state_of(ctx).read() as con:
        plans = [
            p for source in sources for p in store.list_plans(con, source, state or (), limit)
        ]  # fmt: skip
    shown = [
        (p["plan_id"], p["source_id"], p["state"], p["created_at"], p["created_by"],
         (p["counters"] or {}).get("candidates"), (p["counters"] or {}).get("eligible"),
         (p["counters"] or {}).get("rows_planned"))
        for p in plans
    ]  # fmt: skip
    headers = ("plan", "source", "state", "created (UTC)", "by", "candidates", "eligible", "rows")
    ctx.emit(plans, lambda: table(headers, shown) if shown else "no repair plans")
    return 0


@app.command
def approve(plan_id: str, *, by: str, note: str | None = None, placeholders: bool = False, ctx: Ctx) -> int:
    """Approve a plan: bound to its hash, good for one apply and its resumes.

    Args:
        plan_id: The plan.
        by: Who approves.
        note: Reason, kept.
        placeholders: I know that rows of this plan are placeholders.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.approve import approve as give

    approval = give(ctx.settings, state_of(ctx), ctx.clock, plan_id, by, note=note, placeholders=placeholders)
    ctx.emit(approval, f"plan {plan_id} approved by {by}: {approval['rows_planned']} rows; `mp repair apply {plan_id}`")
    return 0


@app.command
def reject(plan_id: str, *, note: str | None = None, ctx: Ctx) -> int:
    """Reject a plan that was not applied.

    Args:
        plan_id: The plan.
        note: Reason, kept.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.approve import reject as refuse

    refuse(state_of(ctx), ctx.clock, plan_id, actor_of(), note)
    ctx.emit({"plan_id": plan_id, "state": "rejected"}, f"plan {plan_id} rejected")
    return 0


@app.command
def apply(plan_id: str, *, batch_size: OptionalWhole = None, rate: float | None = None, ctx: Ctx) -> int:
    """Insert the rows of an approved plan, verify them, write the report.

    Args:
        plan_id: The plan.
        batch_size: Tasks per batch.
        rate: Most tasks per second.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.runs import Applier

    if rate is not None and not rate > 0:
        raise UsageError(f"--rate must be greater than 0, not {rate:g}")
    state = state_of(ctx)
    with Bar("applying", "tasks", quiet=ctx.json) as bar:
        run = Applier(ctx.settings, state, ctx.clock).apply(
            plan_id, actor_of(), batch_size=batch_size, rate_per_s=rate, progress=bar.counted
        )
    return finish(ctx, state, run)


@app.command
def resume(run_id: str, *, ctx: Ctx) -> int:
    """Go on with a run that crashed, paused or left failed tasks; or start a rollback again.

    Args:
        run_id: The run.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.runs import Applier
    from monitoring_pipelines.state import repair as store

    state = state_of(ctx)
    with state.read() as con:
        earlier = store.get_run(con, run_id)
    if earlier["kind"] == "rollback":
        return _roll_back(ctx, plan_id=earlier["plan_id"], run_id=None, task_ids=None, dry_run=earlier["dry_run"])
    with Bar("resuming", "tasks", quiet=ctx.json) as bar:
        run = Applier(ctx.settings, state, ctx.clock).resume(run_id, actor_of(), progress=bar.counted)
    return finish(ctx, state, run)


@app.command
def verify(run_id: str, *, ctx: Ctx) -> int:
    """Read back what a run inserted. Exit code 1 when something is missing, modified or there twice.

    Args:
        run_id: The run.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.report import write_report
    from monitoring_pipelines.compensation.verify import Verifier

    state = state_of(ctx)
    run = Verifier(ctx.settings, state, ctx.clock).verify(run_id, actor_of())
    write_report(ctx.settings, state, run["run_id"])
    ctx.emit(run, lambda: run_text(run))
    return 0 if run["verification"]["result"] == "verified" else 1


@app.command
def rollback(run_id: str, *, task_ids: str | None = None, dry_run: bool = False, ctx: Ctx) -> int:
    """Delete what a run or a plan inserted, where it is unchanged. Exit code 1 when rows were kept.

    Args:
        run_id: The run, or the plan, whose rows are removed.
        task_ids: Only rows of these tasks, separated by commas.
        dry_run: Only say what would happen to each row.
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.scope import ids
    from monitoring_pipelines.state import repair as store

    with state_of(ctx).read() as con:
        is_plan = any(p["plan_id"] == run_id for p in store.list_plans(con, limit=10_000))
    chosen = {"plan_id": run_id, "run_id": None} if is_plan else {"plan_id": None, "run_id": run_id}
    return _roll_back(ctx, **chosen, task_ids=ids(task_ids), dry_run=dry_run)


def _roll_back(
    ctx: Context, *, plan_id: str | None, run_id: str | None, task_ids: tuple[str, ...] | None, dry_run: bool
) -> int:
    from monitoring_pipelines.compensation.rollback import Rollbacker

    state = state_of(ctx)
    with Bar("rolling back", "rows", quiet=ctx.json) as bar:
        run = Rollbacker(ctx.settings, state, ctx.clock).rollback(
            actor_of(), run_id=run_id, plan_id=plan_id, task_ids=task_ids, dry_run=dry_run, progress=bar.counted
        )
    return finish(ctx, state, run)


def finish(ctx: Context, state: StateStore, run: dict[str, Any]) -> int:
    """Verification, statistics and report of a run, then its exit code: 0 done, 1 failed or kept rows, 6 paused."""
    from monitoring_pipelines.compensation.after import after_run

    run = after_run(ctx.settings, state, ctx.clock, run)
    ctx.emit(run, lambda: run_text(run))
    if run["state"] == "paused":
        return 6
    counters = run["counters"] or {}
    kept = counters.get("modified_since", 0) + counters.get("blocked_by_reference", 0)
    bad = (run["verification"] or {}).get("result") == "verify_failed"
    return 1 if run["state"] == "failed" or counters.get("failed") or kept or bad else 0


@app.command
def doctor(*, ctx: Ctx) -> int:
    """Print the GRANT statements the mapping needs, and what the reading account has beyond them.

    Args:
        ctx: Global options.
    """
    from monitoring_pipelines.compensation.grants import examine

    sources = [s for s in ctx.sources() if s.mapped("task_output")]
    found = [examine(ctx.settings, source) for source in sources]
    lines = []
    for one in found:
        lines.append(f"# {one.source_id} ({one.dialect})")
        for account, statements in one.grants.items():
            lines += [f"-- {account}", *statements]
        lines += [f"surplus of the {who} account: {what}" for who, extra in one.surplus.items() for what in extra]
        lines += [f"note: {text}" for text in one.notes] + [f"problem: {text}" for text in one.problems]
    ctx.emit([one.as_dict() for one in found], "\n".join(lines) or "no source has an output table")
    return 1 if any(one.problems for one in found) else 0


@app.command
def init(*, dsn_env: str, ctx: Ctx) -> int:
    """Create the journal on the source's server, once, with an account that may.

    Args:
        dsn_env: Environment variable with the DSN of that account; it is not stored.
        ctx: Global options.
    """
    import os

    from monitoring_pipelines.compensation.grants import create_journal
    from monitoring_pipelines.config.secrets import remember

    dsn = os.environ.get(dsn_env)
    if not dsn:
        raise UsageError(f"environment variable {dsn_env} is not set")
    remember(dsn)
    done = create_journal(ctx.settings, dsn)
    ctx.emit(done, "the journal is ready:\n" + ";\n".join(done))
    return 0


@app.command
def audit(*, subject: str | None = None, ctx: Ctx) -> int:
    """Export the audit log as JSON lines and check its chain. Exit code 1 when the chain is broken.

    Args:
        subject: Only entries about this plan or run.
        ctx: Global options.
    """
    from sqlalchemy import select

    from monitoring_pipelines.cli.output import write
    from monitoring_pipelines.state.audit import first_broken
    from monitoring_pipelines.state.tables import audit_log
    from monitoring_pipelines.state.types import canonical_json

    query = select(audit_log).order_by(audit_log.c.seq)
    if subject is not None:
        query = query.where(audit_log.c.object == subject)
    with state_of(ctx).read() as con:
        for row in con.execute(query).mappings():
            write(canonical_json(dict(row)))
        broken = first_broken(con)
    if broken is not None:
        raise UsageError(f"the audit log is broken at entry {broken}", "an entry was changed or removed afterwards")
    return 0
