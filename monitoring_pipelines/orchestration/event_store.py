"""Recording thousands of partitions at once in Dagster's SQLite storage.

What belongs here: not waiting for the disk at every event. What does not: which events there are (``assets``).

Dagster opens and closes the file for every event, and closing the last connection merges its log: five waits for the disk
for each partition of each table. A connection that stays open keeps the log, and in this mode a commit needs no wait.
A process that is killed loses nothing; after a power cut the newest events may be missing, never a part of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def many_events(instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """Events of the run are stored quickly inside the block; nothing happens with another storage than SQLite.

    Args:
        instance: Where the run's events go.
        run_id: The run, whose own file is one of the two written.
    """
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
    from sqlalchemy import Engine, event

    storage = instance.event_log_storage
    storage = getattr(storage, "event_log_storage", storage)
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    with ExitStack() as stack:
        for shard in (INDEX_SHARD_NAME, run_id):
            held = stack.enter_context(closing(sqlite3.connect(storage.path_for_shard(shard))))
            held.execute("SELECT count(*) FROM sqlite_master")
        event.listen(Engine, "connect", _do_not_wait)
        stack.callback(event.remove, Engine, "connect", _do_not_wait)
        yield


def _do_not_wait(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = NORMAL")
