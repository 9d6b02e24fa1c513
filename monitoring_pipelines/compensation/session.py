"""The one connection that may write to a user's database, and what can go wrong on it (R-403, R-405, R-802).

What belongs here: opening with the repair account, transactions, the advisory lock, driver errors as five kinds.
What does not: which statements are sent (``apply``, ``rollback``, ``journal``).

All values come back as text, exactly as the server writes them: that is what images and hashes are made of (R-102).
"""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import RepairLocked, RepairRefused
from monitoring_pipelines.config.secrets import mask
from monitoring_pipelines.errors import ProductError, SourceUnavailable

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

#: MySQL error numbers by what they mean for a task.
_DUPLICATE = {1062, 1586}
_RETRY = {1205, 1213, 3572}
_LOST = {0, 1053, 1927, 2003, 2006, 2013, 2014, 2055, 4031}
_DENIED = {1044, 1142, 1143, 1227, 1370}
_READ_ONLY = {1290, 1792, 1836}
_REFERENCED = {1451, 1217}
#: Seconds an answer may take beyond the lock wait.
_READ_GRACE_S = 30
#: Not understood: what servers and proxies answer that take one statement at a time.
_SYNTAX = 1064
#: One statement and its values; None = it has no placeholders and a percent sign is itself.
Statement = tuple[str, Sequence[Any] | None]


class StatementFailed(ProductError):
    """The server refused a statement; the transaction is to be rolled back. ``number`` is the server's error number."""

    code = "db_error"

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        #: Statements of ``Session.several`` that were executed before this one, and their rows.
        self.answers: list[list[tuple[Any, ...]]] = []


class DuplicateKey(StatementFailed):
    """A unique key of the table is taken."""


class TryAgain(StatementFailed):
    """Deadlock or lock wait timeout: the same task may succeed now."""


class AccessDenied(StatementFailed):
    """The account lacks a right."""


class Referenced(StatementFailed):
    """A foreign key keeps the row."""


class ConnectionLost(StatementFailed):
    """The connection is gone; what happened to an open COMMIT is not known."""


class Session(ABC):
    """A connection with explicit transactions. ``%s`` is the placeholder in every dialect."""

    dialect: str
    #: Appended to reads that must hold the row until the end of the transaction.
    for_update = ""
    for_share = ""

    @abstractmethod
    def query(self, sql: str, args: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a statement. With ``args``, ``%s`` are placeholders and ``%%`` is a percent sign."""

    @abstractmethod
    def execute(self, sql: str, args: Sequence[Any] | None = None) -> int:
        """Run a statement; the number of rows it touched."""

    def several(self, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        """Rows of statements that are sent together, in order; none after the first that fails is executed.

        Raises:
            StatementFailed: With the rows of the statements before it as ``answers``.
        """
        answers: list[list[tuple[Any, ...]]] = []
        try:
            for sql, args in statements:
                answers.append(self.query(sql, args))
        except StatementFailed as error:
            error.answers = answers
            raise
        return answers

    @property
    @abstractmethod
    def begin_statement(self) -> str:
        """What starts a transaction."""

    @property
    @abstractmethod
    def insert_id_sql(self) -> str:
        """The auto-increment value of the last insert, as an expression."""

    def begin(self) -> None:
        """Start a transaction."""
        self.execute(self.begin_statement)

    def commit(self) -> None:
        """Commit; ConnectionLost means that the outcome is unknown."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the open transaction; a lost connection has undone it already."""
        try:
            self.execute("ROLLBACK")
        except ConnectionLost:
            return

    @abstractmethod
    def refuse_read_only(self) -> None:
        """RepairRefused when the server takes no writes."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; locks are released by the server."""


class MysqlSession(Session):
    """MySQL or MariaDB through PyMySQL."""

    for_update = " FOR UPDATE"
    for_share = " LOCK IN SHARE MODE"
    begin_statement = "START TRANSACTION"
    insert_id_sql = "LAST_INSERT_ID()"
    #: Whether statements travel together: every trip to the server is time during which a task's row is locked.
    together = True

    def __init__(self, dsn: str, settings: Settings, *, read_only: bool = False) -> None:
        self._lock_wait_s = settings.repair.lock_wait_s
        self._cursor: Any = None
        self._raw = self._open(dsn, settings)
        self.dialect = "mysql"
        self._prepare(read_only)

    def _open(self, dsn: str, settings: Settings) -> Any:
        import pymysql
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        engine = create_engine("mysql+pymysql://" + dsn.partition("://")[2], poolclass=NullPool)
        arguments, keywords = engine.dialect.create_connect_args(engine.url)
        # Only encoders: without decoders every value arrives as the text the server sent.
        encoders = {kind: f for kind, f in pymysql.converters.conversions.items() if not isinstance(kind, int)}
        keywords.update(
            charset="utf8mb4", autocommit=True, conv=encoders, connect_timeout=max(1, round(
                settings.extract.connect_timeout_s)), read_timeout=round(self._lock_wait_s) + _READ_GRACE_S,
            client_flag=keywords.get("client_flag", 0) | pymysql.constants.CLIENT.MULTI_STATEMENTS,
        )  # fmt: skip
        try:
            return engine.dialect.connect(*arguments, **keywords)
        except pymysql.MySQLError as error:
            raise SourceUnavailable(
                f"the repair account cannot connect: {mask(str(error.args[-1]))}", "run `mp repair doctor`"
            ) from None

    def _prepare(self, read_only: bool) -> None:
        version, log_bin, binlog_format = self.query("SELECT version(), @@global.log_bin, @@global.binlog_format")[0]
        self.dialect = "mariadb" if "mariadb" in version.lower() else "mysql"
        # READ COMMITTED: reading a task's outputs must not lock gaps or rows of other tasks. A statement-based binary
        # log does not allow it.
        statement_based = log_bin == "1" and binlog_format == "STATEMENT"
        level = "REPEATABLE READ" if statement_based else "READ COMMITTED"
        settings: list[Statement] = [
            ("SET SESSION time_zone = '+00:00'", None),
            ("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'", None),
            (f"SET SESSION TRANSACTION ISOLATION LEVEL {level}", None),
            (f"SET SESSION innodb_lock_wait_timeout = {max(1, round(self._lock_wait_s))}", None),
        ]
        if read_only:
            settings.append(("SET SESSION TRANSACTION READ ONLY", None))
        try:
            self.several(settings)
        except StatementFailed as error:
            if error.number != _SYNTAX:
                raise
            self.together = False  # something between us and the server takes one statement at a time
            self.several(settings)

    def query(self, sql: str, args: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """See ``Session``."""
        self.execute(sql, args)
        return list(self._cursor.fetchall())

    def execute(self, sql: str, args: Sequence[Any] | None = None) -> int:
        """See ``Session``."""
        import pymysql

        try:
            if self._cursor is None:
                self._cursor = self._raw.cursor()
            return int(self._cursor.execute(sql, args))
        except pymysql.MySQLError as error:
            raise _mysql_error(error) from error
        except OSError as error:
            raise ConnectionLost(f"the connection was lost: {error}") from error

    def several(self, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        """See ``Session``: one packet there, one answer per statement back."""
        if not self.together or not statements:
            return super().several(statements)
        import pymysql

        answers: list[list[tuple[Any, ...]]] = []
        try:
            if self._cursor is None:
                self._cursor = self._raw.cursor()
            self._cursor.execute("; ".join(
                sql if args is None else self._cursor.mogrify(sql, args) for sql, args in statements
            ))  # fmt: skip
            answers.append(list(self._cursor.fetchall()))
            while self._cursor.nextset():
                answers.append(list(self._cursor.fetchall()))
        except pymysql.MySQLError as error:
            failed = _mysql_error(error)
            failed.answers = answers
            raise failed from error
        except OSError as error:
            raise ConnectionLost(f"the connection was lost: {error}") from error
        return answers

    def refuse_read_only(self) -> None:
        """See ``Session``."""
        value = str(self.query("SELECT @@global.read_only")[0][0])
        if value not in ("0", "OFF"):
            raise RepairRefused(
                "read_only_target", "the repair account points at a server that is read-only, perhaps a replica",
                "repair_dsn must name the primary",
            )  # fmt: skip

    def close(self) -> None:
        """See ``Session``."""
        if self._raw.open:
            self._raw.close()


class SqliteSession(Session):
    """An SQLite file, as the demo's sources are: one writer at a time, which is lock and row lock in one."""

    dialect = "sqlite"
    insert_id_sql = "last_insert_rowid()"

    def __init__(self, dsn: str, settings: Settings, *, read_only: bool = False) -> None:
        from monitoring_pipelines.source.digest import register_sqlite

        path = Path("/" + dsn.partition(":///")[2].lstrip("/"))
        if not path.is_file():
            raise SourceUnavailable(f"there is no file {path.name}", "check the repair DSN")
        mode = "ro" if read_only else "rw"
        self._raw = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=settings.repair.lock_wait_s
        )
        register_sqlite(self._raw)
        self._raw.execute("PRAGMA foreign_keys = ON")
        self._read_only = read_only
        self._last: sqlite3.Cursor | None = None

    def query(self, sql: str, args: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """See ``Session``."""
        self.execute(sql, args)
        assert self._last is not None
        return self._last.fetchall()

    def execute(self, sql: str, args: Sequence[Any] | None = None) -> int:
        """See ``Session``."""
        try:
            if args is None:
                self._last = self._raw.execute(sql)
            else:
                self._last = self._raw.execute(sql.replace("%s", "?").replace("%%", "%"), args)
        except sqlite3.IntegrityError as error:
            kind = Referenced if "FOREIGN KEY" in str(error) else DuplicateKey
            raise (kind if "UNIQUE" in str(error) or kind is Referenced else StatementFailed)(str(error)) from error
        except sqlite3.OperationalError as error:
            raise (TryAgain if "locked" in str(error) else StatementFailed)(str(error)) from error
        return self._last.rowcount

    @property
    def begin_statement(self) -> str:
        """See ``Session``."""
        return "BEGIN" if self._read_only else "BEGIN IMMEDIATE"

    def rollback(self) -> None:
        """See ``Session``; where BEGIN failed there is nothing to undo, and the file would call that an error."""
        if self._raw.in_transaction:
            super().rollback()

    def refuse_read_only(self) -> None:
        """A file has no such mode: one that cannot be written says so when the transaction begins."""

    def close(self) -> None:
        """See ``Session``."""
        self._raw.close()


def open_session(dsn: str, settings: Settings, *, read_only: bool = False) -> Session:
    """Open the repair account; only apply, resume and rollback do (R-802), and verify with the reading account.

    Raises:
        SourceUnavailable: It cannot be reached.
    """
    kind = SqliteSession if dsn.startswith("sqlite:") else MysqlSession
    return kind(dsn, settings, read_only=read_only)


def lock_name(source_id: str) -> str:
    """Name of the advisory lock, at most 64 characters (R-403)."""
    name = f"mp_repair:{source_id}"
    return name if len(name) <= 64 else "mp_repair:" + hashlib.sha256(source_id.encode()).hexdigest()[:40]


@contextmanager
def source_lock(session: Session, settings: Settings, source_id: str, wait_s: int = 0) -> Iterator[None]:
    """Hold the source's repair lock; RepairLocked when another run has it (R-403).

    On MySQL it is an advisory lock of the connection and ends with it. An SQLite file has no such thing: a lock file
    beside the warehouse serves, because such a file is only used on one machine.
    """
    with ExitStack() as stack:
        if session.dialect == "sqlite":
            from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout

            lock = FairLock(settings.data_path / f"repair-{source_id}.lock.d")
            try:
                stack.enter_context(lock.held("repair", wait_s))
            except LockTimeout as error:
                raise _locked(source_id) from error
        else:
            take_lock(session, source_id, wait_s)
        yield


def take_lock(session: Session, source_id: str, wait_s: int = 0) -> None:
    """``GET_LOCK`` on this connection, again after a reconnect; RepairLocked when another one has it."""
    if session.dialect == "sqlite":
        return
    if str(session.query("SELECT GET_LOCK(%s, %s)", [lock_name(source_id), wait_s])[0][0]) != "1":
        raise _locked(source_id)


def _locked(source_id: str) -> RepairLocked:
    return RepairLocked(
        f"another repair run works on {source_id}", "wait until it ends; `mp repair list` shows runs", cause="R-403"
    )


def _mysql_error(error: Exception) -> StatementFailed:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = f"{number}: {mask(str(error.args[-1] if error.args else error))}"
    for numbers, kind in (
        (_DUPLICATE, DuplicateKey), (_RETRY, TryAgain), (_LOST, ConnectionLost), (_DENIED, AccessDenied),
        (_REFERENCED, Referenced),
    ):  # fmt: skip
        if number in numbers:
            return kind(text, number)
    if type(error).__name__ == "InterfaceError":
        return ConnectionLost(text, number)
    return StatementFailed(text, number)


def says_read_only(error: StatementFailed) -> bool:
    """Whether the server became read-only under us (fail-over)."""
    return error.number in _READ_ONLY
