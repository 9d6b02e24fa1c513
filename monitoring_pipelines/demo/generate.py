"""One call that fills an empty database with a simulated past.

What belongs here: the convenience for tests and benchmarks. What does not: the demo directory with its configuration
(``layout``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from monitoring_pipelines.demo.scale import STANDARD, Scale
from monitoring_pipelines.demo.world import World, mysql_writers, sqlite_writers


@dataclass(frozen=True)
class GenerateResult:
    """A generated world, still able to go on, and how long it took."""

    world: World
    rows: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows written per second of wall time."""
        return self.rows / self.seconds if self.seconds else 0.0


def generate(
    days: float,
    seed: int,
    now: datetime,
    *,
    scale: Scale = STANDARD,
    folder: Path | None = None,
    mysql_dsn: str | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> GenerateResult:
    """Create the tables and write ``days`` of history ending at ``now`` (naive UTC).

    Args:
        days: Length of the history.
        seed: The same seed, scale, days and now give the same rows.
        now: End of the history.
        scale: Size of the platforms.
        folder: Where SQLite files go; exactly one of ``folder`` and ``mysql_dsn`` is given.
        mysql_dsn: ``mysql://`` or ``mariadb://`` DSN whose account may create schemas.
        progress: Called with (database, rows so far) after each simulated hour.

    Raises:
        ValueError: neither or both destinations were given.
    """
    if (folder is None) == (mysql_dsn is None):
        raise ValueError("exactly one of folder and mysql_dsn is needed")
    writer_for = mysql_writers(mysql_dsn) if mysql_dsn is not None else sqlite_writers(Path(folder or "."))
    started = time.perf_counter()
    world = World(days, seed, scale, now, writer_for)
    world.create()
    rows = world.generate(now, progress)
    return GenerateResult(world, rows, time.perf_counter() - started)
