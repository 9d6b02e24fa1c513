"""``mp compensate``: repair in one command, as the scripts it replaces were called (compensation §9).

What belongs here: their options and the question on the terminal. What does not: the steps (``cli.repair``).
"""

from __future__ import annotations

import sys

from monitoring_pipelines.cli.context import Ctx, OptionalWhole
from monitoring_pipelines.cli.repair import actor_of, finish, make_plan, request_of, state_of
from monitoring_pipelines.cli.repair_text import Bar
from monitoring_pipelines.compensation.model import RepairRefused


def compensate(
    *, start_date: str | None = None, end_date: str | None = None, task_ids: str | None = None,
    batch_size: OptionalWhole = None, max_tasks: OptionalWhole = None, dry_run: bool = False, ctx: Ctx,
) -> int:  # fmt: skip
    """Find lost outputs, show what would be inserted, and insert it after you said yes.

    Args:
        start_date: First local day (default: the last 24 hours).
        end_date: Last local day, inclusive.
        task_ids: Exactly these tasks, separated by commas.
        batch_size: Tasks per batch.
        max_tasks: Most tasks.
        dry_run: Only plan; nothing is written to the source.
        ctx: Global options.
    """
    wanted = request_of(
        ctx, start_date=start_date, end_date=end_date, task_ids=task_ids, max_tasks=max_tasks, batch_size=batch_size
    )
    code, plan = make_plan(ctx, wanted)
    if dry_run or code or not (plan["counters"] or {}).get("rows_planned"):
        return code
    from monitoring_pipelines.compensation.approve import approve
    from monitoring_pipelines.compensation.runs import Applier

    state = state_of(ctx)
    if plan["state"] != "approved":
        if not sys.stdin.isatty():
            raise RepairRefused(
                "not_approved", f"plan {plan['plan_id']} is not approved, and nobody can be asked here",
                f"`mp repair approve {plan['plan_id']} --by NAME`, then `mp repair apply {plan['plan_id']}`",
            )  # fmt: skip
        sys.stderr.write(f"insert {plan['counters']['rows_planned']} rows into {plan['source_id']}? type yes: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            raise RepairRefused("not_approved", "nothing was inserted", f"the plan stays: {plan['plan_id']}")
        approve(ctx.settings, state, ctx.clock, plan["plan_id"], actor_of())
    with Bar("applying", "tasks", quiet=ctx.json) as bar:
        run = Applier(ctx.settings, state, ctx.clock).apply(plan["plan_id"], actor_of(), progress=bar.counted)
    return finish(ctx, state, run)
