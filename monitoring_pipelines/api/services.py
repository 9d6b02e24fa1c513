"""What every route works with: configuration, clock, published files, state store.

What belongs here: the container and how routes get it. What does not: answers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import Request

from monitoring_pipelines.api.access import principal_of
from monitoring_pipelines.published.reader import Published
from monitoring_pipelines.state.store import StateStore

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings

log = logging.getLogger(__name__)


@dataclass
class Services:
    """One per application."""

    settings: Settings
    clock: Clock
    published: Published
    state: StateStore
    started_at: datetime
    #: Address of the Dagster web server, for runs that are started here and for links; None: unknown.
    dagster_url: str | None = None
    #: Caches and helpers that live as long as the application, by name.
    shared: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, clock: Clock, dagster_url: str | None = None) -> Services:
        """The services of a configuration."""
        return cls(settings, clock, Published(settings.lake_path), StateStore.of(settings), clock.now(), dagster_url)

    @property
    def source_ids(self) -> list[str]:
        """Ids of the enabled sources, in the order of the configuration."""
        return [source.id for source in self.settings.enabled_sources]

    def close(self) -> None:
        """Release files and connections."""
        self.published.close()
        self.state.dispose()


def services_of(request: Request) -> Services:
    """The services of the application that answers ``request``."""
    services: Services = request.app.state.services
    return services


def audit(request: Request, action: str, target: str, detail: dict[str, Any] | None = None) -> None:
    """Write a mutation into the audit log, with the caller's name."""
    from monitoring_pipelines.state.audit import record

    services = services_of(request)
    with services.state.begin() as con:
        record(con, services.clock.now(), principal_of(request).name, action, target, detail)
