"""Many days of platform rows fast: one simulated day, multiplied by the database itself.

What belongs here: filling a server with benchmark volume. What does not: the simulation, or anything measured.

Only one day is simulated; the server copies it to the days before, with shifted instants and new ids and keys. Every
copy is a coherent platform day of its own, with its own workers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from monitoring_pipelines.demo.eventloop import Changes
from monitoring_pipelines.demo.scale import BENCHMARK, Scale
from monitoring_pipelines.demo.tables import WAVERLESS, Table
from monitoring_pipelines.demo.world import World
from monitoring_pipelines.demo.writers import MysqlWriter

#: Columns that identify a row and therefore get a suffix per copied day.
_KEYS = {"task_id", "event_id", "worker_id", "pod_name", "current_task_id"}
_COPIED = ("tasks", "task_events", "workers", "worker_events", "worker_resource_snapshots")


@dataclass(frozen=True)
class Filled:
    """What was written, and how long it took."""

    days: int
    rows: int
    simulate_s: float
    copy_s: float


def fill_mysql(
    dsn: str, days: int, now: datetime, *, seed: int = 1, scale: Scale = BENCHMARK,
    progress: Callable[[str], None] | None = None,
) -> Filled:  # fmt: skip
    """Fill the schema of ``dsn`` with ``days`` days of the GPU platform ending at ``now``.

    ``LOAD DATA LOCAL INFILE`` is used where the server allows it, multi-row inserts otherwise.

    Args:
        dsn: ``mysql://`` or ``mariadb://`` DSN whose account may create the schema.
        days: Number of days, at least 1.
        now: Naive UTC end of the newest day.
        seed: Seed of the simulated day.
        scale: Size of the platform.
        progress: Hears a line per stage.
    """
    tell = progress or (lambda _line: None)
    began = time.perf_counter()
    writers: list[_LoadingWriter] = []

    def writer_for(database: str) -> MysqlWriter:
        writers.append(_LoadingWriter(dsn, _schema_of(dsn), WAVERLESS))
        return writers[0]

    world = World(1.0, seed, replace(scale, platform_only=True, truth=False), now, writer_for)
    world.create()
    rows = world.generate(now)
    simulated = time.perf_counter() - began
    tell(f"one day: {rows:,} rows in {simulated:.1f} s")
    began = time.perf_counter()
    connection = writers[0].connection
    for day in range(1, days):
        rows += _copy_day(connection, day)
        tell(f"day {day + 1} of {days}: {rows:,} rows")
    world.close()
    return Filled(days, rows, simulated, time.perf_counter() - began)


def _schema_of(dsn: str) -> str:
    from monitoring_pipelines.demo.writers import parse_dsn

    return str(parse_dsn(dsn)["database"])


def _copy_day(connection: Any, day: int) -> int:
    """Copy the simulated day to ``day`` days earlier; ids follow the newest so that they stay unique."""
    rows = 0
    with connection.cursor() as cursor:
        for table in WAVERLESS:
            if table.name not in _COPIED:
                continue
            cursor.execute(_copy_sql(table), (day,) * _copy_sql(table).count("%s"))
            rows += cursor.rowcount
    connection.commit()
    return rows


def _copy_sql(table: Table) -> str:
    """``INSERT … SELECT`` of the rows without day suffix. Old days get higher ids, as replayed history has."""
    columns, values = [], []
    for name, kind in table.columns:
        if name == "id":
            continue
        columns.append(f"`{name}`")
        if kind.startswith("datetime"):
            values.append(f"`{name}` - INTERVAL %s DAY")
        elif name in _KEYS:
            values.append(f"IF(`{name}` = '' OR `{name}` IS NULL, `{name}`, CONCAT(`{name}`, '~', %s))")
        else:
            values.append(f"`{name}`")
    own = next(name for name in table.column_names if name in ("task_id", "event_id", "worker_id") and name != "id")
    key = "event_id" if "event_id" in table.column_names else own
    return (
        f"INSERT INTO `{table.name}` ({', '.join(columns)}) SELECT {', '.join(values)} FROM `{table.name}` "
        f"WHERE LOCATE('~', `{key}`) = 0"
    )


class _LoadingWriter(MysqlWriter):
    """Writes through ``LOAD DATA LOCAL INFILE`` while the server allows it."""

    _may_load = True

    @property
    def connection(self) -> Any:
        """The open connection."""
        return self._con

    def apply(self, changes: Changes) -> None:
        """See ``Writer``."""
        import pymysql

        if not self._may_load:
            super().apply(changes)
            return
        try:
            with self._con.cursor() as cursor:
                for name, rows in changes.inserts.items():
                    self._load(cursor, self._tables[name], rows)
                self._update(cursor, changes)
            self._con.commit()
        except (pymysql.err.OperationalError, pymysql.err.NotSupportedError, pymysql.err.ProgrammingError):
            # local_infile is off on this server or in this client: the plain way works everywhere.
            self._con.rollback()
            self._may_load = False
            super().apply(changes)

    def _load(self, cursor: Any, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write("\t".join(map(_field, row)) + "\n")
            file.flush()
            listed = ", ".join(f"`{name}`" for name in table.column_names)
            path = str(Path(file.name)).replace("'", "''")
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE `{table.name}` CHARACTER SET utf8mb4 "
                f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({listed})"
            )


def _field(value: Any) -> str:
    """One value in the server's text form."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return str(value)
