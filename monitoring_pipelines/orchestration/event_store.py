"""Recording thousands of partitions at once in Dagster's SQLite storage.

What belongs here: not opening a file for every event. What does not: which events there are (``assets``).

Dagster makes an engine and a connection for every event, twice, and closing the last connection merges the log: five waits
for the disk for each partition of each table. Inside the block both files stay open; every event is a transaction as before.
A process that is killed loses nothing; after a power cut the newest events may be missing, never a part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from sqlalchemy import Connection

Connect = Callable[[str], AbstractContextManager[Any]]


@contextmanager
def many_events(instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """Events of the run are stored quickly inside the block; nothing happens with another storage than SQLite.

    Args:
        instance: Where the run's events go.
        run_id: The run, whose own file is one of the two written.
    """
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage

    storage = instance.event_log_storage
    storage = getattr(storage, "event_log_storage", storage)
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    with ExitStack() as stack:
        kept = {shard: stack.enter_context(_open(storage, shard)) for shard in (INDEX_SHARD_NAME, run_id)}
        original: Connect = storage._connect

        @contextmanager
        def connect(shard: str) -> Iterator[Any]:
            with ExitStack() as one:
                if shard in kept:
                    one.enter_context(storage._db_lock)
                    one.enter_context(kept[shard].begin())
                    yield kept[shard]
                else:
                    yield one.enter_context(original(shard))

        storage.__dict__["_connect"] = connect
        stack.callback(storage.__dict__.pop, "_connect")
        yield


@contextmanager
def _open(storage: Any, shard: str) -> Iterator[Connection]:
    """A connection that waits for no disk when it commits: with a log, that is safe against everything but a power cut."""
    from sqlalchemy import create_engine

    with storage._connect(shard):  # makes the tables of a file that is new
        pass
    patient = {"timeout": 60, "check_same_thread": False}
    engine = create_engine(storage.conn_string_for_shard(shard), connect_args=patient)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
            connection.commit()
            yield connection
    finally:
        engine.dispose()
