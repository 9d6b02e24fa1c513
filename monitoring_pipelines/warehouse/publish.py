"""Publishing: writing changed partitions as Parquet, then one manifest that names a consistent set.

What belongs here: which partitions changed, and copying them. What does not: making files durable and replacing the
manifest (``publish_files``), its format and reading it (``lake``), compaction and checking of files (``maintenance``).

Partitions keep the number of files small, for every column of every file costs a reader 20 µs: minute tables have a file
per UTC hour, one for six hours once they are over, and a file per day before yesterday, hour tables a file per day and,
once a week is over, a file for it, day tables a file per month. A year is about 500 files per family, and a late row
rewrites one of them.

A change is marked in the transaction that makes it (``mark_for_publish``), and the mark is removed only after a
manifest that contains it was seen, so a crash anywhere repeats work and loses none.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.errors import WarehouseBusy
from monitoring_pipelines.warehouse import counters
from monitoring_pipelines.warehouse.connect import share_out, transaction
from monitoring_pipelines.warehouse.core_tables import ensure_core
from monitoring_pipelines.warehouse.families import SELF
from monitoring_pipelines.warehouse.lake import (
    KEEP_RETIRED_S,
    QUARTER_DAY,
    WEEK_KEY,
    Columns,
    Lake,
    LakeDamaged,
    Manifest,
    PublishedTable,
    partition_span,
    read_manifest,
)
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout
from monitoring_pipelines.warehouse.publish_files import Placing, Staged, disk_errors, quoted
from monitoring_pipelines.warehouse.serving import (
    MERGE_AFTER,
    ROW_GROUP,
    SERVED,
    STEP,
    TASK,
    Served,
    floor,
    mark,
    mark_whole_table,
    pieces,
    resolve,
    seen_since,
)
from monitoring_pipelines.warehouse.task_summaries import SMALL, SUMMARIES, Summary, columns_of

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.warehouse.connect import Warehouse

__all__ = ["Lake", "Manifest", "Publication", "mark_everything", "mark_for_publish", "publish", "read_manifest"]

log = logging.getLogger(__name__)

STAGING_NAME = ".staging"
LOCK_NAME = ".publish.lock.d"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: So many changed partitions are those of a tick: small files, copied on one thread.
FEW_PARTITIONS = 60
#: Bucket column -> length of what one mark covers.
_MARK_SPAN = {"stat_minute": HOUR, "stat_hour": DAY, "stat_date": DAY}
#: A day of minutes of many endpoints is several row groups, so that one endpoint's are read without the others'.
_STATISTICS_ROW_GROUP = 12_288
_SERVED_OPTIONS = f"{SMALL}, ROW_GROUP_SIZE {ROW_GROUP}"
#: Ninety columns of a few rows: without dictionaries a file is smaller, with this compression and plain encodings it is read in
#: half the time.
_STATISTICS_OPTIONS = f", COMPRESSION lz4_raw, DICTIONARY_SIZE_LIMIT 1, ROW_GROUP_SIZE {_STATISTICS_ROW_GROUP}"
#: Digits of a decimal that fits a machine word.
_WORD_DIGITS = 18
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
#: The warehouse is held so long for older days, seconds.
SLICE_S = 0.4
#: Anomalies that are named of each kind, entity and day.
ANOMALY_EXAMPLES = 5
#: Small tables that are published whole with every manifest: what readers need to say how fresh and complete data is.
_ALWAYS = {
    "meta.source_state": "SELECT * FROM meta.source_state ORDER BY source_id",
    "meta.source_setting": "SELECT * FROM meta.source_setting ORDER BY source_id",
    "meta.extract_mark": (
        "SELECT * EXCLUDE (holes, time_marks) FROM meta.extract_mark ORDER BY source_id, src_table, entity"
    ),
    "meta.reconciliation": (
        "SELECT * FROM meta.reconciliation QUALIFY row_number() OVER "
        '(PARTITION BY source_id, src_table, entity, "day" ORDER BY verified_at DESC) = 1 '
        'ORDER BY source_id, src_table, entity, "day"'
    ),
    # What was never computed, or is due again: beside it an hour without rows is a known zero (M-101).
    "meta.window_due": (
        "SELECT source_id, family, NULL::VARCHAR AS grain, NULL::TIMESTAMP AS bucket, computed_through "
        "FROM meta.window_progress "
        "UNION ALL SELECT DISTINCT due.source_id, due.family, 'hour', due.hour, NULL::TIMESTAMP FROM meta.dirty_hour AS due "
        "JOIN meta.source_state AS state USING (source_id) WHERE due.hour + INTERVAL 1 HOUR <= state.closed_through "
        "UNION ALL SELECT DISTINCT due.source_id, due.family, 'day', due.\"day\", NULL::TIMESTAMP FROM meta.dirty_day AS due "
        'JOIN meta.source_state AS state USING (source_id) WHERE due."day" + INTERVAL 1 DAY <= state.closed_through '
        "ORDER BY ALL"
    ),
    "meta.anomaly_summary": (
        'SELECT source_id, kind, entity, CAST("at" AS DATE) AS "day", CAST(sum(count) AS BIGINT) AS n, '
        'min("at") AS first_at, max("at") AS last_at, '
        # The newest of each, so that a reader sees which rows they are; in this order whatever order they are read in.
        f"max({{'seen_at': first_seen_at, 'key': \"key\", 'detail': detail}}, {ANOMALY_EXAMPLES}) AS examples "
        "FROM raw.anomaly GROUP BY ALL "
        'ORDER BY source_id, kind, entity, "day"'
    ),
    counters.TABLE: f"SELECT * FROM {counters.TABLE} ORDER BY counter, source_id, labels",
}


@dataclass(frozen=True)
class _Table:
    """A statistics table of the warehouse; ``bucket`` is None when it is published whole."""

    name: str
    columns: Columns
    bucket: str | None
    #: Set when the table is published for look-ups; it then says which rows a file has.
    served: Served | None = None
    #: Set when its files are made from those of ``core.task``.
    summary: Summary | None = None

    @property
    def order(self) -> str:
        """Columns that make the order of rows unique: subjects (the first text columns), then the bucket."""
        names = [name for name, kind in self.columns[:4] if kind == "VARCHAR"]
        return ", ".join(f'"{name}"' for name in [*names, *([self.bucket] if self.bucket else [])]) or "ALL"


def mark_for_publish(con: duckdb.DuckDBPyConnection, table: str, buckets: Iterable[datetime], now: datetime) -> None:
    """Remember that rows of these buckets changed; call it in the transaction that changes them.

    Args:
        con: Read-write connection.
        table: For example ``mart.endpoint_minute_stats``.
        buckets: Starts of changed minutes, hours or days (naive UTC), in any order, repeated or not.
        now: Naive UTC instant.
    """
    floored = sorted({bucket.replace(minute=0, second=0, microsecond=0) for bucket in buckets})
    if floored:
        con.execute(
            "INSERT INTO meta.publish_pending(change_id, table_name, bucket_from, marked_at) "
            "SELECT CAST(uuid() AS VARCHAR), ?, unnest(?::TIMESTAMP[]), ?",
            [table, floored, now],
        )


def mark_everything(con: duckdb.DuckDBPyConnection, now: datetime) -> int:
    """Mark every bucket of every statistics table, for a lake that is empty or not to be trusted; number of marks."""
    with transaction(con):
        con.execute("DELETE FROM meta.publish_pending")
        for table in _mart_tables(con).values():
            span = "NULL::TIMESTAMP"
            if table.bucket:
                unit = "hour" if table.bucket == "stat_minute" else "day"
                span = f"date_trunc('{unit}', CAST(\"{table.bucket}\" AS TIMESTAMP))"
            con.execute(
                "INSERT INTO meta.publish_pending(change_id, table_name, bucket_from, marked_at) "
                "SELECT CAST(uuid() AS VARCHAR), ?, bucket, ? "
                f"FROM (SELECT DISTINCT {span} AS bucket FROM {table.name})",
                [table.name, now],
            )
    return _count(con, "SELECT count(*) FROM meta.publish_pending")


def publish(
    con: duckdb.DuckDBPyConnection,
    lake: str | Path,
    clock: Clock,
    partitions: Iterable[tuple[str, datetime]] = (),
    *,
    budget_s: float = 0.3,
) -> Manifest:
    """Publish what changed, using the connection a step has open anyway.

    Args:
        con: Read-write connection, no open transaction.
        lake: The lake's directory; created when missing.
        clock: Time of publication and age of superseded files.
        partitions: Further (table, bucket) pairs to publish besides the marked ones.
        budget_s: After this many seconds of reading, older days wait for the next call.

    Returns:
        The manifest in force afterwards; unchanged when nothing differs. ``waiting`` says how many changes are left.

    Raises:
        DiskFull: No space for the files; readers keep the previous set, the warehouse is untouched.
        WarehouseBusy: Another process publishes for too long.
    """
    with Publication(lake, clock, budget_s=budget_s) as publication:
        publication.stage(con, partitions)
        while publication.is_unfinished:
            publication.go_on(con)
        return publication.commit()


def uncompacted(manifest: Manifest, now: datetime) -> set[tuple[str, str]]:
    """(table, partition) of days before today that still consist of finer files, and of weeks of hours before this one."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    this_week = today - today.weekday() * DAY
    found: set[tuple[str, str]] = set()
    for name, table in manifest.tables.items():
        of_hours = any(column == "stat_hour" for column, _ in table.columns)
        for key in table.partitions:
            start = (partition_span(key) or (today,))[0]
            if len(key) > len("2026-02-01") and start < today:
                found.add((name, key[:10]))
            elif of_hours and len(key) == len("2026-02-01") and start < this_week:
                found.add((name, f"{start:{WEEK_KEY}}"))
    return found


def publish_in_slices(publication: Publication, warehouse: Warehouse, *, compact: bool = False) -> Manifest:
    """Publish with the warehouse open for ``SLICE_S`` at a time, as ``Publication`` says."""
    with publication:
        with warehouse.writer("publish", small=True) as con:
            publication.stage(con, compact=compact)
        while publication.is_unfinished:
            with warehouse.writer("publish: older days") as con:
                publication.go_on(con)
        warehouse.end_run()
        return publication.commit()


class Publication:
    """One publication in steps, so that the slow part needs no open warehouse and older days hold nobody up.

    ``stage`` copies changed partitions out of the warehouse to temporary files, ``go_on`` goes on with older days while it
    ``is_unfinished``; ``commit`` makes the files durable, names them and replaces the manifest. Meanwhile the lake is
    locked against other publishers. Leaving the block without ``commit`` discards everything. Enter it before the warehouse
    is opened.

    Args:
        lake: The lake's directory; created when missing.
        clock: Time of publication and age of superseded files.
        budget_s: After this many seconds of reading, older days but one wait for the next publication.
        lock_timeout_s: Longest wait for another publisher, seconds.
        keep_retired_s: How long superseded files stay, seconds.

    Raises:
        WarehouseBusy: On entering, when another process publishes for too long.
    """

    def __init__(
        self,
        lake: str | Path,
        clock: Clock,
        *,
        budget_s: float = 0.3,
        lock_timeout_s: float = 30.0,
        keep_retired_s: float = KEEP_RETIRED_S,
    ) -> None:
        self.lake = Path(lake).absolute()
        self.clock = clock
        self.budget_s = budget_s
        self.lock_timeout_s = lock_timeout_s
        self.keep_retired_s = keep_retired_s
        self._stack = ExitStack()
        self._staged: dict[tuple[str, str], Staged] = {}
        #: Files that follow each other as the rows of one partition, by (table, partition).
        self._parts: dict[tuple[str, str], list[Staged]] = {}
        self._work: Iterator[None] = iter(())
        self.is_unfinished = False
        self._as_one_file: set[tuple[str, str]] = set()
        self._acknowledged: list[str] = []
        self._previous: Manifest | None = None
        self._base = Manifest(0, clock.now(), None, {}, "", {}, {})

    def __enter__(self) -> Publication:
        # Before the warehouse is opened: whoever holds the lake may need the warehouse for its next slice.
        self._lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stage(
        self,
        con: duckdb.DuckDBPyConnection,
        partitions: Iterable[tuple[str, datetime]] = (),
        *,
        compact: bool = False,
    ) -> int:
        """Copy changed partitions of the newest day to temporary files, and begin with older days.

        Days are taken newest first and each as a whole, all tables together, so that minutes, hours and days of one
        manifest belong together even when older days have to wait.

        Args:
            con: Read-write connection, no open transaction.
            partitions: Further (table, bucket) pairs to publish besides the marked ones.
            compact: Also rewrite fine files of days before today, and of weeks before this one, as one (``uncompacted``).

        Returns:
            Number of partitions written.

        Raises:
            DiskFull: As for ``publish``.
        """
        now = self.clock.now()
        tables = _mart_tables(con) | _served_tables(con)
        self._begin(con, tables, now)
        staging = self.lake / STAGING_NAME
        with disk_errors(self.lake):
            # Whatever is there was left by a publisher that died: only the holder of the lock stages.
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self._stack.callback(shutil.rmtree, staging, ignore_errors=True)
        for name, query in _ALWAYS.items():
            self._copy(con, name, "all", _describe(con, query), query)
        wishes = [*self._mergeable(now), *(self._uncompacted(now) if compact else ())]
        days = _by_day(con, partitions, wishes)
        share_out(con, few=not wishes and sum(map(len, days.values())) <= FEW_PARTITIONS)
        self._work = self._stage_days(tables, days, now)
        self.go_on(con)
        return len(self._staged)

    def go_on(self, con: duckdb.DuckDBPyConnection) -> None:
        """Copy for ``SLICE_S`` seconds; the connection may be another one each time."""
        self._con = con
        until = time.perf_counter() + SLICE_S
        self.is_unfinished = True
        for _ in self._work:
            if time.perf_counter() >= until:
                return
        self.is_unfinished = False

    def commit(self) -> Manifest:
        """Make the staged files durable and replace the manifest.

        Returns:
            The manifest in force; the previous one when nothing differs from it.

        Raises:
            DiskFull: No space; the previous manifest stays in force and nothing is left behind.
        """
        if self.is_unfinished:
            raise RuntimeError("this publication is unfinished: days of it are copied in part only")
        created: list[Path] = []
        placing = Placing(self.lake, self._previous, self.keep_retired_s)
        try:
            with disk_errors(self.lake):
                self._join_parts()
                manifest = placing.assemble(self._base, self._staged.values(), self._acknowledged, created)
                if manifest is not self._previous:
                    placing.put_in_force(manifest, created)
        except BaseException:
            for path in created:
                path.unlink(missing_ok=True)
            raise
        placing.delete_expired(manifest)
        self._stack.close()
        return manifest

    def _lock(self) -> None:
        try:
            with disk_errors(self.lake):
                self._stack.enter_context(FairLock(self.lake / LOCK_NAME).held("publish", self.lock_timeout_s))
        except LockTimeout as error:
            raise WarehouseBusy(
                f"the published files at {self.lake} are being written by {error.holder or 'another process'}",
                "wait for it to finish; a process that died does not block",
            ) from error

    def _begin(self, con: duckdb.DuckDBPyConnection, tables: dict[str, _Table], now: datetime) -> None:
        """Start from the manifest in force, or from nothing when there is none for this warehouse."""
        identity = con.execute("SELECT warehouse_id FROM meta.identity").fetchone()
        warehouse_id = identity[0] if identity else ""
        try:
            self._previous = read_manifest(self.lake)
        except LakeDamaged as error:
            log.warning("%s; publishing everything again", error)
        known = self._previous
        if known is not None and known.warehouse_id == warehouse_id:
            if known.acknowledged:
                con.execute(
                    "DELETE FROM meta.publish_pending WHERE change_id IN (SELECT unnest(?))", [known.acknowledged]
                )
            kept = {name: replace(table) for name, table in known.tables.items() if name in tables}
        else:
            mark_everything(con, now)
            kept = {}
        with transaction(con):
            for table in tables.values():
                if table.served and table.name not in kept:
                    mark_whole_table(con, table.served, now)
                elif table.served and known is not None:
                    for at in _outdated(table, kept[table.name], known):
                        mark(con, table.name, at, now)
            resolve(con, now)
        sources = con.execute(
            "SELECT source_id, as_of, closed_through, origin, raw_from FROM meta.source_state ORDER BY source_id"
        ).fetchall()
        reached = [row[1] for row in sources if row[1] is not None and row[0] != SELF]
        self._base = Manifest(
            version=(known.version if known else 0) + 1,
            published_at=now,
            as_of=min(reached, default=None),
            sources={
                row[0]: dict(zip(("as_of", "closed_through", "origin", "raw_from"), row[1:], strict=True))
                for row in sources
            },
            warehouse_id=warehouse_id,
            schemas=dict(known.schemas) if known else {},
            tables={
                name: PublishedTable(table.columns, dict(kept[name].partitions) if name in kept else {})
                for name, table in tables.items()
            },
        )

    def _stage_days(
        self, tables: dict[str, _Table], days: dict[date | None, list[tuple[str, str, datetime | None]]], now: datetime
    ) -> Iterator[None]:
        """Stage day by day; it may be left for a while wherever it yields: within older or large days, between parts of a file."""
        began = time.perf_counter()
        newest = max((day for day in days if day), default=None)
        older = 0
        for day in sorted(days, key=lambda d: d or date.max, reverse=True):
            is_older = day not in (None, newest)
            # One older day each time: whatever the newest costs, no change waits for ever.
            if is_older and older and time.perf_counter() - began > self.budget_s:
                self._base.waiting += sum(1 for change_id, _, _ in days[day] if change_id)
                continue
            older += is_older
            for change_id, name, bucket in days[day]:
                if name in tables:
                    yield from self._stage_bucket(tables[name], bucket, now)
                if change_id:
                    self._acknowledged.append(change_id)
                if is_older or len(days[day]) > FEW_PARTITIONS:
                    yield
        self._stage_lacking(self._con)

    def _stage_bucket(self, table: _Table, bucket: datetime | None, now: datetime) -> Iterator[None]:
        """Copy the partition that holds ``bucket``, once; a day that becomes one file replaces its hourly files."""
        if table.summary:
            return
        if table.served:
            yield from self._stage_served(table, table.served, bucket, now)
            return
        if table.bucket is None or bucket is None:
            self._copy_statistics(table, "all")
            return
        start, end, key = self._partition(table, bucket, now)
        column = f'"{table.bucket}"'
        self._copy_statistics(table, key, f"WHERE {column} >= TIMESTAMP '{start}' AND {column} < TIMESTAMP '{end}'")
        entries = self._base.tables[table.name].partitions
        for finer in [other for other in entries if other != key and _is_within(other, start, end)]:
            del entries[finer]

    def _stage_served(self, table: _Table, served: Served, bucket: datetime | None, now: datetime) -> Iterator[None]:
        """As ``_stage_bucket``: ten minutes, an hour or a day of rows; a coarser file replaces the finer ones."""
        if served.at is None or bucket is None:
            self._copy(self._con, table.name, "all", table.columns, served.query(), _SERVED_OPTIONS)
            return
        entries = self._base.tables[table.name].partitions
        for start, length, pattern in self._spans(bucket):
            key = f"{start:{pattern}}"
            settled = start + (2 * DAY if length == DAY else MERGE_AFTER) <= now
            if length == STEP or settled or key in entries or (table.name, key) in self._as_one_file:
                if table.name == TASK:
                    yield from self._stage_tasks(table, served, key, start, start + length)
                else:
                    self._copy(
                        self._con, table.name, key, table.columns, served.query(start, start + length), _SERVED_OPTIONS
                    )
                for finer in [other for other in entries if other.startswith(key) and other != key]:
                    del entries[finer]
                return

    def _stage_tasks(self, table: _Table, served: Served, key: str, start: datetime, end: datetime) -> Iterator[None]:
        """Copy tasks and make their summaries. With their attempts and events, a day of them may not fit into memory: it is
        copied in parts, which ``commit`` joins.
        """
        if (TASK, key) in self._staged or (TASK, key) in self._parts:
            return
        spans = pieces(self._con, start, end) if end - start == DAY else [(start, end)]
        if len(spans) == 1:
            query = served.query(start, end, seen_since(self._con, start, end))
            self._copy(self._con, TASK, key, table.columns, query, _SERVED_OPTIONS)
            self._stage_summaries(self._con, key)
            return
        parts = self._parts[TASK, key] = []
        for number, (lower, upper) in enumerate(spans):
            query = served.query(lower, upper, seen_since(self._con, lower, upper))
            path = self.lake / STAGING_NAME / f"part-{key}-{number}.parquet"
            parts.append(self._written(self._con, TASK, key, table.columns, query, path, _SERVED_OPTIONS))
            yield

    def _join_parts(self) -> None:
        """Make one file of the parts of each partition, without the warehouse."""
        import duckdb

        if not self._parts:
            return
        spill = str(self.lake / STAGING_NAME / "spill")
        with duckdb.connect(config={"memory_limit": "500MB", "temp_directory": spill}) as con:
            con.execute("SET enable_progress_bar = false")
            for (name, key), parts in self._parts.items():
                files = ", ".join(f"'{quoted(part.path)}'" for part in parts if part.path)
                columns = self._base.tables[name].columns
                if not files:
                    self._staged[name, key] = Staged(name, key, columns, None, 0)
                else:  # rows keep the order of the files
                    rows = f"SELECT * FROM read_parquet([{files}], hive_partitioning = false)"
                    self._copy(con, name, key, columns, rows, _SERVED_OPTIONS)
                self._stage_summaries(con, key)
        self._parts.clear()

    def _stage_summaries(self, con: duckdb.DuckDBPyConnection, key: str) -> None:
        """Make the summaries of the staged file of tasks ``key``."""
        staged = self._staged[TASK, key]
        for name, summary in SUMMARIES.items():
            table = self._base.tables[name]
            for finer in [other for other in table.partitions if other.startswith(key) and other != key]:
                del table.partitions[finer]
            if staged.path is None:
                self._staged[name, key] = Staged(name, key, table.columns, None, 0)
            else:
                self._summarise(con, summary, key, staged.path)

    def _summarise(self, con: duckdb.DuckDBPyConnection, summary: Summary, key: str, tasks: Path) -> None:
        rows = f"read_parquet('{quoted(tasks)}', hive_partitioning = false)"
        columns = self._base.tables[summary.name].columns
        self._copy(con, summary.name, key, columns, summary.query(rows), summary.options, keep_empty=True)

    def _stage_lacking(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make summaries of files of tasks that were published without them, newest first, as far as the budget goes."""
        began = time.perf_counter()
        tasks = self._base.tables.get(TASK, PublishedTable(()))
        for key, entry in sorted(tasks.partitions.items(), reverse=True):
            if (TASK, key) in self._staged or self._base.schemas.get(entry.schema) != tasks.columns:
                continue
            for name, summary in SUMMARIES.items():
                known = self._base.tables[name].partitions.get(key)
                if known is not None and self._base.schemas.get(known.schema) == self._base.tables[name].columns:
                    continue
                if time.perf_counter() - began > self.budget_s:
                    return
                self._summarise(con, summary, key, self.lake / entry.file)

    @staticmethod
    def _spans(bucket: datetime) -> list[tuple[datetime, timedelta, str]]:
        day = bucket.replace(hour=0, minute=0, second=0, microsecond=0)
        hour = bucket.replace(minute=0, second=0, microsecond=0)
        return [(day, DAY, "%Y-%m-%d"), (hour, HOUR, "%Y-%m-%dT%H"), (floor(bucket), STEP, "%Y-%m-%dT%H%M")]

    def _mergeable(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Of every table the oldest hour whose ten-minute files, or the oldest six hours whose hours, can become one."""
        for name, table in self._base.tables.items():
            fine = sorted(key[:13] for key in table.partitions if len(key) == len("2026-02-01T1010"))
            if fine:
                hour = datetime.strptime(fine[0], "%Y-%m-%dT%H")
                if hour + MERGE_AFTER <= now:
                    yield name, hour
            elif any(column == "stat_minute" for column, _ in table.columns):
                hours = sorted(key for key in table.partitions if len(key) == len("2026-02-01T10"))
                start = _quarter(datetime.strptime(hours[0], "%Y-%m-%dT%H"))[0] if hours else now
                if start + QUARTER_DAY + MERGE_AFTER <= now:
                    yield name, start

    def _partition(self, table: _Table, bucket: datetime, now: datetime) -> tuple[datetime, datetime, str]:
        """Start, end and key of the partition that holds ``bucket``."""
        day = bucket.replace(hour=0, minute=0, second=0, microsecond=0)
        if table.bucket == "stat_date":
            first = day.replace(day=1)
            return first, (first + 32 * DAY).replace(day=1), f"{first:%Y-%m}"

        def is_one_file(key: str, end: datetime) -> bool:
            known = self._base.tables[table.name].partitions
            return end + DAY <= now or key in known or (table.name, key) in self._as_one_file

        if table.bucket == "stat_hour":
            monday = day - day.weekday() * DAY
            if is_one_file(week := f"{monday:{WEEK_KEY}}", monday + 7 * DAY):
                return monday, monday + 7 * DAY, week
        elif not is_one_file(f"{day:%Y-%m-%d}", day + DAY):
            start, key = _quarter(bucket)
            if start + QUARTER_DAY + MERGE_AFTER <= now or key in self._base.tables[table.name].partitions:
                return start, start + QUARTER_DAY, key
            hour = bucket.replace(minute=0, second=0, microsecond=0)
            return hour, hour + HOUR, f"{hour:%Y-%m-%dT%H}"
        return day, day + DAY, f"{day:%Y-%m-%d}"

    def _uncompacted(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """A bucket of every day and week that can be one file and is not; it then counts as one file."""
        for name, key in sorted(uncompacted(self._base, now)):
            self._as_one_file.add((name, key))
            span = partition_span(key)
            assert span is not None
            yield name, span[0]

    def _copy_statistics(self, table: _Table, key: str, where: str = "") -> None:
        """Copy rows of a statistics table, with decimals as machine words: wider ones, which a week of a millennium would
        need, are read in twice the time, so only files with such values have them.
        """
        import duckdb

        fitting = tuple((name, _in_a_word(kind)) for name, kind in table.columns)
        casts = ", ".join(
            f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in fitting if (name, kind) not in table.columns
        )
        options = "" if table.bucket is None else _STATISTICS_OPTIONS
        rows = f"FROM {table.name} {where} ORDER BY {table.order}"
        replaced = f" REPLACE ({casts})" if casts else ""
        try:
            self._copy(self._con, table.name, key, fitting, f"SELECT *{replaced} {rows}", options or SMALL)
        except duckdb.ConversionException:
            self._copy(self._con, table.name, key, table.columns, f"SELECT * {rows}", options or SMALL)

    def _copy(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        partition: str,
        columns: Columns,
        query: str,
        options: str = SMALL,
        *,
        keep_empty: bool = False,
    ) -> None:
        if (table, partition) not in self._staged:
            self._base.tables.setdefault(table, PublishedTable(columns))
            path = self.lake / STAGING_NAME / f"{len(self._staged)}.parquet"
            self._staged[table, partition] = self._written(
                con, table, partition, columns, query, path, options, keep_empty=keep_empty
            )

    def _written(
        self, con: duckdb.DuckDBPyConnection, table: str, partition: str, columns: Columns, query: str, path: Path,
        options: str, *, keep_empty: bool = False,
    ) -> Staged:  # fmt: skip
        with disk_errors(self.lake):
            rows = _count(con, f"COPY ({query}) TO '{quoted(path)}' (FORMAT parquet{options})")
        kept = bool(rows) or keep_empty
        if not kept:
            path.unlink(missing_ok=True)
        return Staged(table, partition, columns, path if kept else None, rows)


def _quarter(at: datetime) -> tuple[datetime, str]:
    """Start and partition key of the six hours that hold ``at``."""
    number = at.hour // 6
    return datetime(at.year, at.month, at.day, 6 * number), f"{at:%Y-%m-%d}Q{number + 1}"


def _is_within(key: str, start: datetime, end: datetime) -> bool:
    span = partition_span(key)
    return span is not None and start <= span[0] and span[1] <= end


def _mart_tables(con: duckdb.DuckDBPyConnection) -> dict[str, _Table]:
    rows = con.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'mart' AND NOT internal "
        "ORDER BY table_name, column_index"
    ).fetchall()
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        columns.setdefault(f"mart.{table}", []).append((column, kind))
    return {
        name: _Table(name, tuple(found), next((c for c, _ in found if c in _MARK_SPAN), None))
        for name, found in columns.items()
    }


def _served_tables(con: duckdb.DuckDBPyConnection) -> dict[str, _Table]:
    """Tables published for look-ups, of which the warehouse has the rows they are made from."""
    ensure_core(con)
    tables = {
        name: _Table(name, _describe(con, served.query(datetime.min, datetime.min)), None, served)
        for name, served in SERVED.items()
    }
    for name, summary in SUMMARIES.items():
        tables[name] = _Table(name, columns_of(con, summary, tables[TASK].columns), None, summary=summary)
    return tables


def _outdated(table: _Table, kept: PublishedTable, known: Manifest) -> Iterator[str]:
    """A query for the start of every partition that was written with other columns than the present ones."""
    for key, entry in kept.partitions.items():
        if known.schemas[entry.schema] != table.columns:
            span = partition_span(key)
            yield "SELECT NULL::TIMESTAMP" if span is None else f"SELECT TIMESTAMP '{span[0]}'"


def _by_day(
    con: duckdb.DuckDBPyConnection, partitions: Iterable[tuple[str, datetime]], compact: Iterable[tuple[str, datetime]]
) -> dict[date | None, list[tuple[str, str, datetime | None]]]:
    """Marks and wishes as (change id or '', table, bucket), grouped by UTC day; None holds unpartitioned tables."""
    rows: list[tuple[str, str, datetime | None]] = [("", name, bucket) for name, bucket in compact]
    rows += con.execute("SELECT change_id, table_name, bucket_from FROM meta.publish_pending").fetchall()
    rows += [("", name, bucket) for name, bucket in partitions]
    days: dict[date | None, list[tuple[str, str, datetime | None]]] = {}
    for row in rows:
        days.setdefault(row[2].date() if row[2] else None, []).append(row)
    return days


def _in_a_word(kind: str) -> str:
    """The type with the digits a machine word has, when it is a decimal of more."""
    found = _DECIMAL.fullmatch(kind)
    return f"DECIMAL({_WORD_DIGITS},{found[2]})" if found and int(found[1]) > _WORD_DIGITS else kind


def _describe(con: duckdb.DuckDBPyConnection, query: str) -> Columns:
    return tuple((row[0], row[1]) for row in con.execute(f"DESCRIBE {query}").fetchall())


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row else 0
