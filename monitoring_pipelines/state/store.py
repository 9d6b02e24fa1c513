"""The engine of the state store: connecting, migrating, transactions.

What belongs here: opening the database on any of its three dialects and keeping its schema current. What does not:
statements about a subject (its repository).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

#: Longest wait for another writer of the SQLite file, milliseconds.
BUSY_TIMEOUT_MS = 15_000


class StateUnavailable(ProductError):
    """The state store cannot be opened, or is of a newer version."""

    exit_code = 1
    code = "state_unavailable"


class StateStore:
    """The state store. Cheap to create: nothing is opened before the first use. May be shared by threads.

    Args:
        url: SQLAlchemy URL: ``sqlite:///file``, ``mysql+pymysql://…`` or ``postgresql+psycopg://…``.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._watching: tuple[int, sqlite3.Connection] | None = None

    @classmethod
    def of(cls, settings: Settings) -> StateStore:
        """The store of a configuration: ``state.url_env`` or ``state.url_file``, else a file beside the warehouse."""
        return cls(settings.state_url())

    @property
    def dialect(self) -> str:
        """``sqlite``, ``mysql`` (MariaDB too) or ``postgresql``."""
        return self.url.get_backend_name()

    def engine(self) -> Engine:
        """The engine; on first use the database is created or brought up to date.

        Raises:
            StateUnavailable: It cannot be reached, or a newer version of the product wrote it.
        """
        with self._opening:
            if self._engine is None:
                engine: Engine | None = None
                try:
                    engine = _engine(self.url)
                    _migrate(engine)
                except (SQLAlchemyError, OSError, ImportError) as error:
                    if engine is not None:
                        engine.dispose()
                    raise _unavailable(self.url, error) from error
                self._engine = engine
            return self._engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, undone by an exception.

        On SQLite it takes the write lock at its first statement, so that what it reads cannot change before it writes.
        """
        with self._said(), self.engine().begin() as con:
            yield con

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; nothing it does is kept."""
        with self._said(), self.engine().connect() as con:
            if self.dialect == "sqlite":
                con = con.execution_options(mp_read_only=True)
            yield con
            con.rollback()

    def stamp(self) -> tuple[int, int] | None:
        """What tells one state of the store from another; None where that cannot be told without reading it.

        Take it before reading: what was read is then at least as new. SQLite counts commits of all other connections.
        """
        if self.dialect != "sqlite" or not self.url.database or self.url.database == ":memory:":
            return None
        self.engine()
        with self._opening:
            try:
                file = Path(self.url.database).stat().st_ino
                if self._watching is not None and self._watching[0] != file:
                    self._forget()
                if self._watching is None:
                    timeout = BUSY_TIMEOUT_MS / 1000
                    con = sqlite3.connect(self.url.database, timeout, isolation_level=None, check_same_thread=False)
                    self._watching = file, con
                return file, self._watching[1].execute("PRAGMA data_version").fetchone()[0]
            except (OSError, sqlite3.Error):
                self._forget()
                return None

    def _forget(self) -> None:
        if self._watching is not None:
            self._watching[1].close()
            self._watching = None

    @contextmanager
    def _said(self) -> Iterator[None]:
        """A store that is gone is said as such; what a statement did wrong is not."""
        try:
            yield
        except DBAPIError as error:
            if _is_gone(error):
                raise _unavailable(self.url, error) from error
            raise

    def dispose(self) -> None:
        """Close all connections."""
        with self._opening:
            self._forget()
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


def upsert(
    con: Connection, table: Table, rows: Sequence[Mapping[str, Any]], update: Sequence[str] | None = None
) -> None:
    """Insert rows, or update those whose primary key exists.

    Args:
        con: A connection inside a transaction.
        table: A table of ``state.tables``.
        rows: Values by column name; all rows with the same columns.
        update: Columns to update on conflict; default: all given ones outside the key.
    """
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    names = list(update) if update is not None else [name for name in rows[0] if name not in keys]
    values = [dict(row) for row in rows]
    if con.dialect.name in ("mysql", "mariadb"):
        from sqlalchemy.dialects.mysql import insert as mysql_insert

        my = mysql_insert(table)
        con.execute(my.on_duplicate_key_update({n: my.inserted[n] for n in names or keys}), values)
        return
    if con.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        pg = postgresql_insert(table)
        if names:
            con.execute(pg.on_conflict_do_update(index_elements=keys, set_={n: pg.excluded[n] for n in names}), values)
        else:
            con.execute(pg.on_conflict_do_nothing(index_elements=keys), values)
        return
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    lite = sqlite_insert(table)
    if names:
        con.execute(lite.on_conflict_do_update(index_elements=keys, set_={n: lite.excluded[n] for n in names}), values)
    else:
        con.execute(lite.on_conflict_do_nothing(index_elements=keys), values)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_recycle=600, isolation_level="READ COMMITTED")
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, see below; the driver would begin too late
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")  # an alert that was acknowledged must survive a power cut
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("mp_read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(cursor: Any) -> None:
    """Switch the file to a write-ahead log, which stays so; SQLite does not wait by itself when two do so at once."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; several processes may do so at once."""
    from monitoring_pipelines.state.migrate import upgrade

    upgrade(engine)


#: What SQLite says of a file that cannot be used any more.
_BROKEN_FILE = ("SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOTADB", "SQLITE_READONLY")


def _is_gone(error: DBAPIError) -> bool:
    """Whether the server or file failed: a lost connection, one that cannot be made, a broken file."""
    is_refused = error.statement is None and isinstance(error, OperationalError | InterfaceError)
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    return error.connection_invalidated or is_refused or name.startswith(_BROKEN_FILE)


def _unavailable(url: URL, error: BaseException) -> StateUnavailable:
    if isinstance(error, ImportError):
        return StateUnavailable(
            f"the state store {url.render_as_string(hide_password=True)} needs a driver that is not installed",
            "install the product with its extra `postgres`, and name the driver: postgresql+psycopg://, mysql+pymysql://",
            cause=str(error),
        )
    return StateUnavailable(
        f"the state store {url.render_as_string(hide_password=True)} cannot be used",
        "check state.url_env or state.url_file, the server, and the rights of its account",
        cause=str(getattr(error, "orig", None) or error),
    )
