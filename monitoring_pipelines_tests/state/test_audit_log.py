"""The audit log on each database: rows of many at once are all there, in one chain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier

from sqlalchemy import func, select

from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state.tables import audit_log

NOW = datetime(2026, 2, 11, 6)
WRITERS, ROWS = 4, 10


def test_many_who_append_at_once_wait_for_each_other_from_the_first_row_on(store: StateStore) -> None:
    store.engine()
    ready = Barrier(WRITERS)

    def append(writer: int) -> None:
        ready.wait()
        for n in range(ROWS):
            with store.begin() as con:
                audit.record(con, NOW, f"writer {writer}", "test", str(n))

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(append, range(WRITERS)))
    with store.read() as con:
        assert audit.first_broken(con) is None
        assert con.execute(select(func.count()).select_from(audit_log)).scalar_one() == WRITERS * ROWS
