"""Putting simulated rows into a real database: embedded SQLite, MySQL or MariaDB.

What belongs here: creating the tables and writing inserts and updates quickly. What does not: which rows (the
simulations), reading them back (the product does).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from monitoring_pipelines.demo.eventloop import Changes, Row
from monitoring_pipelines.demo.platform_model import ZERO_DATE
from monitoring_pipelines.demo.tables import Table
from monitoring_pipelines.errors import SourceUnavailable, UsageError

_INSERT_ROWS = 2_000


class Writer(Protocol):
    """Destination of one simulated platform."""

    def create(self) -> None:
        """Create the tables anew; existing ones of the same names are dropped."""

    def apply(self, changes: Changes) -> None:
        """Write one step in one transaction."""

    def finish_bulk(self) -> None:
        """Called once after the bulk load (indexes, statistics)."""

    def close(self) -> None:
        """Release the connection."""


def _without_zero_dates(rows: list[Row]) -> list[Row]:
    """SQLite has no zero date; such a value is simply missing there."""
    return [tuple(None if v == ZERO_DATE else v for v in row) if ZERO_DATE in row else row for row in rows]


class SqliteWriter:
    """Tables in one SQLite file, in WAL mode so that a reader is never blocked."""

    def __init__(self, path: Path, tables: tuple[Table, ...], *, again: bool = False) -> None:
        self._insert = "INSERT OR REPLACE" if again else "INSERT"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tables = {table.name: table for table in tables}
        self._con = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self._con.execute("PRAGMA journal_mode = WAL")
        # A demo may lose its last rows on a power cut; it may not be slow.
        self._con.execute("PRAGMA synchronous = OFF")

    def create(self) -> None:
        """See ``Writer``."""
        for table in self._tables.values():
            self._con.execute(f'DROP TABLE IF EXISTS "{table.name}"')
            self._con.execute(table.create_sqlite())

    def apply(self, changes: Changes) -> None:
        """See ``Writer``."""
        with self._transaction() as con:
            for name, rows in changes.inserts.items():
                columns = self._tables[name].column_names
                listed = ", ".join(f'"{c}"' for c in columns)
                marks = ", ".join("?" * len(columns))
                con.executemany(f'{self._insert} INTO "{name}" ({listed}) VALUES ({marks})', _without_zero_dates(rows))
            for name, rows in changes.updates.items():
                key, *others = self._tables[name].column_names
                assignments = ", ".join(f'"{c}" = ?' for c in others)
                con.executemany(
                    f'UPDATE "{name}" SET {assignments} WHERE "{key}" = ?',
                    [(*row[1:], row[0]) for row in _without_zero_dates(rows)],
                )

    def finish_bulk(self) -> None:
        """See ``Writer``."""
        with self._transaction() as con:
            for table in self._tables.values():
                for statement in table.sqlite_indexes():
                    con.execute(statement)
        self._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._con.execute("ANALYZE")

    def close(self) -> None:
        """See ``Writer``."""
        self._con.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._con.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise SourceUnavailable(f"the demo database is busy: {error}") from error
        try:
            yield self._con
        except BaseException:
            self._con.execute("ROLLBACK")
            raise
        self._con.execute("COMMIT")


class MysqlWriter:
    """Tables in one schema of a MySQL or MariaDB server, written through multi-row inserts."""

    def __init__(self, dsn: str, database: str, tables: tuple[Table, ...]) -> None:
        self._tables = {table.name: table for table in tables}
        self.database = database
        self._options = parse_dsn(dsn)
        self._con: Any = None
        self._connect()

    def _connect(self, database: str | None = None) -> Any:
        import pymysql

        options = self._options
        try:
            self._con = pymysql.connect(
                host=options["host"], port=options["port"], user=options["user"], password=options["password"],
                unix_socket=options["socket"], database=database, charset="utf8mb4", connect_timeout=10,
                local_infile=True,
            )  # fmt: skip
            with self._con.cursor() as cursor:
                # Zero dates are part of the demonstration; strict mode would refuse them.
                cursor.execute("SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'")
        except pymysql.err.OperationalError as error:
            self._con = None
            raise SourceUnavailable(
                f"cannot reach the demo database at {options['host']}:{options['port']}: {error.args[-1]}",
                hint="check that the server runs and that the address, user and password of the DSN are right",
            ) from error
        return self._con

    def create(self) -> None:
        """See ``Writer``. Creates the schema when the account may."""
        import pymysql

        with self._con.cursor() as cursor:
            try:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{self.database}` DEFAULT CHARACTER SET utf8mb4")
            except pymysql.err.OperationalError as error:
                raise UsageError(
                    f"the account may not create or use the schema {self.database}: {error.args[-1]}",
                    hint=f"GRANT ALL ON `{self.database}`.* to the account",
                ) from error
            self._con.select_db(self.database)
            for table in self._tables.values():
                cursor.execute(f"DROP TABLE IF EXISTS `{table.name}`")
                cursor.execute(table.create_mysql())

    def apply(self, changes: Changes) -> None:
        """See ``Writer``. After a lost connection the next call connects again."""
        import pymysql

        con = self._con or self._connect(self.database)
        try:
            with con.cursor() as cursor:
                self._insert(cursor, changes)
                self._update(cursor, changes)
            con.commit()
        except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
            self.close()
            raise SourceUnavailable(f"the demo database {self.database} took no rows: {error.args[-1]}") from error

    def _insert(self, cursor: Any, changes: Changes) -> None:
        for name, rows in changes.inserts.items():
            columns = self._tables[name].column_names
            listed = ", ".join(f"`{c}`" for c in columns)
            statement = f"INSERT INTO `{name}` ({listed}) VALUES ({', '.join(['%s'] * len(columns))})"
            for start in range(0, len(rows), _INSERT_ROWS):
                cursor.executemany(statement, rows[start : start + _INSERT_ROWS])

    def _update(self, cursor: Any, changes: Changes) -> None:
        for name, rows in changes.updates.items():
            key, *others = self._tables[name].column_names
            assignments = ", ".join(f"`{c}` = %s" for c in others)
            for row in rows:
                cursor.execute(f"UPDATE `{name}` SET {assignments} WHERE `{key}` = %s", (*row[1:], row[0]))

    def finish_bulk(self) -> None:
        """See ``Writer``."""
        with self._con.cursor() as cursor:
            for table in self._tables.values():
                cursor.execute(f"ANALYZE TABLE `{table.name}`")

    def close(self) -> None:
        """See ``Writer``."""
        import pymysql

        if self._con is not None:
            with contextlib.suppress(pymysql.err.Error):
                self._con.close()
            self._con = None


def parse_dsn(dsn: str) -> dict[str, Any]:
    """Parts of a ``mysql://`` or ``mariadb://`` DSN; UsageError for anything else. The password is never repeated."""
    parts = urlsplit(dsn)
    if parts.scheme.split("+")[0] not in ("mysql", "mariadb") or not parts.hostname:
        raise UsageError(
            "the DSN of the demo database is not of the form mysql://user:password@host:port/schema",
            hint="mariadb:// works as well",
        )
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.lstrip("/")),
        "socket": query.get("unix_socket"),
    }
