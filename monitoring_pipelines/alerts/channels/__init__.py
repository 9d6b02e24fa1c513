"""Ways to reach people (checks §10): one class per type.

What belongs here: the contract of a channel and which class serves which type. What does not: when something is sent
(``outbox``), what it says (``messages``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from monitoring_pipelines.alerts import routing
from monitoring_pipelines.errors import ConfigError

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.messages import Message
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings


@dataclass(frozen=True)
class Result:
    """How a receiver answered one attempt. ``target`` is the receiver without anything secret."""

    ok: bool
    http_status: int | None = None
    provider_code: str | None = None
    error: str | None = None
    target: str | None = None
    latency_ms: float | None = None

    def timed(self, latency_ms: float) -> Result:
        """The same with how long it took."""
        return replace(self, latency_ms=round(latency_ms, 3))


class Channel(Protocol):
    """Sends messages one at a time."""

    @property
    def language(self) -> str | None:
        """zh-CN, en, or None for the configured language."""
        ...

    def send(self, message: Message, clock: Clock) -> Result:
        """Deliver ``message``; every failure of the receiver is a ``Result``, none is raised."""
        ...


def build_channel(settings: Settings, channel_id: str) -> Channel:
    """The channel called ``channel_id``.

    Raises:
        ConfigError: It is not configured, or its secret is missing.
    """
    from monitoring_pipelines.alerts.channels import local, mail, web

    if channel_id == routing.RECORD:
        return local.CriticalFiles(settings)
    given = routing.channel_of(settings, channel_id)
    if given is None:
        raise ConfigError(str(settings.file) if settings.file else None, None, "channels", f"no channel {channel_id!r}")
    if given.type == "dingtalk":
        return web.DingTalk(settings, given)
    if given.type == "webhook":
        return web.Webhook(settings, given)
    if given.type == "email":
        return mail.Email(settings, given)
    if given.type == "apprise":
        return web.AppriseChannel(settings, given)
    return local.Files(settings, given) if given.type == "file" else local.Log(given)
