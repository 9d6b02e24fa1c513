"""The product's own health as one answer: components, sources, worst of all (C-480…C-485, S-270).

What belongs here: judging heartbeats, extraction lag and the newest completeness of each source. What does not: the
state machine of probed targets (``collect``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from monitoring_pipelines.api.services import Services
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.severity import Health

#: Extraction older than this many intervals is not fresh (C-502).
LATE_INTERVALS = 3


def aggregate(states: Iterable[str]) -> Health:
    """The state of a whole from those of its parts (C-484)."""
    found = list(states)
    if not found:
        return "unknown"
    if "unhealthy" in found:
        return "unhealthy"
    if "degraded" in found:
        return "degraded"
    return "healthy" if all(state == "healthy" for state in found) else "unknown"


def answer(services: Services) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of ``/health`` (C-481)."""
    now = services.clock.now()
    uptime = max(0.0, (now - services.started_at).total_seconds())
    components = component_states(services, now)
    state = aggregate(component["status"] for component in components.values())
    body: dict[str, Any] = {"status": state, "uptime": round(uptime, 3), "components": components}
    status = 200 if state in ("healthy", "degraded") else 503
    grace = services.settings.health.grace_s
    if status == 503 and uptime < grace:
        body["grace"] = {"applied": True, "uptime": round(uptime, 3), "grace_seconds": grace}
        status = 200
    return status, body


def component_states(services: Services, now: datetime) -> dict[str, dict[str, Any]]:
    """Every component by name: store, published files, sources, heartbeats."""
    found: dict[str, dict[str, Any]] = {}
    try:
        found |= heartbeats(services, now)
        found["state_store"] = {"status": "healthy"}
    except ProductError as error:
        found["state_store"] = {"status": "unhealthy", "reason": error.code}
    try:
        lake = services.published.lake()
        found["published"] = {"status": "healthy", "as_of": lake.as_of, "version": lake.version}
        states = lake.manifest.sources
    except ProductError as error:
        found["published"] = {"status": "unhealthy", "reason": error.code}
        states = {}
    for source_id in services.source_ids:
        as_of = states.get(source_id, {}).get("as_of")
        found[f"source:{source_id}"] = {"status": freshness(services, as_of, now), "as_of": as_of}
    return found


def freshness(services: Services, as_of: datetime | None, now: datetime) -> Health:
    """Whether a source was read recently enough (C-502)."""
    if as_of is None:
        return "unknown"
    limit = LATE_INTERVALS * max(services.settings.extract.interval_s, 60)
    return "healthy" if (now - as_of).total_seconds() <= limit else "unhealthy"


def heartbeats(services: Services, now: datetime) -> dict[str, dict[str, Any]]:
    """Components that beat; one silent for more than its time to live is unknown (C-484)."""
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import component_heartbeat

    found = {}
    with services.state.read() as con:
        for row in con.execute(select(component_heartbeat).order_by(component_heartbeat.c.component)).mappings():
            age = (now - row["at"]).total_seconds()
            # A component that beats once an hour is not unknown after thirty seconds: its own period counts.
            limit = max(services.settings.health.heartbeat_ttl_s, 2 * row["period_s"])
            state = "healthy" if age <= limit else "unknown"
            found[row["component"]] = {
                "status": state, "at": row["at"], "age_s": round(age, 3), "period_s": row["period_s"]
            }  # fmt: skip
    return found
