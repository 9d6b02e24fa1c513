"""The published copy of the warehouse: Parquet files and one manifest that names a consistent set of them.

What belongs here: the manifest's format, reading it, and querying the files it names without any lock.
What does not: writing files and manifest, deleting what is no longer needed (``publish``, ``maintenance``).

Layout: ``manifest.json`` and ``<schema>/<table>/<partition>/<content hash>.parquet``. A file never changes after its
name appears in a manifest; a newer version of a partition is another file. A reader that has read one manifest
therefore sees one state of all tables until it reads a newer one; superseded files stay for ``KEEP_RETIRED_S``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    import duckdb

FORMAT = 1
MANIFEST_NAME = "manifest.json"
#: How long a superseded file stays for readers of older manifests, and for how many versions at least.
KEEP_RETIRED_S = 900.0
KEEP_RETIRED_VERSIONS = 3
#: Name of the partition of an ISO week.
WEEK_KEY = "%G-W%V"
QUARTER_DAY = timedelta(hours=6)

Columns = tuple[tuple[str, str], ...]


class LakeMissing(ProductError):
    """Nothing has been published yet."""

    code = "nothing_published"
    exit_code = 2  # nothing was found wrong: a step is missing


class LakeDamaged(ProductError):
    """The manifest cannot be read."""

    code = "lake_damaged"


@dataclass(frozen=True)
class PublishedFile:
    """One immutable file. ``schema`` is a key of ``Manifest.schemas``; ``file`` is relative to the lake."""

    file: str
    rows: int
    size_bytes: int
    sha256: str
    schema: str


@dataclass
class PublishedTable:
    """One table: its present columns and its files by partition key (``all`` when it is not partitioned)."""

    columns: Columns
    partitions: dict[str, PublishedFile] = field(default_factory=dict)


@dataclass(frozen=True)
class RetiredFile:
    """A superseded file, with the version that dropped it and when."""

    file: str
    version: int
    at: datetime


@dataclass
class Manifest:
    """One consistent state of all published tables.

    Attributes:
        version: Grows by one with every publication.
        published_at: When it was written, naive UTC.
        as_of: Everything that happened at any source before this instant is in the files; None before the first
            complete extraction. The oldest of ``sources``.
        sources: Per source: as_of, closed_through, origin, raw_from (naive UTC or None).
        warehouse_id: The warehouse it was made from.
        acknowledged: Changes contained in it (``meta.publish_pending.change_id``).
        retired: Files of older versions that are still there.
        waiting: Changes of older days that are marked but not contained yet.
    """

    version: int
    published_at: datetime
    as_of: datetime | None
    sources: dict[str, dict[str, datetime | None]]
    warehouse_id: str
    tables: dict[str, PublishedTable]
    schemas: dict[str, Columns]
    acknowledged: list[str] = field(default_factory=list)
    retired: list[RetiredFile] = field(default_factory=list)
    waiting: int = 0

    def files(self) -> set[str]:
        """Every file of this version, relative to the lake."""
        return {entry.file for table in self.tables.values() for entry in table.partitions.values()}

    def rows(self, table: str) -> int:
        """Number of rows of ``table`` in this version."""
        return sum(entry.rows for entry in self.tables[table].partitions.values())

    def to_json(self) -> str:
        """The manifest as the text of ``manifest.json``."""
        document = {
            "format": FORMAT,
            "version": self.version,
            "published_at": _text(self.published_at),
            "as_of": _text(self.as_of),
            "sources": {s: {k: _text(v) for k, v in state.items()} for s, state in self.sources.items()},
            "warehouse_id": self.warehouse_id,
            "waiting": self.waiting,
            "schemas": self.schemas,
            "tables": {
                name: {
                    "columns": table.columns,
                    "partitions": {
                        key: {
                            "file": f.file,
                            "rows": f.rows,
                            "size_bytes": f.size_bytes,
                            "sha256": f.sha256,
                            "schema": f.schema,
                        }
                        for key, f in sorted(table.partitions.items())
                    },
                }
                for name, table in sorted(self.tables.items())
            },
            "acknowledged": self.acknowledged,
            "retired": [{"file": r.file, "version": r.version, "at": _text(r.at)} for r in self.retired],
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what ``to_json`` wrote. ValueError, KeyError or TypeError when it is something else."""
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, this program reads {FORMAT}")
        published = _instant(document["published_at"])
        if published is None:
            raise ValueError("published_at is empty")
        return Manifest(
            version=document["version"],
            published_at=published,
            as_of=_instant(document["as_of"]),
            sources={s: {k: _instant(v) for k, v in state.items()} for s, state in document["sources"].items()},
            warehouse_id=document["warehouse_id"],
            waiting=document["waiting"],
            schemas={key: _columns(columns) for key, columns in document["schemas"].items()},
            tables={
                name: PublishedTable(
                    _columns(table["columns"]),
                    {key: PublishedFile(**entry) for key, entry in table["partitions"].items()},
                )
                for name, table in document["tables"].items()
            },
            acknowledged=document["acknowledged"],
            retired=[RetiredFile(r["file"], r["version"], _instant(r["at"]) or published) for r in document["retired"]],
        )


def read_manifest(lake: str | Path) -> Manifest | None:
    """The newest manifest, or None when nothing was published.

    Raises:
        LakeDamaged: It is there and cannot be read.
    """
    path = Path(lake) / MANIFEST_NAME
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LakeDamaged(
            f"{path} cannot be read: {error}", "move it away; the next publication writes all files and a new manifest"
        ) from error


class Lake:
    """One version of the published tables; create a new object to see a newer one (``is_current`` tells).

    Args:
        path: The lake's directory.

    Raises:
        LakeMissing: Nothing has been published.
        LakeDamaged: The manifest cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        manifest = read_manifest(self.path)
        if manifest is None:
            raise LakeMissing(
                f"nothing has been published at {self.path}", "run `mp extract --once` and `mp aggregate`, or `mp up`"
            )
        self.manifest = manifest

    @property
    def version(self) -> int:
        """The manifest's version."""
        return self.manifest.version

    @property
    def as_of(self) -> datetime | None:
        """Everything before this instant is contained, naive UTC; None before the first complete extraction."""
        return self.manifest.as_of

    def is_current(self) -> bool:
        """Whether no newer version has been published."""
        newest = read_manifest(self.path)
        return newest is not None and newest.version == self.version

    def connect(self) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB whose views (``mart.endpoint_minute_stats``, ``meta.source_state`` …) show this version.

        It can read files of the lake and nothing else, and its settings are locked.
        """
        import duckdb

        con = duckdb.connect(
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 2}
        )
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET parquet_metadata_cache = true")
        for name in self.manifest.tables:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {name.split('.')[0]}")
            con.execute(f"CREATE VIEW {name} AS {self.select(name)}")
        con.execute(f"SET allowed_directories = [{_literal(str(self.path) + '/')}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        return con

    def select(
        self, name: str, start: datetime | None = None, end: datetime | None = None,
        columns: Collection[str] | None = None, *, floats: bool = False,
    ) -> str:  # fmt: skip
        """``SELECT`` text over the files of one table that may hold buckets in [start, end).

        Args:
            name: For example ``mart.endpoint_minute_stats``; KeyError when it is not published.
            start: Naive UTC; None: from the beginning.
            end: Naive UTC; None: to the end. Rows outside may appear: files are chosen, rows are not filtered.
            columns: Those that are wanted, as in ``select_partitions``.
            floats: As in ``select_partitions``.
        """
        keys = [key for key in self.manifest.tables[name].partitions if _may_overlap(key, start, end)]
        return self.select_partitions(name, keys, columns=columns, floats=floats)

    def select_partitions(
        self, name: str, keys: Iterable[str], more: str = "", columns: Collection[str] | None = None, *,
        floats: bool = False,
    ) -> str:  # fmt: skip
        """``SELECT`` text over exactly these partitions of one table; KeyError for one that does not exist.

        Args:
            name: The table.
            keys: Its partitions.
            more: ``filename`` or ``file_row_number``: one more column that says where a row stands.
            columns: Those that are wanted; None: all. Planning a statement costs a millisecond for forty of them.
            floats: Decimals as the nearest float, which is what JSON writes and costs half as much to fetch.
        """
        table = self.manifest.tables[name]
        wanted = tuple(
            (column, "DOUBLE" if floats and kind.startswith("DECIMAL") else kind)
            for column, kind in table.columns
            if columns is None or column in columns
        )
        by_schema: dict[str, list[str]] = {}
        for key in keys:
            entry = table.partitions[key]
            by_schema.setdefault(entry.schema, []).append(_literal(str(self.path / entry.file)))
        parts = [
            self._select_files(wanted, self.manifest.schemas[schema], files, more)
            for schema, files in sorted(by_schema.items())
        ]
        if not parts:
            kinds = [*wanted, *([(more, "VARCHAR" if more == "filename" else "BIGINT")] if more else [])]
            nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in kinds)
            return f"SELECT {nothing} WHERE false"
        return " UNION ALL ".join(parts)

    @staticmethod
    def _select_files(wanted: Columns, stored: Columns, files: list[str], more: str) -> str:
        """Read ``files``, written with the columns ``stored``, as a table with the columns ``wanted``."""
        there = dict(stored)
        own = {column: f'"{column}"' if column in there else "NULL" for column, _ in wanted}
        columns = ", ".join(
            own[column] if there.get(column) == kind else f'CAST({own[column]} AS {kind}) AS "{column}"'
            for column, kind in wanted
        )
        columns, option = (f"{columns}, {more}", f", {more} = true") if more else (columns, "")
        return f"SELECT {columns} FROM read_parquet([{', '.join(files)}], hive_partitioning = false{option})"


@lru_cache(4096)  # every list asks for the spans of all its files
def partition_span(key: str) -> tuple[datetime, datetime] | None:
    """The time [from, to) of a partition key: ``2026-02-01T1010`` (ten minutes), ``2026-02-01T10``, ``2026-02-01Q2`` (the
    second six hours), ``2026-02-01``, ``2026-W05`` (an ISO week) or ``2026-02``; None for ``all``.
    """
    if len(key) == 12:
        start = datetime.strptime(key[:10], "%Y-%m-%d") + (int(key[11]) - 1) * QUARTER_DAY
        return start, start + QUARTER_DAY
    if len(key) == 8:
        monday = datetime.strptime(f"{key}-1", f"{WEEK_KEY}-%u")
        return monday, monday + timedelta(days=7)
    for length, pattern in ((15, "%Y-%m-%dT%H%M"), (13, "%Y-%m-%dT%H"), (10, "%Y-%m-%d"), (7, "%Y-%m")):
        if len(key) == length:
            start = datetime.strptime(key, pattern)
            if length == 7:
                return start, (start + timedelta(days=32)).replace(day=1)
            span = {15: timedelta(minutes=10), 13: timedelta(hours=1), 10: timedelta(days=1)}[length]
            return start, start + span
    return None


def _may_overlap(key: str, start: datetime | None, end: datetime | None) -> bool:
    span = partition_span(key)
    if span is None:
        return True
    return (end is None or span[0] < end) and (start is None or span[1] > start)


def _columns(pairs: list[list[str]]) -> Columns:
    return tuple((name, kind) for name, kind in pairs)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat() + "Z"


def _instant(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
