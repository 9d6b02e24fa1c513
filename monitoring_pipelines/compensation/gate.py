"""Refusals before the first write (R-401, R-402).

What belongs here: every reason not to start an apply, resume or rollback. What does not: stopping a run (``runs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import HASHED_ITEM_COLUMNS, RepairRefused, plan_hash
from monitoring_pipelines.compensation.session import AccessDenied, ConnectionLost, Session, Statement, StatementFailed
from monitoring_pipelines.compensation.target import Target, config_hash

if TYPE_CHECKING:
    from datetime import datetime

    from monitoring_pipelines.config.schema import Settings, SourceSettings

#: States in which a plan may be applied or resumed, given a valid approval.
_APPLICABLE = ("approved", "applied", "partially_applied", "paused")


def refuse_plan(
    settings: Settings, source: SourceSettings, plan: dict[str, Any], approval: dict[str, Any] | None,
    items: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]], now: datetime,
) -> None:  # fmt: skip
    """Everything that can be said without opening the repair account.

    Raises:
        RepairRefused: ``rolled_back``, ``not_approved``, ``plan_changed``, ``stale_plan``, ``config_changed``.
    """
    plan_id = plan["plan_id"]
    undone = [run["run_id"] for run in runs if run["kind"] == "rollback" and not run["dry_run"] and touched(run)]
    if undone:
        raise RepairRefused("rolled_back", f"plan {plan_id} was rolled back by run {undone[0]}", "make a new plan")
    limit = timedelta(hours=settings.repair.max_plan_age_h)
    if plan["state"] == "stale" or now - plan["created_at"] > limit:
        hours = f"{settings.repair.max_plan_age_h:g}"
        raise RepairRefused(
            "stale_plan", f"plan {plan_id} is older than {hours} h: its links may have expired", "make a new plan"
        )
    if approval is None or plan["state"] not in _APPLICABLE:
        raise RepairRefused(
            "not_approved", f"plan {plan_id} is {plan['state']} and not approved",
            f"`mp repair approve {plan_id} --by NAME`",
        )  # fmt: skip
    digest = plan_hash(plan, [{name: item[name] for name in HASHED_ITEM_COLUMNS} for item in items])
    planned = sum(len(item["rows"]) for item in items if item["class"] == "eligible")
    if not digest == plan["plan_hash"] == approval["plan_hash"] or planned != approval["rows_planned"]:
        raise RepairRefused(
            "plan_changed", f"plan {plan_id} is not what {approval['approver']} approved", "make a new plan"
        )
    if config_hash(settings, source) != plan["config_hash"]:
        raise RepairRefused(
            "config_changed", f"the mapping of {source.id} changed after plan {plan_id} was made", "make a new plan"
        )


def touched(run: dict[str, Any]) -> bool:
    """Whether a rollback run may have removed rows: it began and was not refused or locked out."""
    return run["state"] not in ("refused", "locked")


def refuse_schema(plan: dict[str, Any], target: Target) -> None:
    """RepairRefused ``schema_drift`` when the table is not what it was when the plan was made."""
    if target.fingerprint != plan["schema_fingerprint"]:
        raise RepairRefused(
            "schema_drift", f"table {target.table} changed after plan {plan['plan_id']} was made", "make a new plan"
        )


def refuse_privileges(session: Session, asks: Sequence[Statement]) -> None:
    """Ask the server whether it would let us.

    Args:
        session: The repair account.
        asks: Statements that need the rights of a task and touch no row: locking reads of nothing (EXPLAIN of one asks
            for no right to lock on MySQL), EXPLAIN of inserts.

    Raises:
        RepairRefused: ``privileges_missing``, with the server's words.
    """
    if session.dialect == "sqlite":
        return
    for sql, args in asks:
        try:
            session.query(sql, args)
        except AccessDenied as error:
            raise RepairRefused(
                "privileges_missing", "the repair account lacks a right",
                "`mp repair doctor` prints the GRANT statements", cause=error.message,
            ) from error  # fmt: skip
        except ConnectionLost:
            raise
        except StatementFailed:
            continue  # the server does not take it; the first task will tell
