"""Starting an action in a process of its own and waiting for it as long as a request may (S-411, S-260).

What belongs here: the process, its time limit, its answer. What does not: the action (``child``).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.api.answers import ApiError, bad, conflict, missing
from monitoring_pipelines.clock import NOW_VARIABLE, FixedClock
from monitoring_pipelines.quality.model import CheckRun
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state import repair as repair_store
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.api.services import Services

log = logging.getLogger(__name__)
#: Longest wait for a started action to store that it runs, seconds.
_STORED_WITHIN_S = 30.0
#: What a request waits that is to be answered at once, seconds: bad requests are refused within it.
_AT_ONCE_S = 0.05
#: A repair is refused this soon after it is stored; one that still goes on then is under way, seconds.
_REFUSED_WITHIN_S = 2.0
#: Exit codes of surfaces §7 that are conflicts: locked, refused, paused.
_CONFLICTS = (4, 5, 6)


def start(
    services: Services, action: str, timeout_s: float, goes_on: Callable[[], bool], **request: Any
) -> dict[str, Any] | None:
    """Start an action.

    Args:
        services: What the server has.
        action: Name in ``child.ACTIONS``.
        timeout_s: Seconds to wait for its answer.
        goes_on: Whether it can be asked for elsewhere; until then the wait lasts, ``_STORED_WITHIN_S`` at most.
        request: Its arguments.

    Returns:
        Its answer, or None when it goes on.

    Raises:
        ApiError: 503 when it ended without an answer.
    """
    process = subprocess.Popen(  # noqa: S603 - a fixed command of this product
        [sys.executable, "-m", "monitoring_pipelines.api.child", json.dumps({"action": action} | request)],
        env=_environment(services), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + timeout_s + _STORED_WITHIN_S
    while True:
        try:
            output, errors = process.communicate(timeout=timeout_s)
            break
        except subprocess.TimeoutExpired:
            if goes_on() or time.monotonic() > until:
                threading.Thread(target=_follow, args=(action, process), daemon=True).start()
                return None
            timeout_s = 0.05
    answer = _answer(output)
    if not answer:
        log.error("%s ended with code %s: %s", action, process.returncode, errors.strip()[-2000:])
        raise ApiError(503, f"the {action} could not be run; the log says why", "failed")
    return answer


def _follow(action: str, process: subprocess.Popen[str]) -> None:
    """Log how an action ended that nobody waits for any more."""
    output, errors = process.communicate()
    if process.returncode:
        said = _answer(output).get("message") or errors.strip()[-2000:]
        log.error("%s ended with code %s: %s", action, process.returncode, said)


def refuse(answer: dict[str, Any], what: str) -> None:
    """Turn a failed answer into an error (S-102).

    Raises:
        ApiError: 400, 404, 409 or 503.
    """
    code = answer.get("exit_code", 0)
    if not code:
        return
    log.info("%s: %s (%s)", what, answer["message"], answer["code"])
    if code in _CONFLICTS:
        raise conflict(f"{what}: {answer['code']}", answer["code"])
    if answer["code"] == "config":  # its message names files of this machine
        log.error("%s: %s", what, answer["message"])
        raise ApiError(503, f"{what}: the configuration is at fault; the log says why", "config")
    if code == 2 and answer["code"] != "nothing_published":
        message = str(answer["message"])
        raise missing(message) if message.startswith("no repair ") else bad(message)
    raise ApiError(503, f"{what}: not available at the moment", answer["code"])


def _environment(services: Services) -> dict[str, str]:
    env = {**os.environ, "MP_CONFIG": str(services.settings.file)}
    if isinstance(services.clock, FixedClock):
        env[NOW_VARIABLE] = services.clock.now().isoformat() + "Z"
    return env


def _answer(output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Started:
    """A check that was started; ``run`` is None while it goes on."""

    run_id: str
    run: CheckRun | None


def check(
    services: Services, run_id: str, run_type: str, hours_back: int | None, source: str | None, *, wait: bool = True
) -> Started:
    """Run a check under a new id and wait for it up to ``api.sync_check_timeout_s`` (S-411).

    Raises:
        ApiError: 409 when one of the type is running already; 503 when it could not be started.
    """

    def is_stored() -> bool:
        return stored.progress_of(services.state, run_id) is not None

    answer = start(
        services, "check", services.settings.api.sync_check_timeout_s if wait else _AT_ONCE_S, is_stored,
        run_type=run_type, hours_back=hours_back, source=source, new_run_id=run_id,
    )  # fmt: skip
    if answer is None:
        if not is_stored():
            raise ApiError(503, "the check was started and has not reported back", "check_failed")
        return Started(run_id, None)
    refuse(answer, f"{run_type} check")
    return Started(run_id, stored.load(services.state, run_id))


def plan(services: Services, *, wait: bool, **request: Any) -> tuple[str, bool]:
    """Make a repair plan and wait for it up to ``api.sync_check_timeout_s``.

    Args:
        services: What the server has.
        wait: Whether to wait for its end, or only until it can be asked for.
        request: Arguments of the action.

    Returns:
        Id of the plan, and whether it is made. A plan is stored once its tasks are read: where that takes longer than
        ``_STORED_WITHIN_S``, its id is unknown to other routes until then.

    Raises:
        ApiError: 400, 404, 409 or 503 when it cannot be made.
    """
    plan_id = new_id(services.clock.now())

    def is_stored() -> bool:
        with services.state.read() as con:
            return repair_store.has_plan(con, plan_id)

    limit = services.settings.api.sync_check_timeout_s if wait else _AT_ONCE_S
    answer = start(services, "plan", limit, is_stored, new_plan_id=plan_id, **request)
    if answer is not None:
        refuse(answer, "plan")
    return plan_id, answer is not None


def repair(services: Services, action: str, new_run_id: str, **request: Any) -> None:
    """Begin a repair run; it goes on when this returns (S-260).

    Args:
        services: What the server has.
        action: apply, resume, verify or rollback.
        new_run_id: Id of the new run.
        request: Arguments of the action.

    Raises:
        ApiError: 409 with the reason word when it is refused; 400, 404 or 503 when it cannot begin.
    """
    stored_at: list[float] = []

    def is_under_way() -> bool:
        with services.state.read() as con:
            if not stored_at and repair_store.run_state(con, new_run_id) is not None:
                stored_at.append(time.monotonic())
        return bool(stored_at) and time.monotonic() - stored_at[0] > _REFUSED_WITHIN_S

    answer = start(services, action, _AT_ONCE_S, is_under_way, new_run_id=new_run_id, **request)
    if answer is not None:
        refuse(answer, action)
