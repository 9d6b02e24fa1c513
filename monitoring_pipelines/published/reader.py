"""One long-lived reader of the published files, and short looks at one consistent version of them.

What belongs here: noticing a newer manifest, running SQL over the files of one version. What does not: the questions.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from monitoring_pipelines.warehouse.lake import MANIFEST_NAME, Lake, LakeMissing, Manifest
from monitoring_pipelines.warehouse.serving import TASK
from monitoring_pipelines.warehouse.task_summaries import SUMMARIES

if TYPE_CHECKING:
    import duckdb

Answer = TypeVar("Answer")
#: What a query may keep in memory; larger sorts and groups would fail, none is needed.
MEMORY_LIMIT = "128MB"
#: Statements that run at the same time: more would need more memory and end no sooner on two cores.
AT_ONCE = 2


class Turns(AbstractContextManager[None]):
    """So many at a time, in the order in which they came: whom a semaphore wakes up, newcomers overtake."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Look:
    """One version of all published tables, for the length of one answer.

    Attributes:
        lake: The version.
    """

    def __init__(
        self, lake: Lake, cursor: duckdb.DuckDBPyConnection, turns: AbstractContextManager[Any], known: _Known
    ) -> None:
        self.lake = lake
        self._cursor = cursor
        self._turns = turns
        self._known = known
        self._files: dict[str, dict[str, str]] = {}

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

    def table(
        self, name: str, start: datetime | None = None, end: datetime | None = None,
        columns: Collection[str] | None = None, *, floats: bool = False,
    ) -> str:  # fmt: skip
        """The files of ``name`` that may hold rows of [start, end), as a parenthesised sub-query; see ``Lake.select``."""
        return f"({self.lake.select(name, start, end, columns, floats=floats)})"

    def files(self, name: str) -> dict[str, str]:
        """Partition key → immutable file name, newest partition first."""
        found = self._files.get(name)
        if found is None:
            entries = self.manifest.tables[name].partitions if self.has(name) else {}
            found = self._files[name] = {key: entries[key].file for key in sorted(entries, reverse=True)}
        return found

    def once(
        self, question: tuple[str, ...], tables: Sequence[str], compute: Callable[[], Answer], *state: Any
    ) -> Answer:
        """The answer to a question about tables, computed anew when one of their files is another.

        Most publications bring new tasks and leave most tables as they are.

        Args:
            question: What is asked; only the newest answer to it is kept, and all who ask share it.
            tables: Tables the answer depends on.
            compute: Answers it.
            state: What else it depends on, for example the end of a window.
        """
        return cast(Answer, self._known.get(question, (*state, *self.stamp(tables)), compute))

    def stamp(self, tables: Sequence[str]) -> tuple[str, ...]:
        """What tells one state of these tables from another: their files."""
        return tuple(file for table in tables for file in self.files(table).values())

    def partition(self, name: str, keys: Sequence[str], more: str = "", columns: Collection[str] | None = None) -> str:
        """Only these partitions of ``name``, as a parenthesised sub-query; the rest as in ``Lake.select_partitions``."""
        return f"({self.lake.select_partitions(name, keys, more, columns)})"

    def summary(self, name: str, keys: Sequence[str]) -> str:
        """A summary of these files of tasks; of files published without one it is made from their tasks."""
        known = self.manifest.tables[name].partitions if self.has(name) else {}
        there, lacking = [key for key in keys if key in known], [key for key in keys if key not in known]
        parts = [self.lake.select_partitions(name, there)] if there or not lacking else []
        if lacking:
            parts.append(SUMMARIES[name].query(self.partition(TASK, lacking)))
        return "(" + " UNION ALL BY NAME ".join(f"(SELECT * FROM ({part}))" for part in parts) + ")"

    def rows(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Run one statement; a list of rows as dictionaries."""
        with self._turns:
            result = self._execute(sql, parameters)
            names = [column[0] for column in result.description or ()]
            found = result.fetchall()
        return [dict(zip(names, row, strict=True)) for row in found]

    def tuples(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement; a list of rows as tuples."""
        with self._turns:
            return self._execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """The first value of the first row, None without rows."""
        with self._turns:
            row = self._execute(sql, parameters).fetchone()
        return row[0] if row else None

    def _execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None) -> duckdb.DuckDBPyConnection:
        return self._cursor.execute(with_values(sql, parameters) if parameters else sql)


def with_values(sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> str:
    """The statement with its parameters (``$name`` or ``?``) as literals; a tuple is what may stand after ``IN``.

    Binding even one makes DuckDB's Python client import pandas: 65 MB and half a second in every process that reads.
    A sub-query after ``IN`` is not tested while files are read, and a page would not end with its last row.
    """
    if isinstance(parameters, Mapping):
        return _NAMED.sub(lambda found: _literal(parameters[found[1]]), sql)
    values = iter(parameters)
    return _POSITION.sub(lambda _: _literal(next(values)), sql)


_NAMED, _POSITION = re.compile(r"\$(\w+)"), re.compile(r"\?")


def _literal(value: Any) -> str:
    """A value as SQL text. DuckDB knows no escapes in text but the doubled quote; its texts hold no NUL character."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value}'"
    if isinstance(value, date):
        return f"DATE '{value}'"
    if isinstance(value, tuple):
        return "(" + (", ".join(_literal(item) for item in value) or "NULL") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]::VARCHAR[]"
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} has no literal")
    return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in value.split("\0")).join("()")


@dataclass
class _Slot:
    """An answer, what it depends on, and the lock of whoever computes it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stamp: tuple[Any, ...] | None = None
    value: Any = None


class _Known:
    """The newest answer to each question."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, ...], _Slot] = {}
        self._lock = threading.Lock()

    def get(self, question: tuple[str, ...], stamp: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        with self._lock:
            slot = self._slots.setdefault(question, _Slot())
        with slot.lock:
            if slot.stamp != stamp:
                slot.value, slot.stamp = compute(), stamp
            return slot.value


class Published:
    """Reads a lake. Cheap to create; may be shared by threads; sees a new version with the next look.

    Args:
        lake: Directory of the published files.
    """

    def __init__(self, lake: str | Path) -> None:
        self.path = Path(lake).absolute()
        self._lock = threading.Lock()
        self._turns = Turns(AT_ONCE)
        self._con: duckdb.DuckDBPyConnection | None = None
        self._lake: Lake | None = None
        self._stamp: tuple[int, int] | None = None
        self._known = _Known()

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
            yield Look(lake, cursor, self._turns, self._known)
        finally:
            cursor.close()

    def lake(self) -> Lake:
        """The newest version; read again only when the manifest was replaced."""
        try:
            status = (self.path / MANIFEST_NAME).stat()
        except FileNotFoundError:
            raise LakeMissing(
                f"nothing has been published at {self.path}", "run `mp extract --once` and `mp aggregate`, or `mp up`"
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
                # A statement on two threads costs a third more and hands over at every file; others run beside it.
                self._con = duckdb.connect(
                    config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 1}
                )
                place = str(self.path).replace("'", "''")
                for setting in (
                    "TimeZone = 'UTC'",
                    # Footers of tasks with their nested columns are 60 MB for ten million; reading one costs a millisecond.
                    "parquet_metadata_cache = false",
                    f"memory_limit = '{MEMORY_LIMIT}'",
                    # The system keeps files in memory already, and gives that memory back when it is needed.
                    "enable_external_file_cache = false",
                    # What answers needed is given back soon; without, DuckDB's allocator kept 50 MB from one burst to the next.
                    "allocator_background_threads = true",
                    # What a page of a list needs is read once, not its filters first and the rest by a join with those rows; and
                    # a statement over one file is not planned by bounds of all its columns.
                    "disabled_optimizers = 'late_materialization,statistics_propagation'",
                    # One read of all wanted columns of a row group: rows of statistics have ninety of them.
                    "prefetch_all_parquet_files = true",
                    f"allowed_directories = ['{place}/']",
                    "enable_external_access = false",
                    "lock_configuration = true",
                ):
                    self._con.execute(f"SET GLOBAL {setting}")  # every look is a connection of its own
            return self._con

    def close(self) -> None:
        """Release the reader; a later look opens it again."""
        with self._lock:
            if self._con is not None:
                self._con.close()
                self._con = None
