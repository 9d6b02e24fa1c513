"""Connecting to a source: one read-only snapshot, in UTC, with a time limit on every statement (E-301, E-601).

What belongs here: drivers, session settings of the three dialects, translated errors. What does not: what is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from monitoring_pipelines.config.secrets import mask
from monitoring_pipelines.errors import ConfigError, SourceUnavailable
from monitoring_pipelines.source.bulk import BATCH_ROWS, QueryTooSlow
from monitoring_pipelines.source.digest import register_sqlite

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings

Dialect = Literal["mysql", "mariadb", "sqlite"]
#: The server ended a statement at its limit: MySQL 3024, MariaDB 1969, "interrupted" 1317.
_TOO_SLOW = (3024, 1969, 1317)
#: Nobody answered at all: no socket, no server, no such host.
_NOBODY = (2002, 2003, 2005)
#: How long a silent connection is kept beyond the statement limit, seconds.
_READ_GRACE_S = 30


@dataclass
class SourceConnection:
    """An open snapshot of a source. Not for use by several threads.

    Attributes:
        dialect: ``mysql``, ``mariadb`` or ``sqlite``.
        server_version: What the server says of itself.
        raw: The driver's connection.
    """

    dialect: Dialect
    server_version: str
    raw: Any

    def query(self, sql: str, args: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small result.

        Args:
            sql: One statement. Without ``args`` a percent sign is itself; with them it is the driver's placeholder.
            args: Values, bound by the driver.

        Raises:
            SourceUnavailable: The statement failed or the connection is gone; ``QueryTooSlow`` at the time limit.
        """
        with _translated(), _cursor(self.raw) as cursor:
            cursor.execute(sql, args) if args else cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def stream(self, sql: str, batch_rows: int = BATCH_ROWS) -> Iterator[Sequence[Sequence[Any]]]:
        """Rows of ``sql`` in batches of at most ``batch_rows``; the result is not held in memory.

        Raises:
            SourceUnavailable: As ``query``; also in the middle of the rows.
        """
        with _translated(), _cursor(self.raw, stream=self.dialect != "sqlite") as cursor:
            cursor.execute(sql)
            while rows := cursor.fetchmany(batch_rows):
                yield rows


@contextmanager
def connect(dsn: str, settings: Settings, *, snapshot: bool = True) -> Iterator[SourceConnection]:
    """Open ``dsn`` read-only; closed at the end of the block.

    Args:
        dsn: ``mysql://``, ``mariadb://`` or ``sqlite:///absolute/path``; never shown unmasked.
        settings: ``extract`` gives connect timeout and statement limit.
        snapshot: Read everything as of one instant (E-601); False for look-ups that want the newest state.

    Raises:
        SourceUnavailable: No server, refused login, lost connection.
        ConfigError: A DSN of another kind.
    """
    scheme = dsn.partition("://")[0]
    if scheme == "sqlite":
        raw: Any = _open_sqlite(dsn)
        connection = SourceConnection("sqlite", sqlite3.sqlite_version, raw)
    elif scheme in ("mysql", "mariadb"):
        with _translated():
            raw = _open_mysql(dsn, settings.extract.connect_timeout_s, settings.extract.query_timeout_s)
        connection = SourceConnection("mysql", "", raw)
    else:
        raise ConfigError(
            None, None, "read_dsn", f"cannot read from {scheme}://", "use mysql://, mariadb:// or sqlite:///"
        )
    try:
        with _translated():
            _prepare(connection, settings.extract.query_timeout_s, snapshot)
        yield connection
    finally:
        if connection.dialect == "sqlite" or raw.open:
            raw.close()


def _open_mysql(dsn: str, connect_timeout_s: float, query_timeout_s: float) -> Any:
    """SQLAlchemy reads the DSN (TLS options included) and hands over PyMySQL's connection."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = "mysql+pymysql://" + dsn.partition("://")[2]
    engine = create_engine(url, poolclass=NullPool)
    arguments, keywords = engine.dialect.create_connect_args(engine.url)
    keywords.update(
        charset="utf8mb4", connect_timeout=max(1, round(connect_timeout_s)), autocommit=True,
        read_timeout=max(1, round(query_timeout_s)) + _READ_GRACE_S,
    )  # fmt: skip
    return engine.dialect.connect(*arguments, **keywords)


def _open_sqlite(dsn: str) -> sqlite3.Connection:
    path = Path(dsn.partition(":///")[2])
    path = path if path.is_absolute() else Path("/") / path
    if not path.is_file():
        raise SourceUnavailable(f"there is no file {path.name}", hint="check the path in the DSN")
    raw = sqlite3.connect(
        f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30, check_same_thread=False
    )
    register_sqlite(raw)
    return raw


def _prepare(connection: SourceConnection, limit_s: float, snapshot: bool) -> None:
    if connection.dialect == "sqlite":
        connection.raw.execute("begin")
        if snapshot:
            # A deferred transaction gets its snapshot with the first read.
            connection.raw.execute("select count(*) from sqlite_master").fetchone()
        return
    version = str(connection.query("select version()")[0][0])
    connection.server_version = version
    connection.dialect = "mariadb" if "mariadb" in version.lower() else "mysql"
    statements = [
        "set session time_zone = '+00:00'",
        "set session sql_mode = ''",
        "set session transaction isolation level repeatable read",
        "set session transaction read only",
        f"set session max_statement_time = {limit_s:f}" if connection.dialect == "mariadb"
        else f"set session max_execution_time = {int(limit_s * 1000)}",
    ]  # fmt: skip
    if snapshot:
        statements.append("start transaction with consistent snapshot, read only")
    with _cursor(connection.raw) as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def _cursor(raw: Any, *, stream: bool = False) -> Iterator[Any]:
    if stream:
        from pymysql.cursors import SSCursor

        cursor = raw.cursor(SSCursor)
    else:
        cursor = raw.cursor()
    try:
        yield cursor
    finally:
        if not stream or raw.open:
            cursor.close()
        elif cursor._result is not None:
            # The connection was lost among the rows; the driver would still try to read the rest of them.
            cursor._result.unbuffered_active = False


@contextmanager
def _translated() -> Iterator[None]:
    """Driver errors as errors of the product; the DSN never appears."""
    import pymysql

    try:
        yield
    except pymysql.MySQLError as error:
        number = error.args[0] if error.args else None
        text = mask(str(error.args[1] if len(error.args) > 1 else error))
        if number in _TOO_SLOW:
            raise QueryTooSlow("the source ended a statement at its time limit", cause=f"{number}: {text}") from None
        if number in _NOBODY:
            raise SourceUnavailable(f"the source cannot be reached: {number}: {text}") from None
        raise SourceUnavailable(f"the source answered with an error: {number}: {text}") from None
    except sqlite3.Error as error:
        raise SourceUnavailable(f"the source answered with an error: {error}") from None
    except OSError as error:
        raise SourceUnavailable(f"the connection to the source was lost: {error}") from None


def clock_offset(connection: SourceConnection, clock: Clock) -> float | None:
    """Seconds by which the server's clock is ahead of the product's, measured between two looks at the latter (C-512).

    None for a source without a clock of its own.
    """
    if connection.dialect == "sqlite":
        return None
    before = clock.now()
    server = connection.query("select cast(utc_timestamp(6) as char)")[0][0]
    return (datetime.fromisoformat(str(server)) - (before + (clock.now() - before) / 2)).total_seconds()
