"""Opening the warehouse: one DuckDB file, one opener at a time, in turn, for a short time.

What belongs here: the lock around the file, connection settings, translation of opening errors.
What does not: tables (``schema``), published copies that need no lock (``publish``), compaction (``maintenance``).

DuckDB allows one writing process, and in it one configuration per file; a second opener fails at once. Everybody
therefore takes ``FairLock`` first, readers too, and keeps the file open for one step only; between steps of one run it
may stay open as long as nobody waits (``lingering``).
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import duckdb

from monitoring_pipelines import __version__
from monitoring_pipelines.clock import Clock, current_clock
from monitoring_pipelines.errors import ProductError, WarehouseBusy
from monitoring_pipelines.warehouse import lingering
from monitoring_pipelines.warehouse.lock import FairLock, Holder, LockTimeout
from monitoring_pipelines.warehouse.schema import WarehouseTooNew, ensure_schema, is_current, transaction

__all__ = [
    "DiskFull",
    "LockUse",
    "Warehouse",
    "WarehouseCorrupt",
    "WarehouseMissing",
    "WarehouseStats",
    "WarehouseTooNew",
    "share_out",
    "transaction",
]

log = logging.getLogger(__name__)

#: Every opener replays the log (28 ms a megabyte); merging it costs 0.1 s. From 4 MB on, which is every second tick of
#: a busy platform, the sum is smallest. A transaction that writes more merges when it commits.
CLOSE_LOG_LIMIT = 4_000_000
#: Who waits for the file need not wait for a merge too, unless the log is larger than this.
WANTED_LOG_LIMIT = 16_000_000
#: Each merge leaves small row groups behind. Joining them rewrites the last rows of every table (1.4 s with ten days), so
#: no tick does it but the hourly job, when an hour's have come together, seconds.
TIDY_EVERY_S = 3000.0
#: Where that job does not run, any writer does it: after a day of them looking for keys would cost ten times as much.
TIDY_AT_LATEST_S = 3 * 3600.0
COMMIT_LOG_LIMIT = "128MB"
#: Format of the file. With older ones a merge reads where every stored column lies: 0.2 s with ten days, three quarters of it.
STORAGE_FORMAT = "v1.5.0"
#: A use that touches fewer rows than this runs on one thread.
FEW_ROWS = 50_000
_NO_SPACE = re.compile(r"No space left|Disk quota exceeded|File too large|disk is full|EFBIG|ENOSPC", re.IGNORECASE)
_CONFLICT = re.compile(r"Could not set lock on file|Conflicting lock|being used by another process", re.IGNORECASE)
_FOREIGN_PID = re.compile(r"PID (\d+)")
#: Errors of DuckDB that say the file or its in-memory image cannot be trusted any more.
_BROKEN = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


class WarehouseMissing(ProductError):
    """There is no warehouse file yet."""

    code = "no_warehouse"


class WarehouseCorrupt(ProductError):
    """The file is no readable DuckDB database."""

    code = "warehouse_corrupt"


class DiskFull(ProductError):
    """No space left; what was stored before is intact."""

    code = "disk_full"


@dataclass(frozen=True)
class LockUse:
    """One hold of the lock; times in seconds. ``hold_s`` spans open to close, ``open_s`` and ``close_s`` are parts.

    A use that offers the file to others (``Warehouse.offer``) is a hold up to there and another one from there.
    """

    purpose: str
    mode: str
    wait_s: float
    hold_s: float
    open_s: float
    close_s: float


@dataclass
class WarehouseStats:
    """What the lock cost this process: the last uses, and totals."""

    uses: deque[LockUse] = field(default_factory=lambda: deque(maxlen=1000))
    count: int = 0
    wait_s: float = 0.0
    hold_s: float = 0.0
    longest_hold_s: float = 0.0
    #: Why the log could not be merged the last time, None when it could.
    checkpoint_error: str | None = None

    @property
    def last(self) -> LockUse | None:
        """The use that ended last."""
        return self.uses[-1] if self.uses else None

    def add(self, use: LockUse) -> None:
        """Count one finished use."""
        self.uses.append(use)
        self.count += 1
        self.wait_s += use.wait_s
        self.hold_s += use.hold_s
        self.longest_hold_s = max(self.longest_hold_s, use.hold_s)


class Warehouse:
    """The DuckDB file and its lock. Objects are cheap and may be shared by threads.

    Args:
        path: The database file; its directory is created by the first writer.
        lock_timeout_s: Longest wait for the lock, seconds.
        clock: Where ``meta.schema_version.applied_at`` comes from.
        memory_limit: DuckDB's limit, e.g. ``1000MB``; larger work spills to ``<path>.tmp``.
        threads: Worker threads of DuckDB; default: the machine's cores, at most 4.
        lingers: Leave the file open for the next use by this process while nobody waits for it. A reader then opens it
            as a writer would, so that one opening serves a whole run.
    """

    def __init__(
        self,
        path: str | Path,
        lock_timeout_s: float = 120.0,
        *,
        clock: Clock | None = None,
        memory_limit: str = "1000MB",
        threads: int | None = None,
        lingers: bool = False,
    ) -> None:
        self.path = Path(path).absolute()
        self.lock_timeout_s = lock_timeout_s
        self.clock = clock or current_clock()
        self.lingers = lingers
        self.stats = WarehouseStats()
        self.lock = FairLock(self.path.with_name(self.path.name + ".lock.d"))
        self._config: dict[str, Any] = {
            "memory_limit": memory_limit,
            "threads": 1,  # each use says how many it wants
            "temp_directory": str(self.path) + ".tmp",
            # Queries that need an order say so; without this, large inserts are buffered.
            "preserve_insertion_order": False,
            # Nothing is fetched from the network; what the product needs is built into DuckDB.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "storage_compatibility_version": STORAGE_FORMAT,
        }
        self.threads = threads or min(os.cpu_count() or 1, 4)
        self._mine = threading.local()
        self._kept: duckdb.DuckDBPyConnection | None = None
        self._turn = threading.Lock()

    @contextmanager
    def writer(
        self, purpose: str, timeout_s: float | None = None, *, small: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for writing while everybody else waits. Statements commit one by one; see ``transaction``.

        Args:
            purpose: A few words shown to those who wait.
            timeout_s: Longest wait in seconds, default ``lock_timeout_s``.
            small: Begin on one thread, because few rows are expected; see ``share_out``.

        Raises:
            WarehouseBusy: The lock did not become free in time; the message names its holder.
            WarehouseCorrupt: The file cannot be read.
            WarehouseTooNew: A newer version of the product wrote it.
            DiskFull: No space left; committed data is intact, the block's open transaction is undone.
        """
        with self._use(purpose, "write", timeout_s, lingers=self.lingers, small=small) as con:
            yield con

    @contextmanager
    def reader(
        self, purpose: str = "read", timeout_s: float | None = None, *, small: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file read-only, under the same lock; for short looks. Reports read the published copy instead.

        Raises:
            WarehouseMissing: Nothing was ever written.
            WarehouseBusy, WarehouseCorrupt, WarehouseTooNew: As for ``writer``.
        """
        if not self.path.exists():
            raise WarehouseMissing(f"there is no warehouse at {self.path}", "run the first extraction cycle")
        with self._use(purpose, "read", timeout_s, lingers=self.lingers, small=small) as con:
            yield con

    @contextmanager
    def kept_open(self, purpose: str, timeout_s: float | None = None) -> Iterator[None]:
        """Open the file once for everything this object does inside the block, in any thread, one after another.

        Opening and merging cost a first load a third of its time. Only for a warehouse nobody else waits for: others
        get it after the block. Transactions and what a crash leaves are the same as without.

        Raises:
            WarehouseBusy, WarehouseCorrupt, WarehouseTooNew, DiskFull: As for ``writer``.
        """
        with self._use(purpose, "write", timeout_s) as con:
            self._mine.purpose = self._mine.watch = None
            self._kept = con
            try:
                yield
            finally:
                with self._turn:
                    self._kept = None

    def end_run(self) -> None:
        """Nothing follows in this run: the file does not linger. A log that has grown is merged in a turn of its own.

        Raises:
            DiskFull: As for ``writer``.
        """
        if self._kept is not None:
            return
        if self.log_bytes() < CLOSE_LOG_LIMIT:
            lingering.let_go(self.path)
            return
        try:
            with self._use("merge the log", "write", None, merges=True):
                pass
        except WarehouseBusy as error:
            log.warning("the log waits for the next run to be merged: %s", error)

    def tidy(self) -> bool:
        """Join small row groups in a turn of its own, unless it was done lately or others wait too long; whether it was done.

        Raises:
            WarehouseCorrupt, WarehouseTooNew, DiskFull: As for ``writer``.
        """
        if self._untidy_s() < TIDY_EVERY_S:
            return False
        try:
            with self._use("join row groups", "write", None) as con:
                self.merge(con, tidy=True)
        except WarehouseBusy as error:
            log.warning("row groups wait for the next run to be joined: %s", error)
            return False
        return True

    def holder(self) -> Holder | None:
        """Who has the lock now, or None."""
        return self.lock.holder()

    @contextmanager
    def _use(
        self,
        purpose: str,
        mode: str,
        timeout_s: float | None,
        *,
        lingers: bool = False,
        merges: bool = False,
        small: bool = False,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        already = getattr(self._mine, "purpose", None)
        if already is not None:
            raise RuntimeError(f"{purpose}: this thread has the warehouse open already ({already})")
        patience_s = self.lock_timeout_s if timeout_s is None else timeout_s
        if self._kept is not None:
            with self._kept_turn(purpose, small) as con:
                yield con
            return
        with ExitStack() as stack:
            watch = self._mine.watch = _Watch(purpose, mode)
            base, wrote = self._hold(stack, purpose, mode, patience_s, watch)
            wrote = wrote or mode == "write"
            self._mine.purpose = purpose
            stays = False
            try:
                con = base.cursor()
                watch.opened = time.perf_counter()
                with _storage_errors(self.path), con:
                    self._settle(con, small)
                    yield con
                stays = lingers and not self.is_wanted()
            finally:
                watch.closing = time.perf_counter()
                if stays:
                    lingering.leave(self.path, self._left(base, stack.pop_all(), wrote))
                else:
                    self._close(base, wrote, merges=merges)
                self._mine.purpose = self._mine.watch = None
                self.stats.add(watch.use())

    def _hold(
        self, stack: ExitStack, purpose: str, mode: str, patience_s: float, watch: _Watch
    ) -> tuple[duckdb.DuckDBPyConnection, bool]:
        """The open file, whose lock ``stack`` releases, and whether it was written to."""
        if mode == "read" and not self.lingers:
            lingering.let_go(self.path)
        elif (left := lingering.take_over(self.path, self._config)) is not None:
            stack.push(left.lock.pop_all())
            return left.con, left.wrote
        watch.waited_s = self._take_lock(stack, purpose, patience_s)
        watch.began = time.perf_counter()
        return self._open("write" if self.lingers else mode, max(patience_s - watch.waited_s, 0.0)), False

    def is_wanted(self) -> bool:
        """Whether somebody waits for the file, which the caller holds."""
        return self.lock.queue_length() > 1

    def offer(self) -> bool:
        """Between two parts of a use: whether somebody waits for the file. Then the caller ends its use."""
        if self.is_wanted():
            return True
        watch: _Watch | None = getattr(self._mine, "watch", None)
        if watch is not None:
            self.stats.add(watch.use())
            watch.again()
        return False

    def _left(self, base: duckdb.DuckDBPyConnection, lock: ExitStack, wrote: bool) -> lingering.Left:
        return lingering.Left(
            base, self._config, lock, lambda: self._close(base, wrote), self.is_wanted,
            time.monotonic() + lingering.LINGER_S, os.getpid(), wrote,
        )  # fmt: skip

    @contextmanager
    def _kept_turn(self, purpose: str, small: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """This thread's turn on the connection of ``kept_open``."""
        with self._turn:
            if self._kept is None:
                raise RuntimeError(f"{purpose}: the warehouse was closed by the thread that kept it open")
            self._mine.purpose = purpose
            try:
                with _storage_errors(self.path):
                    self._settle(self._kept, small)
                    yield self._kept
            finally:
                self._mine.purpose = None

    def _take_lock(self, stack: ExitStack, purpose: str, patience_s: float) -> float:
        """Hold the lock until ``stack`` unwinds; the seconds waited."""
        try:
            return stack.enter_context(self.lock.held(purpose, patience_s))
        except LockTimeout as error:
            raise _busy(self.path, error.waited_s, str(error.holder) if error.holder else None) from error
        except OSError as error:
            raise ProductError(
                f"the lock of the warehouse cannot be taken: {error}", f"make {self.lock.directory} writable"
            ) from error

    def _open(self, mode: str, patience_s: float) -> duckdb.DuckDBPyConnection:
        """Open the file and make sure of its tables; the lock is held."""
        con = self._connect(mode == "read", patience_s)
        try:
            if mode == "write":
                ensure_schema(con, self.clock.now(), __version__)
                if _has_older_format(con):
                    con.close()
                    self._renew_format()
                    con = self._connect(False, patience_s)
            elif not is_current(con):
                con.close()
                con = self._connect(False, patience_s)
                ensure_schema(con, self.clock.now(), __version__)
                con.close()
                con = self._connect(True, patience_s)
        except BaseException:
            con.close()
            raise
        return con

    def _connect(self, read_only: bool, patience_s: float) -> duckdb.DuckDBPyConnection:
        """Open the file. A foreign program that has it open (a database shell, say) is waited for."""
        began = time.perf_counter()
        while True:
            try:
                with _storage_errors(self.path, opening=True):
                    con = duckdb.connect(str(self.path), read_only=read_only, config=self._config)
                break
            except _Conflict as error:
                waited = time.perf_counter() - began
                if waited >= patience_s:
                    raise _busy(self.path, waited, f"process {error.pid}, which opened the file itself") from error
                time.sleep(0.05)
        self._settle(con, small=True)
        if not read_only:
            con.execute("PRAGMA disable_checkpoint_on_shutdown")
            con.execute(f"SET wal_autocheckpoint = '{COMMIT_LOG_LIMIT}'")
            con.execute("SET max_vacuum_tasks = 0")  # see ``merge``
        return con

    def _renew_format(self) -> None:
        """Write the file's directory in ``STORAGE_FORMAT``, half a second for ten days; rows stay as they are."""
        place = str(self.path).replace("'", "''")
        try:
            with duckdb.connect(":memory:", config=self._config) as con:
                con.execute("SET max_vacuum_tasks = 0")
                con.execute(f"ATTACH '{place}' AS older (STORAGE_VERSION '{STORAGE_FORMAT}')")
                con.execute("CREATE OR REPLACE TABLE older.meta.tidying AS SELECT 1 AS a")
                con.execute("DROP TABLE older.meta.tidying")
                con.execute("CHECKPOINT older")
                con.execute("DETACH older")
        except duckdb.Error as error:
            # The file is as it was and serves as well; the next writer tries again.
            log.warning("the format of %s could not be renewed: %s", self.path, error)

    def _settle(self, con: duckdb.DuckDBPyConnection, small: bool) -> None:
        """Settings at the beginning of a use; an earlier one may have left others."""
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")  # it would draw over the output of commands
        # DuckDB 1.5.6 loses rows of `rowid … QUALIFY row_number() = 1` over a join with this rewrite.
        con.execute("SET disabled_optimizers = 'top_n_window_elimination'")
        _all_threads[con] = self.threads
        share_out(con, few=small)

    def _close(self, con: duckdb.DuckDBPyConnection, wrote: bool, *, merges: bool = False) -> None:
        """Close; a writer first merges a log that has grown, since every later opener would have to replay it."""
        try:
            patient = merges or not self.is_wanted()
            if wrote and self.log_bytes() >= (CLOSE_LOG_LIMIT if patient else WANTED_LOG_LIMIT):
                self.merge(con, tidy=self._untidy_s() >= TIDY_AT_LATEST_S)
                self.stats.checkpoint_error = None
        except duckdb.Error as error:
            # The block's work is committed and safe in the log; the next writer tries again.
            self.stats.checkpoint_error = str(error)
            log.warning("the log of %s could not be merged: %s", self.path, error)
        finally:
            con.close()

    def merge(self, con: duckdb.DuckDBPyConnection, *, tidy: bool) -> None:
        """Merge the log into the file; ``tidy`` also joins small row groups and gives the space of deleted rows back."""
        before = _threads(con)
        _use_threads(con, 1)  # a second thread saves no time here and burns a quarter more CPU
        con.execute(f"SET max_vacuum_tasks = {100 if tidy else 0}")
        if tidy:  # DuckDB does nothing at all while the log is empty
            con.execute("CREATE OR REPLACE TABLE meta.tidying AS SELECT 1 AS a")
            con.execute("DROP TABLE meta.tidying")
        con.execute("CHECKPOINT")
        if tidy:
            con.execute("SET max_vacuum_tasks = 0")
            self._tidied.touch()
        _use_threads(con, before)

    @property
    def _tidied(self) -> Path:
        """An empty file whose age says when row groups were last joined."""
        return self.path.with_name(self.path.name + ".tidied")

    def _untidy_s(self) -> float:
        """Seconds since row groups were joined; infinite when never."""
        try:
            return time.time() - self._tidied.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def log_bytes(self) -> int:
        """Size of the write-ahead log, bytes."""
        try:
            return Path(str(self.path) + ".wal").stat().st_size
        except FileNotFoundError:
            return 0


@dataclass
class _Watch:
    """Instants of one hold, from ``time.perf_counter``."""

    purpose: str
    mode: str
    waited_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    opened: float = 0.0
    closing: float = 0.0

    def use(self) -> LockUse:
        """The hold, which ends now."""
        ended = time.perf_counter()
        opened = self.opened or ended
        closing = self.closing or ended
        return LockUse(self.purpose, self.mode, self.waited_s, ended - self.began, opened - self.began, ended - closing)

    def again(self) -> None:
        """The next hold of the same use begins now."""
        self.began = self.opened = time.perf_counter()
        self.waited_s = 0.0


class _Conflict(Exception):
    """DuckDB found the file open elsewhere."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


def _has_older_format(con: duckdb.DuckDBPyConnection) -> bool:
    mine = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
    return any(_version_of(version) < _version_of(STORAGE_FORMAT) for (version,) in con.execute(mine).fetchall())


def _version_of(word: str) -> list[int]:
    """``v1.5.0+`` as numbers."""
    return [int(number) for number in re.findall(r"\d+", word)]


#: How many threads a connection may use.
_all_threads: WeakKeyDictionary[duckdb.DuckDBPyConnection, int] = WeakKeyDictionary()


def share_out(con: duckdb.DuckDBPyConnection, *, few: bool) -> None:
    """For the rest of this use: one thread for few rows, all of the warehouse's for more. With few there is nothing to
    share out: threads that wait for each other cost a quarter more CPU time and save no wall time.
    """
    _use_threads(con, 1 if few else _all_threads.get(con) or _threads(con))


def _use_threads(con: duckdb.DuckDBPyConnection, number: int) -> None:
    # With every change DuckDB gives all free memory back, and then asks for it anew.
    if _threads(con) != number:
        con.execute(f"SET threads = {number}")


def _threads(con: duckdb.DuckDBPyConnection) -> int:
    return int(con.execute("SELECT current_setting('threads')").fetchall()[0][0])


def is_no_space(error: BaseException) -> bool:
    """Whether an error of DuckDB or the operating system says that a volume, quota or file size limit is full."""
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _NO_SPACE.search(str(error)) is not None


@contextmanager
def _storage_errors(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Turn DuckDB's storage errors into errors an operator can act on; others pass unchanged."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if is_no_space(error):
            raise DiskFull(
                f"no space left for {path.name}",
                f"free space on the volume of {path.parent}; committed data is intact and work goes on by itself",
                cause=text,
            ) from error
        if opening and _CONFLICT.search(text):
            found = _FOREIGN_PID.search(text)
            raise _Conflict(found.group(1) if found else "unknown") from error
        if opening and re.search(r"version number \d+", text):
            raise WarehouseTooNew(
                f"{path} was written by another version of DuckDB", "use the version that wrote it", cause=text
            ) from error
        if opening or isinstance(error, _BROKEN):
            raise WarehouseCorrupt(
                f"{path} cannot be used as a warehouse",
                "restore it from a copy, or move it and its .wal away: the next cycles load it again from the sources",
                cause=text,
            ) from error
        raise


def _busy(path: Path, waited_s: float, holder: str | None) -> WarehouseBusy:
    return WarehouseBusy(
        f"the warehouse {path} is in use by {holder or 'another process'}; waited {waited_s:.1f} s",
        "wait for it to finish; a process that died does not block",
    )
