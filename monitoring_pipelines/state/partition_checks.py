"""What the audits said of every partition: the newest answer per source, table and hour or day (M-9xx).

What belongs here: storing and reading them. What does not: the audits (``warehouse.audits``) and who runs them
(``orchestration.asset_checks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from monitoring_pipelines.state.store import StateStore, upsert
from monitoring_pipelines.state.tables import partition_check
from monitoring_pipelines.state.turns import wait_for_turn
from monitoring_pipelines.warehouse.families import FAMILIES

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from monitoring_pipelines.warehouse.audits import AuditResult

#: Who records takes turns: rows locked one by one, those of an hour before those of its day, would be a deadlock on MySQL.
_TURN = "partition_check"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Rows of one statement.
BATCH = 500
_MIDNIGHT = datetime.min


@dataclass(frozen=True)
class Said:
    """The newest answers about one partition: audit → rows that break it, and when the newest of them was given."""

    checks: dict[str, int]
    checked_at: datetime


def record(
    state: StateStore, results: Iterable[AuditResult], family: str, sources: Sequence[str], start: datetime,
    end: datetime, now: datetime,
) -> None:  # fmt: skip
    """Remember what audits of one family said about the partitions in ``[start, end)``.

    Args:
        state: The store.
        results: Audits that looked at the whole window; each has an answer for every partition in it.
        family: Their family of statistics.
        sources: Sources that have it.
        start: Start of an hour, naive UTC.
        end: End of an hour.
        now: When they looked.
    """
    found = list(results)
    buckets = {table: _starts(start, end, HOUR) for table in FAMILIES[family].hour_tables}
    buckets |= {table: _starts(start, end, DAY) for table in FAMILIES[family].day_tables}
    wanted = [(source, table, at) for table, starts in buckets.items() for at in starts for source in sources]
    # A day that the window only touches has no answer, unless it is a bad one.
    wanted += sorted(
        {(source, table, at) for one in found for table, source, at in one.places if table in buckets} - set(wanted)
    )
    for first in range(0, len(wanted), BATCH):
        some = wanted[first : first + BATCH]
        with state.begin() as con:
            wait_for_turn(con, _TURN, now)
            known = _known(con, some)
            upsert(con, partition_check, [
                _row(key, known.get(key, {}) | {one.name: one.places.get((key[1], key[0], key[2]), 0) for one in found}, now)
                for key in some
            ])  # fmt: skip


#: Source, table, start of the partition.
_Key = tuple[str, str, datetime]


def _row(key: _Key, checks: dict[str, int], now: datetime) -> dict[str, Any]:
    return {"source_id": key[0], "table_name": key[1], "bucket": key[2], "checks": checks, "checked_at": now}


def _known(con: Connection, keys: Sequence[_Key]) -> dict[_Key, dict[str, int]]:
    """Answers about partitions and those between them."""
    column, times = partition_check.c, [at for _, _, at in keys]
    wanted = select(partition_check).where(
        column.bucket >= min(times), column.bucket <= max(times), column.table_name.in_({table for _, table, _ in keys})
    )
    return {(row.source_id, row.table_name, row.bucket): row.checks for row in con.execute(wanted)}


def read(
    state: StateStore, sources: Sequence[str], tables: Sequence[str], start: datetime, end: datetime
) -> dict[tuple[str, str, datetime], Said]:
    """(source, table, start of the partition) → what was said of it, for partitions that start in ``[start, end)``."""
    column = partition_check.c
    wanted = select(partition_check).where(
        column.source_id.in_(sources), column.table_name.in_(tables), column.bucket >= start, column.bucket < end
    )
    with state.read() as con:
        rows = con.execute(wanted)
        return {(row.source_id, row.table_name, row.bucket): Said(row.checks, row.checked_at) for row in rows}


def prune(state: StateStore, now: datetime, days: int) -> int:
    """Forget partitions older than ``retention.check_days``; how many."""
    with state.begin() as con:
        wait_for_turn(con, _TURN, now)
        gone: Any = con.execute(delete(partition_check).where(partition_check.c.bucket < now - timedelta(days=days)))
        return int(gone.rowcount)


def _starts(start: datetime, end: datetime, length: timedelta) -> list[datetime]:
    """Starts of the whole buckets in the window."""
    at = start + (_MIDNIGHT - start) % length
    found = []
    while at + length <= end:
        found.append(at)
        at += length
    return found
