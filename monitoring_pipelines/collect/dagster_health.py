"""How Dagster itself is doing, asked from outside it over GraphQL: code location, daemons, schedules, sensors.

What belongs here: asking and judging. What does not: alerts made of it (``alerts.rules``) and runs of jobs
(``orchestration.ledger``, from inside). Dagster cannot report that it is down, so the process of the API asks.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

#: ``unknown``: it could not be asked, or it has not been there long enough to be judged.
State = Literal["ok", "down", "late", "failing", "stopped", "unknown"]
Kind = Literal["webserver", "code_location", "daemon", "schedule", "sensor"]
TIMEOUT_S = 5.0
#: A tick that is this much older than it should be is late: a daemon looks at schedules every few seconds.
LATE = timedelta(seconds=180)
#: Sensors wait for each other; this many of their own intervals pass before one is late.
SENSOR_INTERVALS = 10
#: Daemons the product needs; others (backfill, assets) may be off.
DAEMONS = frozenset({"SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING"})

_QUERY = """
{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime
      lastHeartbeatErrors { message } } } }
  workspaceOrError { __typename
    ... on PythonError { message }
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
      ... on PythonError { message }
      ... on RepositoryLocation { repositories {
        schedules { name cronSchedule defaultStatus scheduleState { status runningCount ticks(limit: 1) { status timestamp endTimestamp
          error { message } } } futureTicks(limit: 2) { results { timestamp } } }
        sensors { name minIntervalSeconds defaultStatus sensorState { status ticks(limit: 1) { status timestamp error { message } } } }
      } } } } } } }
"""


@dataclass(frozen=True)
class Component:
    """One part of Dagster and how it is.

    Attributes:
        kind: What it is.
        name: Its name within the kind.
        state: ``ok``, or what is wrong.
        reason: Why, in words for an operator; empty when all is well.
        since: The newest sign of life, naive UTC; None when there is none.
    """

    kind: Kind
    name: str
    state: State
    reason: str = ""
    since: datetime | None = None

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look."""
        return self.state not in ("ok", "unknown")


def ask(url: str, timeout_s: float = TIMEOUT_S) -> Mapping[str, Any]:
    """What Dagster's web server says of itself.

    Args:
        url: Address of the web server without a path.
        timeout_s: Longest wait, seconds.

    Raises:
        OSError: It does not answer.
        ValueError: What answers is no Dagster.
    """
    body = json.dumps({"query": _QUERY}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy never knows this address
    with opener.open(request, timeout=timeout_s) as response:
        answer = json.loads(response.read())
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise ValueError(f"{url} does not answer as Dagster does: {str(answer)[:200]}")
    return answer["data"]


def components(url: str, now: datetime, timeout_s: float = TIMEOUT_S) -> list[Component]:
    """All parts of the Dagster at ``url``; never raises.

    Args:
        url: Address of the web server without a path.
        now: Present instant, naive UTC.
        timeout_s: Longest wait, seconds.

    Returns:
        The web server first. When it does not answer it is the only one that is ``down``, and nothing else is known.
    """
    try:
        said = ask(url, timeout_s)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return [Component("webserver", "dagster", "down", f"{url} does not answer: {reason}")]
    return [Component("webserver", "dagster", "ok", since=now), *judge(said, now)]


def judge(said: Mapping[str, Any], now: datetime) -> list[Component]:
    """What an answer of ``ask`` means at ``now``; pure."""
    daemons = [_daemon(one) for one in said["instance"]["daemonHealth"]["allDaemonStatuses"] if _is_needed(one)]
    workspace = said["workspaceOrError"]
    if workspace["__typename"] != "Workspace":
        return [*daemons, Component("code_location", "workspace", "down", str(workspace.get("message", "")))]
    entries = workspace["locationEntries"]
    if not entries:
        return [*daemons, Component("code_location", "workspace", "down", "no code location is configured")]
    return [*daemons, *(part for entry in entries for part in _location(entry, now))]


def _is_needed(status: Mapping[str, Any]) -> bool:
    return bool(status["required"]) and status["daemonType"] in DAEMONS


def _daemon(status: Mapping[str, Any]) -> Component:
    """Dagster's own judgement: a heartbeat within its tolerance, and no error since."""
    name, seen = status["daemonType"], _instant(status["lastHeartbeatTime"])
    errors = [error["message"].strip() for error in status["lastHeartbeatErrors"] or []]
    if status["healthy"]:
        return Component("daemon", name, "ok", since=seen)
    if seen is None:
        return Component("daemon", name, "down", "it has never been heard of")
    if errors:
        return Component("daemon", name, "failing", errors[0], seen)
    return Component("daemon", name, "down", f"last heard of at {seen.isoformat(timespec='seconds')}Z", seen)


def _location(entry: Mapping[str, Any], now: datetime) -> Iterator[Component]:
    name, loaded = entry["name"], entry["locationOrLoadError"]
    if loaded is None:
        yield Component("code_location", name, "unknown", f"it is being loaded ({entry['loadStatus']})")
        return
    if loaded["__typename"] != "RepositoryLocation":
        yield Component("code_location", name, "down", str(loaded.get("message", "")).strip())
        return
    yield Component("code_location", name, "ok", since=now)
    for repository in loaded["repositories"]:
        yield from (_schedule(one, now) for one in repository["schedules"])
        yield from (_sensor(one, now) for one in repository["sensors"])


def _schedule(said: Mapping[str, Any], now: datetime) -> Component:
    state = said["scheduleState"]
    if state["status"] != "RUNNING":
        return _off("schedule", said)
    due = [_instant(tick["timestamp"]) for tick in said["futureTicks"]["results"]]
    period = due[1] - due[0] if len(due) > 1 and due[0] and due[1] else None
    return _ticks("schedule", said["name"], state["ticks"], None if period is None else period + LATE, now)


def _sensor(said: Mapping[str, Any], now: datetime) -> Component:
    state = said["sensorState"]
    if state["status"] != "RUNNING":
        return _off("sensor", said)
    allowed = max(timedelta(seconds=said["minIntervalSeconds"]) * SENSOR_INTERVALS, LATE)
    return _ticks("sensor", said["name"], state["ticks"], allowed, now)


def _off(kind: Kind, said: Mapping[str, Any]) -> Component:
    """Something that does not run: somebody switched it off, unless it is off until somebody wants it."""
    if said.get("defaultStatus", "RUNNING") == "STOPPED":
        return Component(kind, said["name"], "ok", "it is off until it is switched on")
    return Component(kind, said["name"], "stopped", "it is switched off in Dagster")


def _ticks(
    kind: Kind, name: str, ticks: Sequence[Mapping[str, Any]], allowed: timedelta | None, now: datetime
) -> Component:
    """Judge the newest tick; ``allowed``: its greatest age, None: unknown."""
    if not ticks:
        return Component(kind, name, "unknown", "it has not been evaluated yet")
    tick = ticks[0]
    at = _instant(tick["timestamp"])
    if tick["status"] == "FAILURE":
        error = (tick.get("error") or {}).get("message", "").strip()
        return Component(kind, name, "failing", error.splitlines()[0] if error else "its evaluation failed", at)
    if at is not None and allowed is not None and now - at > allowed:
        minutes = (now - at) / timedelta(minutes=1)
        return Component(kind, name, "late", f"last evaluated {minutes:.0f} minutes ago", at)
    return Component(kind, name, "ok", since=at)


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC).replace(tzinfo=None)
