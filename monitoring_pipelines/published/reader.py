"""One long-lived reader of the published files, and short looks at one consistent version of them.

What belongs here: noticing a newer manifest, running SQL over the files of one version. What does not: the questions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.lake import MANIFEST_NAME, Lake, LakeMissing, Manifest

if TYPE_CHECKING:
    import duckdb

#: What the reader may keep in memory, besides Python itself.
MEMORY_LIMIT = "160MB"


class Look:
    """One version of all published tables, for the length of one answer.

    Attributes:
        lake: The version.
    """

    def __init__(self, lake: Lake, cursor: duckdb.DuckDBPyConnection) -> None:
        self.lake = lake
        self._cursor = cursor

    @property
    def manifest(self) -> Manifest:
        """The manifest of this version."""
        return self.lake.manifest

    @property
    def as_of(self) -> datetime | None:
        """Everything before this instant is contained, naive UTC."""
        return self.lake.as_of

    def has(self, table: str) -> bool:
        """Whether ``table`` has ever been published."""
        return table in self.manifest.tables

    def columns(self, table: str) -> list[str]:
        """Names of the columns of ``table``; empty when it is not published."""
        return [name for name, _ in self.manifest.tables[table].columns] if self.has(table) else []

    def table(self, name: str, start: datetime | None = None, end: datetime | None = None) -> str:
        """The files of ``name`` that may hold rows of [start, end), as a parenthesised sub-query."""
        return f"({self.lake.select(name, start, end)})"

    def files(self, name: str) -> dict[str, str]:
        """Partition key → immutable file name, newest partition first."""
        entries = self.manifest.tables[name].partitions if self.has(name) else {}
        return {key: entries[key].file for key in sorted(entries, reverse=True)}

    def partition(self, name: str, keys: Sequence[str]) -> str:
        """Only these partitions of ``name``, as a parenthesised sub-query."""
        return f"({self.lake.select_partitions(name, keys)})"

    def rows(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Run one statement; a list of rows as dictionaries."""
        result = self._cursor.execute(sql, parameters if parameters is not None else [])
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def tuples(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement; a list of rows as tuples."""
        return self._cursor.execute(sql, parameters if parameters is not None else []).fetchall()

    def value(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """The first value of the first row, None without rows."""
        row = self._cursor.execute(sql, parameters if parameters is not None else []).fetchone()
        return row[0] if row else None


class Published:
    """Reads a lake. Cheap to create; may be shared by threads; sees a new version with the next look.

    Args:
        lake: Directory of the published files.
    """

    def __init__(self, lake: str | Path) -> None:
        self.path = Path(lake).absolute()
        self._lock = threading.Lock()
        self._con: duckdb.DuckDBPyConnection | None = None
        self._lake: Lake | None = None
        self._stamp: tuple[int, int] | None = None

    @contextmanager
    def look(self) -> Iterator[Look]:
        """A look at the newest version.

        Raises:
            LakeMissing: Nothing has been published yet.
            LakeDamaged: The manifest cannot be read.
        """
        lake = self.lake()
        cursor = self._connection().cursor()
        try:
            yield Look(lake, cursor)
        finally:
            cursor.close()

    def lake(self) -> Lake:
        """The newest version; read again only when the manifest was replaced."""
        try:
            status = (self.path / MANIFEST_NAME).stat()
        except FileNotFoundError:
            raise LakeMissing(
                f"nothing has been published at {self.path}", "run one tick, for example with mp up"
            ) from None
        stamp = (status.st_mtime_ns, status.st_ino)
        with self._lock:
            if self._lake is None or self._stamp != stamp:
                self._lake, self._stamp = Lake(self.path), stamp
            return self._lake

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """One DuckDB for all versions: files never change, so what it remembers of them stays true."""
        import duckdb

        with self._lock:
            if self._con is None:
                self._con = duckdb.connect(
                    config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 2}
                )
                place = str(self.path).replace("'", "''")
                for setting in (
                    "TimeZone = 'UTC'",
                    "parquet_metadata_cache = true",
                    f"memory_limit = '{MEMORY_LIMIT}'",
                    f"allowed_directories = ['{place}/']",
                    "enable_external_access = false",
                    "lock_configuration = true",
                ):
                    self._con.execute(f"SET {setting}")
            return self._con

    def close(self) -> None:
        """Release the reader; a later look opens it again."""
        with self._lock:
            if self._con is not None:
                self._con.close()
                self._con = None
