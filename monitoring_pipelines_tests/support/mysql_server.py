"""A MariaDB server for tests, or with ``MP_TEST_MYSQLD=/path/to/mysqld`` one of MySQL, and databases on it.

What belongs here: starting and stopping a real server, making and dropping test databases.
What does not: tables of a platform or assertions (the tests' own), anything a product module needs.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pymysql

START_LIMIT_S = 60
_SERVER_NAMES = ("mariadbd", "mysqld")
_INSTALL_NAMES = ("mariadb-install-db", "mysql_install_db")
#: The program of a MySQL server to test with instead.
_MYSQLD = "MP_TEST_MYSQLD"
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")


class ServerMissing(RuntimeError):
    """No server binary on this machine."""


def find_binary(names: Sequence[str]) -> str:
    """Return the path of the first binary found, also outside PATH; raise ServerMissing otherwise."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise ServerMissing(
        f"no {names[0]} found: install the MariaDB server (Debian/Ubuntu: apt-get install mariadb-server), "
        "or name any MySQL server in MP_TEST_MYSQL_DSN=mysql://user:password@host:port/, or set ALLOW_SKIP=1"
    )


def free_port() -> int:
    """A TCP port on the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """Let the kernel end the server when the test process is killed (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass
class TestServer:
    """An account on a server that may create databases. ``process`` is None for a server that is not ours."""

    __test__ = False

    host: str
    port: int
    user: str
    password: str
    process: subprocess.Popen[bytes] | None = None
    directory: Path | None = None
    #: Options after all others.
    options: tuple[str, ...] = ()

    @classmethod
    def from_dsn(cls, dsn: str) -> TestServer:
        """The server named by ``mysql://user:password@host:port/``."""
        parts = urlsplit(dsn)
        return cls(parts.hostname or "127.0.0.1", parts.port or 3306, unquote(parts.username or "root"),
                   unquote(parts.password or ""))  # fmt: skip

    @property
    def dialect(self) -> str:
        """``mysql`` or ``mariadb``."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("select version()")
            return "mariadb" if "mariadb" in cursor.fetchone()[0].lower() else "mysql"

    @classmethod
    def start(cls, *options: str) -> TestServer:
        """Install a data directory, start a server on a free port, with ``options``, and wait until it answers."""
        directory = Path(tempfile.mkdtemp(prefix="mp-db-"))
        server = cls("127.0.0.1", free_port(), "mp", secrets.token_hex(8), directory=directory, options=options)
        try:
            server._install()
            server.boot()
        except BaseException:
            server.stop()
            raise
        return server

    def _as_user(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def _install(self) -> None:
        assert self.directory is not None
        data = f"--datadir={self.directory / 'data'}"
        if mysqld := os.environ.get(_MYSQLD):
            command = [mysqld, "--no-defaults", "--initialize-insecure", data, *self._as_user()]
        else:
            command = [
                find_binary(_INSTALL_NAMES), "--no-defaults", data, "--skip-test-db",
                "--auth-root-authentication-method=normal", *self._as_user(),
            ]  # fmt: skip
        # Two installations at once must not share the directory of temporary tables.
        own = os.environ | {"TMPDIR": str(self.directory)}
        done = subprocess.run(command, capture_output=True, cwd=self.directory, check=False, env=own)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")
        (self.directory / "init.sql").write_text(
            f"drop user if exists '{self.user}'@'%';\n"
            f"create user '{self.user}'@'%' identified by '{self.password}';\n"
            f"grant all privileges on *.* to '{self.user}'@'%' with grant option;\n"
        )

    def boot(self) -> None:
        """Start the server process on the existing data directory (also after ``kill``)."""
        assert self.directory is not None
        # A server zone far from UTC: a reader that forgets SET time_zone gets wrong instants here.
        mysqld = os.environ.get(_MYSQLD)
        own = [
            "--mysqlx=OFF", f"--secure-file-priv={self.directory}",
        ] if mysqld else [
            "--innodb-log-file-size=16M", "--aria-pagecache-buffer-size=1M",
        ]  # fmt: skip
        command = [
            mysqld or find_binary(_SERVER_NAMES), "--no-defaults", *self._as_user(), f"--datadir={self.directory / 'data'}",
            "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.directory / 'sock'}",
            f"--pid-file={self.directory / 'pid'}", f"--tmpdir={self.directory}",
            f"--init-file={self.directory / 'init.sql'}",
            "--default-time-zone=+09:00", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci",
            "--innodb-buffer-pool-size=64M", "--innodb-log-buffer-size=4M", *own,
            "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-fast-shutdown=2",
            "--key-buffer-size=1M", "--performance-schema=OFF", "--skip-log-bin",
            "--skip-name-resolve", "--max-connections=60", "--thread-cache-size=4", "--max-allowed-packet=64M",
            *self.options,
        ]  # fmt: skip
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, preexec_fn=_die_with_parent
            )
        self._wait()

    def _wait(self) -> None:
        assert self.process is not None
        assert self.directory is not None
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                break
            try:
                self.connect().close()
                return
            except pymysql.err.OperationalError:
                time.sleep(0.1)
        log = (self.directory / "server.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the test server did not answer within {START_LIMIT_S} s:\n{log}")

    def kill(self) -> None:
        """End our server at once, as a crash would; ``boot`` starts it again on the same port and data."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop our server and remove its directory; nothing for a server that is not ours."""
        self._end(signal.SIGTERM)
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        self.process = None

    def dsn(self, database: str = "", scheme: str = "mysql", port: int | None = None) -> str:
        """DSN as a user would write it; with another ``port``, a proxy's, without TLS: a proxy reads along."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        plain = "?ssl_disabled=true" if port else ""
        return f"{scheme}://{user}:{password}@{self.host}:{port or self.port}/{database}{plain}"

    def connect(self, database: str | None = None, **options: Any) -> pymysql.connections.Connection[Any]:
        """An autocommit connection in utf8mb4 and UTC."""
        given: dict[str, Any] = {
            "host": self.host, "port": self.port, "user": self.user, "password": self.password, "database": database,
            "charset": "utf8mb4", "autocommit": True, "init_command": "SET time_zone = '+00:00'", "connect_timeout": 5,
        }  # fmt: skip
        return pymysql.connect(**{**given, **options})


@dataclass
class TestDatabase:
    """A fresh database. ``execute`` keeps one session, so ``set sql_mode=''`` lasts until the test ends."""

    __test__ = False

    server: TestServer
    name: str = field(default_factory=lambda: f"mp_test_{secrets.token_hex(6)}")
    _connection: Any = None

    @property
    def dsn(self) -> str:
        """``mysql://user:password@host:port/database``."""
        return self.server.dsn(self.name)

    def create(self) -> TestDatabase:
        """Create the database on the server."""
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"create database `{self.name}` character set utf8mb4 collate utf8mb4_general_ci")
        return self

    def drop(self) -> None:
        """Close the session and drop the database."""
        if self._connection is not None and self._connection.open:
            self._connection.close()
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"drop database if exists `{self.name}`")

    def connect(self, **options: Any) -> pymysql.connections.Connection[Any]:
        """One more session of this database (autocommit, UTC)."""
        return self.server.connect(self.name, **options)

    def _session(self) -> Any:
        try:
            if self._connection is not None:
                self._connection.ping(reconnect=False)
                return self._connection
        except pymysql.err.Error:
            self._connection = None  # the server was killed or restarted
        self._connection = self.connect()
        return self._connection

    def execute(self, sql: str, args: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows (empty for writes)."""
        with self._session().cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run ``insert … values (%s, …)`` for many rows."""
        with self._session().cursor() as cursor:
            cursor.executemany(sql, list(rows))

    def script(self, sql: str) -> None:
        """Run several statements separated by a semicolon at a line's end."""
        for statement in sql.split(";\n"):
            if statement.strip(" \n;"):
                self.execute(statement.strip(" \n;"))
