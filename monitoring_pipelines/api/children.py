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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.api.answers import ApiError, bad, conflict, missing
from monitoring_pipelines.clock import NOW_VARIABLE, FixedClock
from monitoring_pipelines.quality.model import CheckRun
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.api.services import Services

log = logging.getLogger(__name__)
#: Longest wait for a started check to store that it runs, seconds.
_STORED_WITHIN_S = 30.0
#: Exit codes of surfaces §7 that are conflicts: locked, refused, paused.
_CONFLICTS = (4, 5, 6)


def start(
    services: Services, action: str, timeout_s: float, **request: Any
) -> tuple[subprocess.Popen[str], dict[str, Any] | None]:
    """Start an action; its answer, or None when it goes on after ``timeout_s`` seconds."""
    process = subprocess.Popen(  # noqa: S603 - a fixed command of this product
        [sys.executable, "-m", "monitoring_pipelines.api.child", json.dumps({"action": action} | request)],
        env=_environment(services), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.communicate, daemon=True).start()
        return process, None
    answer = _answer(output)
    if not answer:
        log.error("%s ended with code %s: %s", action, process.returncode, errors.strip()[-2000:])
        raise ApiError(503, f"the {action} could not be run; the log says why", "failed")
    return process, answer


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
    services: Services, run_type: str, hours_back: int | None, source: str | None, *, wait: bool = True
) -> Started:
    """Run a check and wait for it up to ``api.sync_check_timeout_s`` (S-411).

    Raises:
        ApiError: 409 when one of the type is running already; 503 when it could not be started.
    """
    run_id = new_id(services.clock.now())
    limit = services.settings.api.sync_check_timeout_s if wait else 0.05
    process, answer = start(
        services, "check", limit, run_type=run_type, hours_back=hours_back, source=source, new_run_id=run_id
    )
    if answer is None:
        _until_stored(services, run_type, run_id, process)
        return Started(run_id, None)
    refuse(answer, f"{run_type} check")
    return Started(run_id, stored.load(services.state, run_id))


def _until_stored(services: Services, run_type: str, run_id: str, process: subprocess.Popen[str]) -> None:
    """Wait until the run that was just started can be asked for."""
    until = time.monotonic() + _STORED_WITHIN_S
    while time.monotonic() < until:
        ended = process.poll() is not None
        if stored.load(services.state, run_id) is not None:
            return
        if ended:
            raise conflict(f"a {run_type} check is already running or could not be started", "check_running")
        time.sleep(0.05)
    raise ApiError(503, "the check was started and has not reported back", "check_failed")
