"""Bringing the state store to the newest revision with Alembic.

What belongs here: running migrations from the program. What does not: the migrations (``migrations/versions``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from alembic.config import Config

VERSIONS = Path(__file__).parent / "migrations"
#: Newest revision; a test compares it with the files, so that opening a current store loads no Alembic.
HEAD = "0005"
_LOCK_NAME = "mp_state_migration"
_LOCK_NUMBER = 7_305_811_437


def upgrade(engine: Engine, target: str = "head") -> None:
    """Run all migrations the database lacks. Several processes may call it at once; one works, the others wait.

    Raises:
        ProductError: The database is of a newer version of the product.
    """
    if target == "head" and current(engine) == HEAD:
        return
    from alembic import command

    with engine.connect() as con, _alone(con):
        found = current(engine, con)
        if found is not None and found not in _known():
            raise ProductError(
                f"the state store has revision {found}, which this version of the product does not know",
                "run the version that wrote it, or a newer one",
            )
        command.upgrade(_config(con), target)
        con.commit()


def current(engine: Engine, con: Connection | None = None) -> str | None:
    """The stored revision; None for an empty database."""
    if con is None:
        with engine.connect().execution_options(mp_read_only=True) as own:
            return current(engine, own)
    if not inspect(con).has_table("alembic_version"):
        return None
    row = con.execute(text("SELECT version_num FROM alembic_version")).fetchone()
    return row[0] if row else None


def _config(con: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    config.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    config.attributes["connection"] = con
    return config


@cache
def _known() -> frozenset[str]:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    return frozenset(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


@contextmanager
def _alone(con: Connection) -> Iterator[None]:
    """Hold the migration lock of the database. SQLite needs none: the transaction has the write lock from its start."""
    if con.dialect.name in ("mysql", "mariadb"):
        con.execute(text("SELECT GET_LOCK(:name, 60)"), {"name": _LOCK_NAME})
        try:
            yield
        finally:
            con.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK_NAME})
            con.commit()
        return
    if con.dialect.name == "postgresql":
        con.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    yield


def _write_revision(message: str) -> None:
    """Write a migration file with what the tables have and an up-to-date empty database lacks (for developers)."""
    from alembic import command
    from sqlalchemy import create_engine

    known = sorted(_known())
    engine = create_engine("sqlite://")
    with engine.connect() as con:
        config = _config(con)
        if known:
            command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True, rev_id=f"{int(known[-1] if known else 0) + 1:04d}")


if __name__ == "__main__":
    import sys

    _write_revision(sys.argv[1])
