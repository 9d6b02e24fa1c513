"""A private PostgreSQL server for tests of the state store, and databases on it.

What belongs here: starting and stopping a real server as an unprivileged user. What does not: tables and assertions.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring_pipelines_tests.support.mysql_server import ServerMissing, _die_with_parent, free_port

START_LIMIT_S = 60


def find_binary(name: str) -> str:
    """Path of ``initdb`` or ``postgres``, the newest version Debian installed or the one in PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(places[-1]) if places else shutil.which(name)
    if not found:
        raise ServerMissing(
            f"no {name} found: install the PostgreSQL server (Debian/Ubuntu: apt-get install postgresql), "
            "or set ALLOW_SKIP=1"
        )
    return found


@dataclass
class PostgresServer:
    """A server on a free port of the loopback interface, without authentication, that lives in a temporary folder."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls) -> PostgresServer:
        """Create a cluster, start the server and wait until it answers."""
        binary = find_binary("postgres")
        server = cls(Path(tempfile.mkdtemp(prefix="mp-pg-")), free_port())
        try:
            if os.geteuid() == 0:  # the server refuses to run as root
                os.chown(server.directory, _nobody()["user"], _nobody()["group"])
            data = str(server.directory / "data")
            _run(
                [find_binary("initdb"), "-D", data, "-U", "mp", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
                server.directory,
            )
            command = [
                binary, "-D", data, "-h", "127.0.0.1", "-p", str(server.port), "-k", str(server.directory),
                "-c", "fsync=off", "-c", "timezone=Asia/Tokyo", "-c", "shared_buffers=16MB", "-c", "max_connections=60",
            ]  # fmt: skip
            with open(server.directory / "server.log", "ab") as log:
                server.process = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=server.directory, preexec_fn=_die_with_parent, **_who()
                )
            server._wait()
        except BaseException:
            server.stop()
            raise
        return server

    def _wait(self) -> None:
        import time

        import psycopg

        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres", driver=""), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self.directory / "server.log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def dsn(self, database: str, driver: str = "+psycopg") -> str:
        """URL of a database."""
        return f"postgresql{driver}://mp@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, empty database: its SQLAlchemy URL."""
        import psycopg

        name = f"mp_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn("postgres", driver=""), autocommit=True) as con:
            con.execute(f'CREATE DATABASE "{name}"')
        try:
            yield self.dsn(name)
        finally:
            with psycopg.connect(self.dsn("postgres", driver=""), autocommit=True) as con:
                con.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _nobody() -> dict[str, int]:
    import pwd

    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def _who() -> dict[str, Any]:
    return {**_nobody(), "extra_groups": []} if os.geteuid() == 0 else {}


def _run(command: list[str], directory: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(command, capture_output=True, cwd=directory, check=False, env=environment, **_who())
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")
