"""Running a check for a request: in a process of its own, because the server never opens the warehouse.

What belongs here: starting it, waiting for it, finding its run. What does not: the check (``quality.runs``).
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
from typing import TYPE_CHECKING

from monitoring_pipelines.api.answers import ApiError, conflict
from monitoring_pipelines.clock import NOW_VARIABLE, FixedClock
from monitoring_pipelines.quality.model import CheckRun
from monitoring_pipelines.state import checks as stored

if TYPE_CHECKING:
    from monitoring_pipelines.api.services import Services

log = logging.getLogger(__name__)
#: Longest wait for a started check to name its run, seconds.
_NAMED_WITHIN_S = 30.0


@dataclass(frozen=True)
class Started:
    """A check that was started; ``run`` is None while it goes on."""

    run_id: str
    run: CheckRun | None


def run(services: Services, run_type: str, hours_back: int | None, source: str | None, *, wait: bool = True) -> Started:
    """Run a check and wait for it up to ``api.sync_check_timeout_s`` (S-411).

    Raises:
        ApiError: 409 when one of the type is running already; 503 when it could not be started.
    """
    known = newest_id(services, run_type)
    arguments = [run_type, "" if hours_back is None else str(hours_back), source or ""]
    process = subprocess.Popen(  # noqa: S603 - a fixed command of this product
        [sys.executable, "-m", "monitoring_pipelines.api.run_check", *arguments], env=_environment(services),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=services.settings.api.sync_check_timeout_s if wait else 0.05)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.communicate, daemon=True).start()
        return Started(_named(services, run_type, known, process), None)
    answer = _answer(output)
    if answer.get("code") in ("check_running", "locked"):
        raise conflict(f"a {run_type} check is already running", "already_running")
    if "run_id" not in answer:
        log.error("a %s check could not be run: %s", run_type, answer.get("message"))
        raise ApiError(503, "the check could not be run; the log says why", answer.get("code") or "check_failed")
    found = stored.load(services.state, answer["run_id"])
    return Started(answer["run_id"], found)


def _environment(services: Services) -> dict[str, str]:
    env = {**os.environ, "MP_CONFIG": str(services.settings.file)}
    if isinstance(services.clock, FixedClock):
        env[NOW_VARIABLE] = services.clock.now().isoformat() + "Z"
    return env


def _answer(output: str) -> dict[str, str]:
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def newest_id(services: Services, run_type: str) -> str:
    """Id of the newest run of the type, empty without any."""
    runs, _ = stored.page(services.state, run_type=run_type, size=1)
    return runs[0].run_id if runs else ""


def _named(services: Services, run_type: str, known: str, process: subprocess.Popen[str]) -> str:
    """The id of the run that was just started, as soon as it is stored."""
    until = time.monotonic() + _NAMED_WITHIN_S
    while time.monotonic() < until:
        found = newest_id(services, run_type)
        if found != known:
            return found
        if process.poll() is not None:
            raise conflict(f"a {run_type} check is already running or could not be started", "not_started")
        time.sleep(0.05)
    raise ApiError(503, "the check was started and has not reported back", "check_failed")
