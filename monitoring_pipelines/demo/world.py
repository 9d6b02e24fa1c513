"""All simulated platforms on one clock, and their destinations.

What belongs here: advancing the simulations together and writing each step. What does not: what they simulate, how a
demo directory looks (``layout``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.demo.collector import Collector
from monitoring_pipelines.demo.eventloop import Changes, EventLoop, from_ms, to_ms
from monitoring_pipelines.demo.gpu_platform import Platform
from monitoring_pipelines.demo.scale import DAY_MS, HOUR_MS, Faults, Scale
from monitoring_pipelines.demo.scheduler import Scheduler
from monitoring_pipelines.demo.speech import Speech
from monitoring_pipelines.demo.tables import DATABASES
from monitoring_pipelines.demo.tktool import Tktool
from monitoring_pipelines.demo.truth import Truth
from monitoring_pipelines.demo.writers import MysqlWriter, SqliteWriter, Writer, parse_dsn
from monitoring_pipelines.errors import SourceUnavailable

#: Days of history of the workflow platform: its trend checks look back two weeks.
_TKTOOL_DAYS = 15
_BULK_STEP_MS = HOUR_MS

WriterFor = Callable[[str], Writer]


class World:
    """The simulated platforms from ``now - days`` on.

    The same arguments give the same rows, whether they are generated in one go up to ``now`` or advanced further later:
    the state after ``advance(t)`` depends on ``t`` alone.

    Args:
        days: Length of the history before ``now``.
        seed: Any integer.
        scale: Size of the platforms.
        now: Naive UTC instant the faults are placed relative to.
        writer_for: Gives the writer of a database by its name (``waverless``, ``tktool`` and so on).
    """

    def __init__(self, days: float, seed: int, scale: Scale, now: datetime, writer_for: WriterFor) -> None:
        now_ms = to_ms(now)
        start = now_ms - int(days * DAY_MS)
        faults = Faults.relative_to(now_ms)
        self.platform = Platform(seed, start, scale, faults)
        self.simulations: list[EventLoop] = [self.platform]
        if not scale.platform_only:
            tktool_start = now_ms - int(max(days, _TKTOOL_DAYS) * DAY_MS)
            self.simulations += [
                Tktool(seed, tktool_start, scale.tktool_tasks_per_day, faults),
                Speech(seed, start, scale.speech_texts_per_day, faults),
                Scheduler(seed, start, scale.scheduler_jobs, faults),
                Collector(seed, start, scale.collector_interval_s, faults),
            ]
        self._unwritten: dict[str, list[Changes]] = {s.database: [] for s in self.simulations}
        self._writers: dict[str, Writer] = {s.database: writer_for(s.database) for s in self.simulations}

    def create(self) -> None:
        """Create all tables anew."""
        for writer in self._writers.values():
            writer.create()

    def generate(self, until: datetime, progress: Callable[[str, int], None] | None = None) -> int:
        """Simulate up to ``until`` in hour steps and write everything; returns the number of rows written.

        ``progress(database, rows)`` is called after each step with the rows written to that database so far.
        """
        total = 0
        for simulation in self.simulations:
            written = 0
            end = to_ms(until)
            while simulation.now < end:
                simulation.advance(min(end, simulation.now + _BULK_STEP_MS))
                written += self._write(simulation)
                if progress:
                    progress(simulation.database, written)
            self._writers[simulation.database].finish_bulk()
            total += written
        return total

    def replay(self, until: datetime) -> None:
        """Reach the state at ``until`` whose rows were written by an earlier process, without writing them again."""
        for simulation in self.simulations:
            while simulation.now < to_ms(until):
                simulation.advance(min(to_ms(until), simulation.now + _BULK_STEP_MS))
                simulation.take()

    def advance(self, until: datetime) -> int:
        """Live mode: let the platforms go on up to ``until`` and write inserts and updates; returns their number."""
        end = to_ms(until)
        total = 0
        for simulation in self.simulations:
            if end > simulation.now:
                simulation.advance(end)
                total += self._write(simulation)
        return total

    def follow(
        self, clock: Clock, stop: threading.Event, step_s: float = 1.0, on_error: Callable[[str], None] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Advance with ``clock`` until ``stop`` is set, one step every ``step_s`` seconds of waiting.

        A database that is away for a while gets its rows when it is back; ``on_error`` hears of it once.
        """
        failing = False
        while not stop.wait(step_s):
            try:
                self.advance(clock.now())
                failing = False
                if on_step is not None:
                    on_step()
            except SourceUnavailable as error:
                if on_error is not None and not failing:
                    on_error(error.message)
                failing = True

    def truth(self) -> Truth:
        """What really happened on the GPU platform up to now."""
        return self.platform.truth_until_now()

    @property
    def now(self) -> datetime:
        """The instant the platforms have reached."""
        return from_ms(self.platform.now)

    def close(self) -> None:
        """Close all writers."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, simulation: EventLoop) -> int:
        """Write what happened, after anything an earlier failure left unwritten: no row is ever lost or reordered."""
        waiting = self._unwritten[simulation.database]
        waiting.append(simulation.take())
        written = 0
        while waiting:
            if waiting[0].rows:
                self._writers[simulation.database].apply(waiting[0])
            written += waiting.pop(0).rows
        return written


def sqlite_writers(folder: Path, *, again: bool = False) -> WriterFor:
    """One SQLite file per platform in ``folder``: ``waverless.db``, ``tktool.db`` and so on.

    ``again``: rows may be there already and are replaced.
    """
    return lambda database: SqliteWriter(folder / f"{database}.db", DATABASES[database], again=again)


def mysql_writers(dsn: str) -> WriterFor:
    """One schema per platform on the server of ``dsn``: its own for the GPU platform, ``<own>_tktool`` and so on."""
    names = mysql_schemas(dsn)
    return lambda database: MysqlWriter(dsn, names[database], DATABASES[database])


def mysql_schemas(dsn: str) -> Mapping[str, str]:
    """Schema name of each platform for a DSN."""
    own = parse_dsn(dsn)["database"] or "mp_demo"
    return {name: own if name == "waverless" else f"{own}_{name}" for name in DATABASES}
