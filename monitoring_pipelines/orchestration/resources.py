"""Resources by role: ``warehouse``, ``source``, ``state``, ``clock``.

What belongs here: handing configuration, warehouse and clock to steps, and a sign of life per run.
What does not: how the warehouse is locked (``warehouse.connect``) or a source is read (``source``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import InitResourceContext
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from monitoring_pipelines.orchestration.liveness import RunLife

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.warehouse.connect import Warehouse

#: Pool of all long steps on the warehouse; the minute tick is in none (see ``assets.mart``).
POOL = "duckdb"


class WarehouseResource(DuckDBResource):
    """The DuckDB warehouse behind its writer lock.

    ``get_connection`` waits its turn, opens the file, and always closes it again; the stock resource leaks the
    connection on an exception and polls for a foreign lock instead of queueing.
    """

    lock_timeout_s: float = 120.0
    #: Tags every run gets that the launcher cannot know (S-701).
    run_tags: Mapping[str, str] = {}
    _life: RunLife | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Tag the run and hold its sign of life until the run ends (see ``liveness``)."""
        run = context.run
        if run is None:
            return
        self._life = RunLife(self.data_dir, run.run_id)
        self._life.hold()
        missing = {"run_id": run.run_id, "type": run.job_name.removesuffix("_job"), **self.run_tags}
        missing = {key: value for key, value in missing.items() if key not in run.tags}
        if missing and context.instance is not None and context.instance.has_run(run.run_id):
            context.instance.add_run_tags(run.run_id, missing)

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Give the sign of life up; the operating system does it for a killed process."""
        if self._life is not None:
            self._life.release()
            self._life = None

    @property
    def data_dir(self) -> Path:
        """Directory of the warehouse file."""
        return Path(self.database).parent

    def open(self, clock: Clock) -> Warehouse:
        """The warehouse object the domain packages work with; opens nothing yet."""
        from monitoring_pipelines.warehouse.connect import Warehouse

        return Warehouse(self.database, self.lock_timeout_s, clock=clock, lingers=True)

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the right to write, for as long as the block runs. Keep it short."""
        from monitoring_pipelines.clock import current_clock

        with self.open(current_clock()).writer("dagster step") as con:
            yield con


@dataclass(frozen=True)
class SourceResource:
    """The configuration of all sources. A plain object: it is resolved once, when the code location is loaded."""

    settings: Settings


@dataclass(frozen=True)
class StateResource:
    """The state store. A plain object, so that a code server keeps one engine for all evaluations."""

    settings: Settings

    @cached_property
    def store(self) -> StateStore:
        """The store; SQLAlchemy is loaded at the first use."""
        from monitoring_pipelines.state import StateStore

        return StateStore.of(self.settings)


@dataclass(frozen=True)
class Place:
    """What sensors work with, bound when the code location is loaded. As resources of theirs Dagster would open its whole
    instance before every tick, needed or not: 70 ms each time.
    """

    warehouse: WarehouseResource
    settings: Settings
    state: StateResource
    clock: Clock

    @classmethod
    def of(cls, resources: Mapping[str, Any]) -> Place:
        """From the resources of a code location."""
        return cls(resources["warehouse"], resources["source"].settings, resources["state"], resources["clock"])

    @contextmanager
    def pipeline(self, log: Any) -> Iterator[Pipeline]:
        """The steps on this warehouse, which is opened once for the block if at all, and closed after it: nobody comes
        soon who would take it over.
        """
        from monitoring_pipelines.pipeline import Pipeline
        from monitoring_pipelines.warehouse import lingering

        warehouse = self.warehouse.open(self.clock)
        try:
            yield Pipeline(self.settings, warehouse, self.clock, log)
        finally:
            lingering.let_go(warehouse.path)


def default_resources(settings: Settings, clock: Clock) -> dict[str, Any]:
    """The resources of a code location for ``settings``."""
    tags = {"source": ",".join(source.id for source in settings.sources if source.enabled)}
    return {
        "warehouse": WarehouseResource(database=str(settings.warehouse_path), run_tags=tags),
        "source": SourceResource(settings),
        "state": StateResource(settings),
        "clock": clock,
    }
