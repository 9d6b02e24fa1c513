"""What repair has to tell the alert engine, and what an alert about missing outputs can say of repair (R-312, R-602).

What belongs here: conditions out of stored plans and runs. What does not: alert life cycle and channels (``alerts``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.readable import sentence
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store

#: Runs and plans looked at per source; older ones are history.
_RECENT = 200
#: Alert type → alert name.
TYPES = {
    "repair_paused": "RepairPaused", "repair_failed": "RepairFailed", "repair_verify_failed": "RepairVerifyFailed",
    "repair_rollback_incomplete": "RepairRollbackIncomplete",
}  # fmt: skip


def observations(state: StateStore, source_ids: Iterable[str]) -> list[Observation]:
    """One observation per source and type: true while the newest plan or run of its kind says so.

    A pause ends with the next plan, resume or rejection; a failed verification with the next one that succeeds.
    """
    result = []
    with state.read() as con:
        for source_id in source_ids:
            plans = store.list_plans(con, source_id, limit=_RECENT)
            runs = [run for run in store.list_runs(con) if run["source_id"] == source_id][-_RECENT:]
            for kind, found in _conditions(plans, runs).items():
                result.append(_observation(kind, source_id, found))
    return result


def _conditions(plans: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """Type → what fires it, None when nothing does."""
    plan = plans[0] if plans else None
    writers = [run for run in runs if run["kind"] in ("apply", "resume") and run["state"] not in ("refused", "locked")]
    last = writers[-1] if writers else None
    paused: dict[str, Any] | None = None
    if plan is not None and plan["state"] == "paused" and (last is None or last["plan_id"] != plan["plan_id"]):
        paused = {"plan_id": plan["plan_id"], "reason": plan["abort_reason"]}
    elif last is not None and last["state"] == "paused" and _state_of(plans, last["plan_id"]) != "rejected":
        paused = {"plan_id": last["plan_id"], "run_id": last["run_id"], "reason": last["reason"]}
    failed: dict[str, Any] | None = None
    if plan is not None and plan["state"] == "aborted":
        failed = {"plan_id": plan["plan_id"], "reason": plan["abort_reason"]}
    else:
        undoing = [run for run in runs if run["kind"] == "rollback" and not run["dry_run"]]
        tried = [run for run in (*writers, *undoing) if run["state"] not in ("refused", "locked")]
        newest = max(tried, key=lambda run: str(run["run_id"]), default=None)
        if newest is not None and newest["state"] == "failed":
            failed = {"plan_id": newest["plan_id"], "run_id": newest["run_id"], "reason": newest["reason"]}
    return {
        "repair_paused": paused, "repair_failed": failed, "repair_verify_failed": _verify_failed(runs),
        "repair_rollback_incomplete": _rollback_incomplete(runs),
    }  # fmt: skip


def _state_of(plans: list[dict[str, Any]], plan_id: str) -> str | None:
    return next((plan["state"] for plan in plans if plan["plan_id"] == plan_id), None)


def _verify_failed(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    checked = [run for run in runs if "result" in (run["verification"] or {})]
    if not checked or checked[-1]["verification"]["result"] == "verified":
        return None
    run = checked[-1]
    # A rollback after it is the answer to it.
    if any(r["kind"] == "rollback" and not r["dry_run"] and r["run_id"] > run["run_id"] for r in runs):
        return None
    found = run["verification"]
    counts = {kind: len(found[kind]) for kind in ("missing", "modified", "duplicate")}
    reason = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return {"plan_id": run["plan_id"], "run_id": run["run_id"], "reason": reason}


def _rollback_incomplete(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Rows that a rollback kept, unless all of them were gone already (R-705)."""
    undone = [run for run in runs if run["kind"] == "rollback" and not run["dry_run"] and run["state"] == "finished"]
    if not undone:
        return None
    counters = undone[-1]["counters"] or {}
    kept = {name: counters.get(name, 0) for name in ("modified_since", "blocked_by_reference")}
    if not sum(kept.values()):
        return None
    reason = ", ".join(f"{n} rows {name}" for name, n in kept.items() if n)
    return {"plan_id": undone[-1]["plan_id"], "run_id": undone[-1]["run_id"], "reason": reason}


def _observation(kind: str, source_id: str, found: dict[str, Any] | None) -> Observation:
    message = "" if found is None else f"plan {found['plan_id']}: {found['reason']}"
    return Observation(
        type=kind, source_id=source_id, condition="true" if found else "false", severity="high",
        severity_label="high", alertname=TYPES[kind], message=message, details=found or {},
    )  # fmt: skip


def summary_for_alert(state: StateStore, source_id: str) -> dict[str, Any] | None:
    """What an alert about missing outputs of ``source_id`` says about repair; None when there is no plan.

    Returns:
        ``plan_id``, ``state``, ``rows_planned``, ``tasks_left`` (candidates of the plan without an output so far) and
        ``text``, one English sentence.
    """
    with state.read() as con:
        plans = [p for p in store.list_plans(con, source_id, limit=10) if p["state"] not in ("rejected", "building")]
        items = store.get_items(con, plans[0]["plan_id"]) if plans else []
    if not plans:
        return None
    plan = plans[0]
    repaired = [item for item in items if item["run_state"] in ("committed", "already_present")]
    present = [item for item in items if item["class"] == "already_present"]
    left = len(items) - len(repaired) - len(present)
    counters = plan["counters"] or {}
    rows = counters.get("rows_planned", 0)
    text = sentence(
        "repair plan {plan_id} is {state}: {n} tasks repaired, {left} left",
        plan_id=plan["plan_id"], state=plan["state"], n=len(repaired), left=left,
    )  # fmt: skip
    return {
        "plan_id": plan["plan_id"], "state": plan["state"], "rows_planned": rows, "tasks_repaired": len(repaired),
        "tasks_left": left, "text": text,
    }  # fmt: skip
