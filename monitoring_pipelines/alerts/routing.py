"""Who hears of an alert, and why (A-301, A-308).

What belongs here: from severity to route, receivers and group. What does not: when (``plan``) and how (``channels``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.matching import value_of

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import ChannelSettings

#: Receiver of a route without receivers: nobody hears, and a row says so.
NULL = "null"
#: The record of every critical alert (S-503); not a receiver, it wakes nobody.
RECORD = "critical_file"


@dataclass(frozen=True)
class Route:
    """One route with its receivers; times in seconds."""

    name: str
    severities: tuple[str, ...]
    channels: tuple[str, ...]
    group_interval_s: float
    repeat_s: float


def routes(settings: Settings) -> list[Route]:
    """All routes; channels that are switched off do not count as receivers."""
    usable = {channel.id for channel in settings.channels if channel.enabled}
    return [
        Route(name, tuple(one.severities), tuple(c for c in dict.fromkeys(one.channels) if c in usable),
              one.group_interval_s, one.repeat_s)
        for name, one in settings.alerts.routes.items()
    ]  # fmt: skip


def route_of(settings: Settings, severity: str) -> Route | None:
    """The route of a severity; None: such alerts are only stored."""
    return next((route for route in routes(settings) if severity in route.severities), None)


def channel_of(settings: Settings, channel_id: str) -> ChannelSettings | None:
    """The configured channel, None if there is none of that name."""
    return next((channel for channel in settings.channels if channel.id == channel_id), None)


def unheard(settings: Settings) -> list[Route]:
    """Routes with severities but without a receiver (A-308, C-509)."""
    return [route for route in routes(settings) if route.severities and not route.channels]


def group_of(settings: Settings, route: Route, alert: Mapping[str, Any]) -> str:
    """Key of the message an alert belongs to (A-301): route and the values of ``group_by``; service falls back to the
    source. Keys too long for an index end in a digest.
    """
    parts = [route.name]
    for name in settings.alerts.group_by:
        value = value_of(alert, name)
        parts.append(value or (value_of(alert, "source") if name == "service" else ""))
    text = "/".join(parts)
    return text if len(text) <= 180 else f"{text[:140]}#{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def explain(settings: Settings, alert: Mapping[str, Any]) -> dict[str, Any]:
    """Which receivers an alert would reach, and why (``mp route test``)."""
    severity = str(alert["severity"])
    route = route_of(settings, severity)
    if route is None:
        return {
            "severity": severity, "route": None, "group": None, "receivers": [], "why": f"no route has the severity "
            f"{severity}: such alerts are stored and sent to nobody",
        }  # fmt: skip
    receivers = [
        {"channel": channel.id, "type": channel.type, "language": channel.language or settings.language,
         "per_minute": channel.per_minute, "quiet_hours": _quiet(channel, severity)}
        for channel in settings.channels if channel.id in route.channels
    ]  # fmt: skip
    off = [name for name in settings.alerts.routes[route.name].channels if name not in route.channels]
    why = f"severity {severity} is in route {route.name}"
    if not receivers:
        why += ", which has no receiver: the alert fires, a suppressed notification says no_receiver, nobody is told"
    return {
        "severity": severity, "route": route.name, "group": group_of(settings, route, alert), "receivers": receivers,
        "switched_off": off, "first_message_s": settings.alerts.group_wait_s,
        "group_interval_s": route.group_interval_s, "repeat_s": route.repeat_s, "why": why,
    }  # fmt: skip


def _quiet(channel: ChannelSettings, severity: str) -> str | None:
    if channel.quiet_hours is None:
        return None
    hours = f"{channel.quiet_hours.start}–{channel.quiet_hours.end}"
    return f"{hours}, ignored by critical alerts" if severity == "critical" else f"{hours}: deferred to the end"
