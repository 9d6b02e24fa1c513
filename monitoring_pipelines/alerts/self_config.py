"""What the alert configuration itself is warned about (A-308, C-509).

What belongs here: severities nobody hears of. What does not: other problems of the configuration (``rules``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.alerts.routing import routes

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings


def observations(settings: Settings) -> list[Observation]:
    """One observation per route: true while alerts of its severities reach nobody."""
    done = []
    for route in routes(settings):
        severities = ", ".join(route.severities)
        done.append(
            Observation(
                "self.config", "_self", "false" if route.channels or not route.severities else "true", "low", "low",
                "self.config", f"nobody hears of {severities} alerts: the route {route.name} has no receiver",
                {"check": f"route.{route.name}"}, details={"route": route.name, "severities": list(route.severities)},
            )
        )  # fmt: skip
    return done
