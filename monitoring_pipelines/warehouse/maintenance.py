"""Tidying up when nothing waits: merging the log, compacting and checking published files, sizes.

What belongs here: work that changes no value anybody can query.
What does not: deciding which rows are old (``retention``) and publishing changes (``publish``).
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.errors import WarehouseBusy
from monitoring_pipelines.warehouse.connect import Warehouse, transaction
from monitoring_pipelines.warehouse.lake import Manifest, PublishedFile, partition_span, read_manifest
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout
from monitoring_pipelines.warehouse.publish import (
    LOCK_NAME,
    Publication,
    mark_for_publish,
    publish_in_slices,
    uncompacted,
)
from monitoring_pipelines.warehouse.publish_files import remove_file
from monitoring_pipelines.warehouse.serving import SERVED, TASK, mark
from monitoring_pipelines.warehouse.task_summaries import SUMMARIES

#: A file is rewritten when more than this share of it, and at least this many bytes, would be saved.
REWRITE_SHARE = 0.5
REWRITE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class StoreSize:
    """Bytes on disk. ``free_bytes`` is the part of the warehouse file that DuckDB reuses for new rows."""

    warehouse_bytes: int
    free_bytes: int
    log_bytes: int
    lake_bytes: int
    lake_files: int


@dataclass
class LakeReport:
    """What was found in the published files, relative to the lake; ``damaged`` ones are marked to be written again."""

    orphans: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MaintenanceReport:
    """What one run did and what it left. Sizes before and after; seconds."""

    before: StoreSize
    after: StoreSize
    compacted: int
    lake: LakeReport
    rewritten: bool
    seconds: float


def maintain(
    warehouse: Warehouse, lake: str | Path, clock: Clock, *, deep: bool = False, budget_s: float = 120.0
) -> MaintenanceReport:
    """Everything in this module in a sensible order; safe to run at any time, also while ticks run.

    Args:
        warehouse: Must not be open in this thread.
        lake: Directory of the published files.
        clock: Decides which days are complete.
        deep: Also compare the content of every published file with its digest.
        budget_s: Compaction starts no new day after this many seconds.
    """
    began = time.monotonic()
    before = store_size(warehouse, lake)
    merge_log(warehouse)
    compacted = compact_lake(warehouse, lake, clock, budget_s=budget_s)
    found = check_lake(warehouse, lake, clock, deep=deep)
    if found.damaged:
        publish_in_slices(Publication(lake, clock, budget_s=budget_s), warehouse)
    rewritten = rewrite_if_sparse(warehouse)
    return MaintenanceReport(before, store_size(warehouse, lake), compacted, found, rewritten, time.monotonic() - began)


def merge_log(warehouse: Warehouse) -> None:
    """Merge the write-ahead log into the file, also when it is short, and join small row groups."""
    with warehouse.writer("checkpoint") as con:
        warehouse.merge(con, tidy=True)


def store_size(warehouse: Warehouse, lake: str | Path) -> StoreSize:
    """Sizes of the warehouse and the published files. Opens the warehouse for a moment."""
    with warehouse.reader("size") as con:
        row = con.execute("SELECT block_size, total_blocks, free_blocks FROM pragma_database_size()").fetchone()
    block, total, free = row if row else (0, 0, 0)
    files = [path.stat().st_size for path in Path(lake).rglob("*.parquet")]
    return StoreSize(block * total, block * free, warehouse.log_bytes(), sum(files), len(files))


def compact_lake(warehouse: Warehouse, lake: str | Path, clock: Clock, *, budget_s: float = 120.0) -> int:
    """Write fine files of days before today as one per day, and of weeks of hours as one per week, a day at a time.

    Returns:
        Number of (table, partition) pairs compacted.
    """
    began, version = time.monotonic(), -1
    known = read_manifest(lake)
    left = first = len(uncompacted(known, clock.now())) if known else 0
    while left and time.monotonic() - began < budget_s:
        # The smallest budget: one day is always done, and the lock is free between two days.
        manifest = publish_in_slices(Publication(lake, clock, budget_s=0.0), warehouse, compact=True)
        if manifest.version == version:
            break
        version, left = manifest.version, len(uncompacted(manifest, clock.now()))
    return first - left


def check_lake(warehouse: Warehouse, lake: str | Path, clock: Clock, *, deep: bool = False) -> LakeReport:
    """Remove files no manifest needs, and have missing or damaged ones written again.

    Args:
        warehouse: Where damaged partitions are marked.
        lake: Directory of the published files.
        clock: Time of the marks.
        deep: Read every file and compare its digest; otherwise existence and size are compared.

    Raises:
        WarehouseBusy: A publisher holds the lake for more than 30 s.
    """
    root, report = Path(lake).absolute(), LakeReport()
    damaged: list[tuple[str, datetime | None]] = []
    try:
        with FairLock(root / LOCK_NAME).held("check", 30.0):
            manifest = read_manifest(root)
            if manifest is None:
                return report
            needed = manifest.files() | {retired.file for retired in manifest.retired}
            for path in sorted(root.rglob("*.parquet")):
                name = path.relative_to(root).as_posix()
                if name not in needed and remove_file(root, name):
                    report.orphans.append(name)
            damaged = _damaged(root, manifest, deep, report)
    except LockTimeout as error:
        raise WarehouseBusy(f"the published files are being written by {error.holder}", "try again later") from error
    if damaged:
        with warehouse.writer("republish") as con, transaction(con):
            for table, bucket in damaged:
                if table in SERVED:
                    at = "NULL::TIMESTAMP" if bucket is None else f"TIMESTAMP '{bucket}'"
                    mark(con, table, f"SELECT {at}", clock.now())
                elif bucket is not None:
                    mark_for_publish(con, table, [bucket], clock.now())
    return report


def rewrite_if_sparse(warehouse: Warehouse, *, share: float = REWRITE_SHARE, least_bytes: int = REWRITE_BYTES) -> bool:
    """Copy the warehouse into a new file when most of the old one is free space, for example after ``raw_days`` shrank.

    In steady state this does nothing: DuckDB reuses the space of deleted rows, but never gives it back. The copy needs
    room for the live data beside the old file and holds the lock meanwhile (about a minute for 40 M rows).

    Returns:
        Whether the file was replaced.
    """
    fresh = warehouse.path.with_name(warehouse.path.name + ".rewrite")
    with warehouse.writer("rewrite") as con:
        warehouse.merge(con, tidy=True)
        row = con.execute("SELECT block_size, total_blocks, free_blocks FROM pragma_database_size()").fetchone()
        block, total, free = row if row else (0, 0, 0)
        if block * free < least_bytes or free < share * total:
            return False
        fresh.unlink(missing_ok=True)
        name = con.execute("SELECT current_database()").fetchall()[0][0]
        # Rows keep their order: it is what lets DuckDB skip row groups by time.
        con.execute("SET preserve_insertion_order = true")
        try:
            con.execute(f"ATTACH '{str(fresh).replace(chr(39), chr(39) * 2)}' AS fresh_copy")
            con.execute(f'COPY FROM DATABASE "{name}" TO fresh_copy')
            con.execute("CHECKPOINT fresh_copy")
            con.execute("DETACH fresh_copy")
            con.close()
            _sync(fresh)
            os.replace(fresh, warehouse.path)
            Path(str(warehouse.path) + ".wal").unlink(missing_ok=True)
            _sync(warehouse.path.parent)
        finally:
            fresh.unlink(missing_ok=True)
            Path(str(fresh) + ".wal").unlink(missing_ok=True)
    return True


def _damaged(root: Path, manifest: Manifest, deep: bool, report: LakeReport) -> list[tuple[str, datetime | None]]:
    """(table, bucket) of files that are missing or differ; the damaged file itself is removed."""
    result: list[tuple[str, datetime | None]] = []
    for name, table in manifest.tables.items():
        for key, entry in table.partitions.items():
            if _is_sound(root, entry, deep):
                continue
            report.damaged.append(entry.file)
            (root / entry.file).unlink(missing_ok=True)
            span = partition_span(key)
            # A summary of tasks is made anew with its tasks; others are written with every manifest and need no mark.
            origin = TASK if name in SUMMARIES else name
            result += [(origin, span[0] if span else None)] if span or name in SERVED else []
    return result


def _is_sound(root: Path, entry: PublishedFile, deep: bool) -> bool:
    path = root / entry.file
    try:
        if path.stat().st_size != entry.size_bytes:
            return False
        if not deep:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
