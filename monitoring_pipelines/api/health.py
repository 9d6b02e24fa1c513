"""The product's own health as one answer: components, sources, worst of all (C-480…C-485, S-270).

What belongs here: judging heartbeats, extraction lag and the newest completeness of each source. What does not: the
state machine of probed targets (``collect``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monitoring_pipelines.api.services import Services
from monitoring_pipelines.collect.health import aggregate, http_answer, of_heartbeat
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.severity import Health

#: Extraction older than this many intervals is not fresh (C-502).
LATE_INTERVALS = 3


def answer(services: Services) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of ``/health`` (C-481)."""
    now = services.clock.now()
    uptime = max(0.0, (now - services.started_at).total_seconds())
    components = component_states(services, now)
    state = aggregate(component["status"] for component in components.values())
    body: dict[str, Any] = {"status": state, "uptime": round(uptime, 3), "components": components}
    said = http_answer(state, uptime, services.settings.health)
    if said.grace is not None:
        body["grace"] = said.grace | {"uptime": round(uptime, 3)}
    return said.status_code, body


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
    found = {}
    for row in services.of_state(("heartbeats",), lambda: _beats(services)):
        age = (now - row["at"]).total_seconds()
        state = of_heartbeat(row["at"], now, services.settings.health, row["period_s"])
        found[row["component"]] = {
            "status": state, "at": row["at"], "age_s": round(age, 3), "period_s": row["period_s"]
        }  # fmt: skip
    return found


def _beats(services: Services) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import component_heartbeat

    with services.state.read() as con:
        found = con.execute(select(component_heartbeat).order_by(component_heartbeat.c.component)).mappings()
        return [dict(row) for row in found]
