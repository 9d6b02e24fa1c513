"""What the stages did, and the figures their assets show of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring_pipelines.source.reconcile import ReconcileResult
    from monitoring_pipelines.source.tail import CycleResult
    from monitoring_pipelines.warehouse.core_refresh import CoreResult
    from monitoring_pipelines.warehouse.lake import Manifest


@dataclass
class Extraction:
    """Results of one extraction stage; ``failed`` holds an error text per source that could not be read."""

    cycles: dict[str, CycleResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def entity_metadata(self, entity: str) -> dict[str, Any]:
        """Figures of one entity over all sources."""
        figures: dict[str, Any] = {"seconds": round(self.seconds, 3), "sources_failed": len(self.failed)}
        for cycle in self.cycles.values():
            for name, value in cycle.entity_figures(entity).items():
                figures[name] = figures.get(name, 0) + value
        return figures


@dataclass
class CoreRefresh:
    """Results of the core stage, by source."""

    results: dict[str, CoreResult] = field(default_factory=dict)
    seconds: float = 0.0

    def table_metadata(self, table: str) -> dict[str, Any]:
        """Figures of ``core.<name>`` over all sources."""
        figures: dict[str, Any] = {"seconds": round(self.seconds, 3)}
        for result in self.results.values():
            figures["dirty_hours"] = figures.get("dirty_hours", 0) + result.dirty_hours
            for name, value in result.table_metadata(table.split(".")[1]).items():
                figures[name] = figures.get(name, 0) + value
        return figures


@dataclass(frozen=True)
class WindowDone:
    """One computed partition: a table and an hour or day, how many rows it has now, and how many were restated."""

    table: str
    start: datetime
    end: datetime
    rows: int
    restated: int


@dataclass
class Windows:
    """Results of the window stage: what was computed, and how much is left for partition runs."""

    windows: list[WindowDone] = field(default_factory=list)
    hours_left: int = 0
    days_left: int = 0
    lag_s: float | None = None
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers over the whole stage. ``lag_s``: age of the newest closed minute of the slowest source."""
        return {
            "windows": len(self.windows),
            "rows": sum(window.rows for window in self.windows),
            "restated": sum(window.restated for window in self.windows),
            "dirty_hours": self.hours_left,
            "dirty_days": self.days_left,
            "lag_s": self.lag_s,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Published:
    """The manifest in force after publishing."""

    manifest: Manifest
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers of the published set."""
        files = [entry for table in self.manifest.tables.values() for entry in table.partitions.values()]
        return {
            "version": self.manifest.version,
            "files": len(files),
            "bytes": sum(entry.size_bytes for entry in files),
            "changes_waiting": self.manifest.waiting,
            "as_of": self.manifest.as_of.isoformat() + "Z" if self.manifest.as_of else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Reconciled:
    """Results of comparing one day, all sources and tables."""

    results: list[ReconcileResult] = field(default_factory=list)
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers over all tables; ``unequal`` counts tables that still differ."""
        return {
            "tables": len(self.results),
            "unequal": sum(not result.equal for result in self.results),
            "source_rows": sum(result.source_rows for result in self.results),
            "rows_reread": sum(result.rows_reread for result in self.results),
            "rows_deleted": sum(result.rows_deleted for result in self.results),
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Tick:
    """Everything one tick did."""

    extraction: Extraction
    core: CoreRefresh
    windows: Windows
    published: Published


@dataclass(frozen=True)
class Backlog:
    """Due hours and days that a tick leaves to partition runs, oldest first."""

    hours: tuple[datetime, ...] = ()
    days: tuple[datetime, ...] = ()
