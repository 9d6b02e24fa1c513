"""Approving and rejecting plans (R-401).

What belongs here: who may approve what, and what an approval is bound to. What does not: refusals at apply (``gate``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import RepairRefused
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings

POLICY = "policy:auto_approve"


def approve(
    settings: Settings, state: StateStore, clock: Clock, plan_id: str, approver: str, *,
    plan_hash: str | None = None, note: str | None = None, placeholders: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Approve a plan: bound to its hash and number of rows, good for one apply and its resumes.

    Args:
        settings: Configuration.
        state: State store.
        clock: Clock.
        plan_id: The plan.
        approver: A person's name.
        plan_hash: The hash the approver saw; None = the stored one.
        note: Reason, kept.
        placeholders: The approver knows that rows of this plan are placeholders (R §5).

    Raises:
        RepairRefused: ``not_ready``, ``hash_differs``, ``two_person`` or ``placeholder``.
    """
    with state.begin() as con:
        plan = store.get_plan(con, plan_id)
        if plan["state"] != "ready":
            raise RepairRefused(
                "not_ready", f"plan {plan_id} is {plan['state']}, only a ready plan can be approved",
                "`mp repair plan` makes a new one",
            )  # fmt: skip
        if plan_hash is not None and plan_hash != plan["plan_hash"]:
            raise RepairRefused("hash_differs", f"plan {plan_id} is not the one that was looked at", "look at it again")
        if settings.repair.two_person and approver == plan["created_by"]:
            raise RepairRefused(
                "two_person", f"{approver} made the plan and may not approve it too", "repair.two_person is set"
            )
        if _has_placeholders(con, plan_id) and not placeholders:
            raise RepairRefused(
                "placeholder", f"plan {plan_id} would insert placeholders, which are not outputs",
                "approve it with --placeholders if that is what you want",
            )  # fmt: skip
        policy = {"placeholders": True} if placeholders else None
        approval = _approval(plan, approver, clock, note, policy)
        store.save_approval(con, approval)
        store.update_plan(con, plan_id, state="approved")
        _audit(con, clock, approval)
    return approval


def approve_by_policy(settings: Settings, state: StateStore, clock: Clock, plan_id: str) -> bool:
    """Approve a small, clean plan without a person if the configuration says so (R-401); off by default."""
    most = settings.repair.auto_approve.max_rows
    with state.begin() as con:
        plan = store.get_plan(con, plan_id)
        counters = plan["counters"]
        clean = counters["classes"]["validation_failed"] == 0 and not _has_placeholders(con, plan_id)
        if not (0 < counters["rows_planned"] <= most and clean) or settings.repair.two_person:
            return False
        approval = _approval(plan, POLICY, clock, None, {"max_rows": most})
        store.save_approval(con, approval)
        store.update_plan(con, plan_id, state="approved")
        _audit(con, clock, approval)
    return True


def reject(state: StateStore, clock: Clock, plan_id: str, actor: str, note: str | None = None) -> None:
    """Reject a plan that was not applied yet; RepairRefused (``not_open``) otherwise."""
    with state.begin() as con:
        plan = store.get_plan(con, plan_id)
        if plan["state"] not in ("ready", "approved", "paused", "aborted", "stale", "building"):
            raise RepairRefused("not_open", f"plan {plan_id} is {plan['state']}", "an applied plan can be rolled back")
        store.update_plan(con, plan_id, state="rejected", abort_reason=note or plan["abort_reason"])
        audit.record(con, clock.now(), actor, "repair.reject", plan_id, {"note": note})


def _has_placeholders(con: Any, plan_id: str) -> bool:
    items = store.get_items(con, plan_id, "eligible")
    return any(row["evidence"].get("placeholder") for item in items for row in item["rows"])


def _approval(
    plan: dict[str, Any], approver: str, clock: Clock, note: str | None, policy: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "plan_id": plan["plan_id"], "plan_hash": plan["plan_hash"], "rows_planned": plan["counters"]["rows_planned"],
        "approver": approver, "at": clock.now(), "note": note, "policy": policy, "used_by_run": None,
    }  # fmt: skip


def _audit(con: Any, clock: Clock, approval: dict[str, Any]) -> None:
    detail = {name: approval[name] for name in ("plan_hash", "rows_planned", "note", "policy")}
    audit.record(con, clock.now(), approval["approver"], "repair.approve", approval["plan_id"], detail)
