"""What every stage needs: configuration, store, time, and where to tell what happens."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.warehouse.connect import Warehouse

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema import SourceSettings

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pipeline:
    """What every stage needs: configuration, store, time, and where to tell what happens."""

    settings: Settings
    warehouse: Warehouse
    clock: Clock
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    @classmethod
    def of(cls, settings: Settings, clock: Clock, log: logging.Logger | None = None) -> Pipeline:
        """The pipeline of a configuration."""
        warehouse = Warehouse(settings.warehouse_path, clock=clock)
        return cls(settings, warehouse, clock, log or logging.getLogger(__name__))

    @property
    def sources(self) -> list[SourceSettings]:
        """The enabled sources."""
        return [source for source in self.settings.sources if source.enabled]


def start_of(instant: datetime, step: timedelta) -> datetime:
    """Start of the bucket of length ``step`` that holds the instant, UTC."""
    return instant - (instant - datetime.min) % step
