"""``python -m monitoring_pipelines.api.child REQUEST``: one action in a process of its own, its outcome as a line of JSON.

The server itself never opens the warehouse, a source or a repair account (R-802); what needs them runs here.

What belongs here: reading the request, calling the action, the answer. What does not: the actions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from monitoring_pipelines.errors import ProductError


def main(arguments: list[str]) -> int:
    """Do what the request says; the configuration is that of MP_CONFIG, the clock that of MP_NOW."""
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.config.secrets import mask
    from monitoring_pipelines.state import StateStore

    request = json.loads(arguments[0])
    try:
        settings = load_settings(None)
        answer = ACTIONS[request.pop("action")](settings, StateStore.of(settings), current_clock(), **request)
    except ProductError as error:
        answer = {"code": error.code, "message": mask(error.message), "exit_code": error.exit_code}
    sys.stdout.write(json.dumps(answer) + "\n")
    return int(answer.get("exit_code", 0))


def _check(
    settings: Any, state: Any, clock: Any, run_type: str, hours_back: int | None, source: str | None, new_run_id: str
) -> dict[str, Any]:
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality import runs
    from monitoring_pipelines.quality.model import RunType

    run = runs.execute(
        Pipeline.of(settings, clock), state, cast(RunType, run_type), trigger="api", hours_back=hours_back,
        sources=[source] if source else None, run_id=new_run_id,
    )  # fmt: skip
    return {"run_id": run.run_id}


def _plan(settings: Any, state: Any, clock: Any, actor: str, new_plan_id: str, **request: Any) -> dict[str, Any]:
    from monitoring_pipelines.compensation.model import PlanRequest
    from monitoring_pipelines.compensation.plan import Planner

    for name in ("window_from", "window_to"):
        request[name] = datetime.fromisoformat(request[name]) if request[name] else None
    if request["task_ids"] is not None:
        request["task_ids"] = tuple(request["task_ids"])
    plan = Planner(settings, state, clock).make(PlanRequest(**request), actor, plan_id=new_plan_id)
    return {"plan_id": plan["plan_id"]}


def _apply(settings: Any, state: Any, clock: Any, plan_id: str, actor: str, new_run_id: str) -> dict[str, Any]:
    from monitoring_pipelines.compensation.runs import Applier

    return _followed(settings, state, clock, Applier(settings, state, clock).apply(plan_id, actor, run_id=new_run_id))


def _resume(settings: Any, state: Any, clock: Any, run_id: str, actor: str, new_run_id: str) -> dict[str, Any]:
    from monitoring_pipelines.compensation.runs import Applier

    run = Applier(settings, state, clock).resume(run_id, actor, new_run_id=new_run_id)
    return _followed(settings, state, clock, run)


def _verify(settings: Any, state: Any, clock: Any, run_id: str, actor: str, new_run_id: str) -> dict[str, Any]:
    from monitoring_pipelines.compensation.verify import Verifier

    return _followed(
        settings, state, clock, Verifier(settings, state, clock).verify(run_id, actor, new_run_id=new_run_id)
    )


def _rollback(
    settings: Any, state: Any, clock: Any, run_id: str, actor: str, new_run_id: str, dry_run: bool,
    task_ids: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    from monitoring_pipelines.compensation.rollback import Rollbacker

    run = Rollbacker(settings, state, clock).rollback(
        actor, run_id=run_id, task_ids=task_ids or None, dry_run=dry_run, new_run_id=new_run_id
    )
    return _followed(settings, state, clock, run)


def _followed(settings: Any, state: Any, clock: Any, run: dict[str, Any]) -> dict[str, Any]:
    """The answer of a run, after verification, statistics and report."""
    from monitoring_pipelines.compensation.after import after_run

    return {"run_id": after_run(settings, state, clock, run)["run_id"]}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "check": _check, "plan": _plan, "apply": _apply, "resume": _resume, "verify": _verify, "rollback": _rollback,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
