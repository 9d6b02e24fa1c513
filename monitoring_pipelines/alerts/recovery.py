"""Requests to restart or relieve what is sick, through hooks of the operator (A-701 to A-704).

What belongs here: when a request is made, what the journal says of it, and calling the hook. What does not: restarting
anything; the product never does.

A request is decided and journaled in the transaction of the evaluation, the hook is called after it. A process killed in
between has used up one execution without a restart; nothing is ever restarted twice for one request.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, select, update

from monitoring_pipelines.alerts.book import Row
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import RecoveryHook, RecoveryTarget
    from monitoring_pipelines.state import StateStore

RESTART, SHED = "restart", "shed_load"
EXHAUSTED = "auto_recovery_exhausted"
HOOK_TIMEOUT_S = 20.0
SHED_COOLDOWN_S = 60.0
DAY = timedelta(hours=24)
MIB = 1 << 20
#: A-702.
_CPU_PERCENT, _CPU_OF_LAST, _CPU_SAMPLES = 90, 5, 3
_MEMORY_SAMPLES, _MEMORY_BYTES, _MEMORY_PERCENT = 10, 800 * MIB, 85
_LEVELS = {"medium": "moderate", "critical": "aggressive"}
_requests = tables.recovery_request
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Somebody should act on ``target``. ``level`` belongs to load shedding: normal, moderate, aggressive."""

    target: str
    action: str
    reason: str
    level: str | None = None


@dataclass(frozen=True)
class Execution:
    """A journaled request whose hook is to be called now."""

    request_id: str
    request: Request


def requests(settings: Settings, seen: Iterable[Observation], firing: Iterable[Row]) -> list[Request]:
    """What the evaluation asks for: at most one restart per target, the first reason that holds (A-702), and the level
    of load shedding each process should have (A-704)."""
    restarts: dict[str, str] = {}
    levels: dict[str, str] = {}
    for alert in firing:
        if alert["type"] == "target.down" and not alert["is_drill"]:
            restarts.setdefault(_target(alert["labels"], alert["service"]), "target.down is firing")
    for one in seen:
        name = _target(one.labels, one.service)
        if one.condition == "true" and one.details.get("health") == "unhealthy":
            restarts.setdefault(name, "health is unhealthy")
        samples = one.details.get("samples")
        if one.type.startswith("resource.") and samples and "process" in one.labels:
            reason = _sick(samples, settings.recovery.targets.get(name))
            if reason is not None:
                restarts.setdefault(name, reason)
        if one.type == "resource.memory_level" and one.condition in ("true", "false"):
            levels[name] = _LEVELS.get(one.severity, "normal") if one.condition == "true" else "normal"
    done = [Request(name, RESTART, reason) for name, reason in sorted(restarts.items())]
    return done + [Request(name, SHED, f"memory level {level}", level) for name, level in sorted(levels.items())]


def _target(labels: dict[str, str], service: str | None) -> str:
    return labels.get("target") or labels.get("process") or service or "unknown"


def _sick(samples: Sequence[dict[str, Any]], target: RecoveryTarget | None) -> str | None:
    cpu = [s["cpu_pct"] for s in samples[-_CPU_OF_LAST:] if s.get("cpu_pct") is not None]
    if sum(value > _CPU_PERCENT for value in cpu) >= _CPU_SAMPLES:
        return f"CPU above {_CPU_PERCENT} % in {_CPU_SAMPLES} of the last {_CPU_OF_LAST} samples"
    memory = [s.get("rss_bytes") for s in samples[-_MEMORY_SAMPLES:]]
    known = [value for value in memory if value is not None]
    grows = len(known) == _MEMORY_SAMPLES and all(a <= b for a, b in pairwise(known))
    if grows and (known[-1] > _MEMORY_BYTES or (samples[-1].get("mem_pct") or 0) > _MEMORY_PERCENT):
        return f"memory did not shrink over {_MEMORY_SAMPLES} samples and is {known[-1] // MIB} MiB"
    uptime = samples[-1].get("uptime_s")
    if target is not None and target.max_uptime_s is not None and uptime is not None and uptime > target.max_uptime_s:
        return f"uptime above {target.max_uptime_s:g} s"
    return None


def decide(con: Connection, settings: Settings, wanted: Sequence[Request], now: datetime) -> list[Execution]:
    """Journal the requests and return those whose hooks are to be called (A-701, A-703)."""
    done = []
    for request in wanted:
        result = _shed_result(con, settings, request, now) if request.action == SHED else _restart_result(
            con, settings, request, now
        )  # fmt: skip
        if result is None:
            continue
        request_id = new_id(now)
        con.execute(
            insert(_requests).values(
                request_id=request_id,
                target=request.target,
                action=request.action,
                at=now,
                result=result,
                reason=request.reason,
                detail={"level": request.level} if request.level else None,
            )
        )
        if result == "executed":
            done.append(Execution(request_id, request))
    return done


def _restart_result(con: Connection, settings: Settings, request: Request, now: datetime) -> str | None:
    """What becomes of a request; None: the journal already says so since the last cool-down."""
    cooldown = timedelta(seconds=settings.recovery.cooldown_s)
    last, count = _executions(con, request.target, now)
    if not _is_live(settings, request.target):
        result = "would_restart"
    elif last is not None and now - last < cooldown:
        result = "cooldown"
    elif count >= settings.recovery.max_per_24h:
        result = "exhausted"
    else:
        return "executed"
    newest = con.execute(
        select(_requests.c.result, _requests.c.reason, _requests.c.at)
        .where(_requests.c.target == request.target, _requests.c.action == RESTART)
        .order_by(_requests.c.at.desc(), _requests.c.request_id.desc())
    ).first()
    same = newest is not None and (newest.result, newest.reason) == (result, request.reason)
    return None if same and newest is not None and now - newest.at < cooldown else result


def _shed_result(con: Connection, settings: Settings, request: Request, now: datetime) -> str | None:
    """A new level is asked for at most once a minute; a target that never had one is at normal."""
    newest = con.execute(
        select(_requests.c.detail, _requests.c.at)
        .where(_requests.c.target == request.target, _requests.c.action == SHED)
        .order_by(_requests.c.at.desc(), _requests.c.request_id.desc())
    ).first()
    level = newest.detail["level"] if newest is not None else "normal"
    if level == request.level or (newest is not None and now - newest.at < timedelta(seconds=SHED_COOLDOWN_S)):
        return None
    known = settings.recovery.targets.get(request.target)
    has_hook = known is not None and known.load_shedding is not None
    return "executed" if has_hook and _is_live(settings, request.target) else "would_shed"


def _is_live(settings: Settings, target: str) -> bool:
    known = settings.recovery.targets.get(target)
    return settings.recovery.mode == "execute" and known is not None and known.enabled


def _executions(con: Connection, target: str, now: datetime) -> tuple[datetime | None, int]:
    """When the last restart was asked for, and how many were within 24 hours."""
    mine = (_requests.c.target == target, _requests.c.action == RESTART, _requests.c.result.in_(("executed", "failed")))
    last = con.execute(select(func.max(_requests.c.at)).where(*mine)).scalar()
    count = con.execute(select(func.count()).where(*mine, _requests.c.at > now - DAY)).scalar_one()
    return last, count


def exhausted(con: Connection, settings: Settings, now: datetime) -> list[Observation]:
    """One critical alert per target whose restarts are used up, until one becomes free again (A-703)."""
    query = (
        select(_requests.c.target).where(_requests.c.at > now - 2 * DAY, _requests.c.result == "exhausted").distinct()
    )
    done = []
    for target in con.execute(query).scalars().all():
        count = _executions(con, target, now)[1]
        limit = settings.recovery.max_per_24h
        done.append(
            Observation(
                EXHAUSTED, "_self", "true" if count >= limit else "false", "critical", "critical", EXHAUSTED,
                f"{target} was restarted {count} times in 24 hours and is still sick; it is not restarted any more",
                {"target": target}, value=float(count), threshold=float(limit),
            )
        )  # fmt: skip
    return done


def execute(settings: Settings, state: StateStore, wanted: Sequence[Execution]) -> None:
    """Call the hooks; a hook that fails is journaled as ``failed`` and counts like one that worked."""
    for one in wanted:
        target = settings.recovery.targets[one.request.target]
        hook = target.load_shedding if one.request.action == SHED else target
        if hook is None:
            continue
        try:
            error = _call(settings, hook, one.request)
        except ConfigError as problem:
            error = problem.message
        detail = {"level": one.request.level} if one.request.level else {}
        values: dict[str, Any] = {"detail": detail | {"hook": "done" if error is None else error}}
        if error is not None:
            _log.warning("recovery hook of %s: %s", one.request.target, error)
            values["result"] = "failed"
        with state.begin() as con:
            con.execute(update(_requests).where(_requests.c.request_id == one.request_id).values(**values))


def _call(settings: Settings, hook: RecoveryHook, request: Request) -> str | None:
    """Ask the hook to act; returns what went wrong."""
    from monitoring_pipelines.alerts.channels.http import post_json, where

    body = {"target": request.target, "action": request.action, "reason": request.reason, "level": request.level}
    if hook.kind == "webhook":
        url = settings.secret(hook.url_env, None, f"recovery.targets.{request.target}.url") or ""
        answer = post_json(url, body, HOOK_TIMEOUT_S)
        ok = answer.error is None and answer.status is not None and 200 <= answer.status < 300
        return None if ok else answer.error or f"{where(url)} answered {answer.status}"
    env = {**os.environ, **{f"MP_RECOVERY_{name.upper()}": value or "" for name, value in body.items()}}
    try:
        # The arguments are the operator's own, fixed in the configuration; nothing observed becomes part of them.
        done = subprocess.run(hook.command, env=env, timeout=HOOK_TIMEOUT_S, capture_output=True, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"did not end within {HOOK_TIMEOUT_S:g} s"
    except OSError as problem:
        return f"cannot be started: {problem.strerror}"
    return None if done.returncode == 0 else f"ended with code {done.returncode}"
