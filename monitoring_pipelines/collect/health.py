"""The health of a target, component or set of inputs as pure functions (C-480 to C-485).

What belongs here: states and how they follow from samples. What does not: probing, and storing the state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from monitoring_pipelines.severity import Health

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_alerts import HealthSettings

Level = Literal["HEALTHY", "WARNING", "ERROR", "CRITICAL"]
LEVELS: tuple[Level, ...] = ("HEALTHY", "WARNING", "ERROR", "CRITICAL")
#: How the exposition writes a state (S-341).
CODES: dict[Health, int] = {"unknown": 0, "healthy": 1, "degraded": 2, "unhealthy": 3}


@dataclass(frozen=True)
class TargetHealth:
    """State of a target after its samples so far; ``at`` is the instant of the newest one, naive UTC."""

    state: Health = "unknown"
    failures: int = 0
    successes: int = 0
    at: datetime | None = None
    since: datetime | None = None

    def after(self, at: datetime, ok: bool, settings: HealthSettings) -> TargetHealth:
        """The state after one more probe (C-480).

        Args:
            at: Instant of the probe, later than all before.
            ok: Whether it was good.
            settings: Lengths of the streaks.
        """
        failures = 0 if ok else self.failures + 1
        successes = self.successes + 1 if ok else 0
        state = self.state
        if not ok:
            state = "unhealthy" if state == "unhealthy" or failures >= settings.fail_streak else "degraded"
        elif successes >= settings.ok_streak:
            state = "healthy"
        return TargetHealth(state, failures, successes, at, at if state != self.state else self.since)

    def at_instant(self, now: datetime, interval_s: float) -> TargetHealth:
        """The state at ``now``: unknown, with streaks forgotten, after 2 intervals and 1 s without a sample (C-480)."""
        if self.at is None or self.state == "unknown":
            return self
        end = self.at + timedelta(seconds=2 * interval_s + 1)
        return replace(self, state="unknown", failures=0, successes=0, since=end) if now >= end else self

    def as_json(self) -> dict[str, Any]:
        """The state as stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any] | None) -> TargetHealth:
        """The state as it was stored; unknown for None."""
        if not stored:
            return cls()
        times = {name: _instant(stored.get(name)) for name in ("at", "since")}
        return cls(stored["state"], stored["failures"], stored["successes"], **times)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.removesuffix("Z")) if text else None


@dataclass(frozen=True)
class HttpAnswer:
    """What a health endpoint says (C-481). ``grace`` is present while it hides a bad state."""

    status_code: int
    grace: dict[str, Any] | None = None


def http_answer(state: Health, uptime_s: float, settings: HealthSettings) -> HttpAnswer:
    """HTTP answer of a health endpoint (C-481): 200 for healthy and degraded, else 503 once the grace is over.

    Args:
        state: The state; grace does not change it.
        uptime_s: Seconds since the process began.
        settings: ``grace_s``; at exactly that age the grace is over.
    """
    if state in ("healthy", "degraded"):
        return HttpAnswer(200)
    if uptime_s < settings.grace_s:
        return HttpAnswer(200, {"applied": True, "uptime": uptime_s, "grace_seconds": settings.grace_s})
    return HttpAnswer(503)


def freshness_limit(name: str, settings: HealthSettings) -> float:
    """Seconds after which the input or series called ``name`` is no longer fresh (C-483)."""
    if name in settings.freshness:
        return settings.freshness[name]
    return settings.freshness["lsr_*"] if name.startswith("lsr_") else settings.freshness_s


def of_inputs(ages: Collection[tuple[str, float | None]], settings: HealthSettings) -> Health:
    """Health that follows from (name, age in seconds) of inputs: fresh means younger than the limit (C-483).

    An age of None is an input that was never seen.
    """
    fresh = [age is not None and age < freshness_limit(name, settings) for name, age in ages]
    if not any(fresh):
        return "unhealthy"
    return "healthy" if all(fresh) else "degraded"


def aggregate(states: Iterable[Health]) -> Health:
    """The health of a whole from its parts (C-484)."""
    found = set(states)
    for state in ("unhealthy", "degraded"):
        if state in found:
            return state
    return "healthy" if found == {"healthy"} else "unknown"


def of_heartbeat(at: datetime, now: datetime, settings: HealthSettings, period_s: float = 0.0) -> Health:
    """Health of a component by its last heartbeat: unknown when older than 30 s, strictly (C-484).

    Args:
        at: The heartbeat.
        now: The present instant.
        settings: ``heartbeat_ttl_s``.
        period_s: How often it beats; a component that beats once a minute is given its period on top of the limit.
    """
    limit = settings.heartbeat_ttl_s + (period_s if period_s > settings.heartbeat_ttl_s else 0.0)
    return "unknown" if (now - at).total_seconds() > limit else "healthy"


def worst(levels: Iterable[Level]) -> Level:
    """Overall status of components (C-485); HEALTHY when there are none."""
    return max(levels, key=LEVELS.index, default="HEALTHY")
