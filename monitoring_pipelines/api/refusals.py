"""Refused mutations in the audit log: who wanted to do what and may not (403), or could not as things stood (409).

What belongs here: which refusals are written down, and how many. What does not: refusing, and the chain of the log.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fastapi import Request

from monitoring_pipelines.api.access import LOCAL, SAFE_METHODS
from monitoring_pipelines.api.services import audit, services_of, was_audited

log = logging.getLogger(__name__)

#: Rows of one caller within a minute: whoever is refused in a loop must not fill the store.
MOST_PER_MINUTE = 30
_MINUTE = timedelta(minutes=1)
_PLAN, _RUN, _JOBS = "/api/v1/repair/plans/{plan_id}", "/api/v1/repair/runs/{run_id}", "/api/v1/scheduler/jobs"
#: What a route is called in the log; the same word stands there when it succeeds, but that of a batch is then what was done.
ACTIONS = {
    ("POST", "/api/v1/alerts/{alert_id}/ack"): "alert.acknowledge",
    ("DELETE", "/api/v1/alerts/{alert_id}/ack"): "alert.withdraw_acknowledgement",
    ("POST", "/api/v1/silences"): "silence.create",
    ("DELETE", "/api/v1/silences/{silence_id}"): "silence.end",
    ("POST", "/api/v1/checks/runs"): "check.run",
    ("POST", "/api/monitoring/data-consistency/check"): "check.run",
    ("PUT", "/api/monitoring/config/thresholds"): "thresholds.change",
    ("POST", "/api/monitoring/test-alert"): "alert.test",
    ("POST", f"{_JOBS}/{{job_id}}/trigger"): "job.trigger",
    ("POST", f"{_JOBS}/batch"): "job.batch",
    ("POST", "/api/v1/repair/plans"): "repair.plan",
    **{("POST", f"{_PLAN}/{verb}"): f"repair.{verb}" for verb in ("approve", "reject", "apply")},
    **{("POST", f"{_RUN}/{verb}"): f"repair.{verb}" for verb in ("resume", "verify", "rollback")},
}


@dataclass
class _Caller:
    """When rows of one caller were written, and how many refusals since were not."""

    at: deque[datetime] = field(default_factory=deque)
    left_out: int = 0


@dataclass
class Refusals:
    """What the application has written down of whom; callers are the configured tokens, so there are few."""

    _callers: dict[str, _Caller] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def left_out(self, name: str, now: datetime) -> int | None:
        """How many refusals of the caller stand in no row before this one; None when this one gets none either."""
        with self._lock:
            caller = self._callers.setdefault(name, _Caller())
            while caller.at and now - caller.at[0] >= _MINUTE:
                caller.at.popleft()
            if len(caller.at) >= MOST_PER_MINUTE:
                caller.left_out += 1
                return None
            caller.at.append(now)
            missing, caller.left_out = caller.left_out, 0
            return missing

    def could_not_write(self, name: str, missing: int) -> None:
        """The row that was to tell of ``missing`` others is missing too."""
        with self._lock:
            self._callers[name].left_out += missing + 1


def record_refusal(request: Request, status: int, reason: str | None) -> None:
    """Write down that a known token's mutation was refused; a store that cannot be written changes nothing about the answer.

    Without a known token nothing is written: anybody could fill the store.

    Args:
        request: The request.
        status: What it is answered; 403 and 409 are written down.
        reason: The stable word of the answer.
    """
    who = getattr(request.state, "principal", LOCAL)
    if status not in (403, 409) or request.method in SAFE_METHODS or who is LOCAL or was_audited(request):
        return
    services = services_of(request)
    refusals: Refusals = services.shared.setdefault("refusals", Refusals())
    missing = refusals.left_out(who.name, services.clock.now())
    if missing is None:
        return
    path = str(getattr(request.scope.get("route"), "path", request.url.path)).replace(":path}", "}")
    action = ACTIONS.get((request.method, path), request.method.lower())
    target = "/".join(str(value) for value in request.path_params.values()) or path
    detail = {"refused": reason or str(status), "status": status} | ({"left_out": missing} if missing else {})
    try:
        audit(request, action, target, detail)
    except Exception:
        refusals.could_not_write(who.name, missing)
        log.exception("a refused %s of %s is not in the audit log", action, who.name)
