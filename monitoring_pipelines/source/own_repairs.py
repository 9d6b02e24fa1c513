"""Which outputs repair wrote, told to the warehouse from the journal in the state store (R-412).

What belongs here: which runs are news, and what their journal says of each key. What does not: writing the journal
(``compensation``), and what the origin of a row changes (``warehouse``).

Every cycle looks, so that nothing depends on how a run ended: one that was killed, that found the warehouse busy, or
whose warehouse was deleted since is told by a later cycle.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.tables import repair_run as t

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Connection

    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.source_schema import TableMapping

_GONE = "gone"


def tell_repairs(
    own: duckdb.DuckDBPyConnection, con: Connection, settings: Settings, since: datetime, now: datetime
) -> list[datetime]:
    """Tell the warehouse what runs that go on, or ended after ``since``, have inserted and removed. Safe to repeat.

    Args:
        own: Read-write connection of the warehouse, no open transaction.
        con: Connection of the state store.
        settings: Whose sources are meant.
        since: Naive UTC instant.
        now: Naive UTC instant of the cycle.

    Returns:
        When these runs ended.
    """
    wrote = and_(t.c.kind.in_(("apply", "resume", "rollback")), t.c.dry_run.is_(False), t.c.plan_id.is_not(None))
    news = or_(t.c.ended_at >= since, t.c.state == "running")
    runs = con.execute(select(t.c.source_id, t.c.plan_id, t.c.ended_at).where(wrote, news)).all()
    for source_id, plan_id in dict.fromkeys((source_id, plan_id) for source_id, plan_id, _ in runs):
        mapping = next((source.output_table() for source in settings.sources if source.id == source_id), None)
        if mapping is not None:
            _tell(own, source_id, mapping.table, _written(con, mapping, source_id, plan_id), now)
    return [ended_at for *_, ended_at in runs if ended_at is not None]


def _written(con: Connection, mapping: TableMapping, source_id: str, plan_id: str) -> dict[str, tuple[str, datetime]]:
    """Output key → ``repair``, ``placeholder`` or gone, and when, as the journal of a plan says; the warehouse's keys are text."""
    column = mapping.columns["output_key"].column
    if column is None:
        return {}  # a computed key: the rows count as the application's
    rows = [row for row in store.journal_rows(con, plan_id=plan_id) if row["state"] == "committed"]
    placeholders = store.placeholder_keys(con, source_id) if rows else set()
    found: dict[str, tuple[str, datetime]] = {}
    # Ids of two processes are in no order within a millisecond; a row is inserted before it is removed.
    for row in sorted(rows, key=lambda row: (row["at"], row["op"] != "insert")):
        image = row["after"] or row["before"] or {}
        key = next((value for name, value in image.items() if name.lower() == column.lower()), None)
        if key is not None:
            inserted = "placeholder" if row["natural_key"] in placeholders else "repair"
            found[str(key)] = (inserted if row["op"] == "insert" else _GONE, row["at"])
    return found


def _tell(
    own: duckdb.DuckDBPyConnection, source_id: str, table: str, written: dict[str, tuple[str, datetime]], now: datetime
) -> None:
    """Only what is news: every key that is told has its task computed again. Rows that were removed are gone (E-610) since
    then; a row the application wrote under such a key later was read later, and stays.
    """
    from monitoring_pipelines.warehouse.connect import transaction
    from monitoring_pipelines.warehouse.ingest import mark_deleted
    from monitoring_pipelines.warehouse.output_refresh import forget_repaired, output_hashes, record_repaired

    if not written:
        return
    query = "SELECT output_key FROM meta.repaired_output WHERE source_id = ?"
    known = {key for (key,) in own.execute(query, [source_id]).fetchall()}
    for origin in ("repair", "placeholder"):
        if new := sorted(key for key, (one, _) in written.items() if one == origin and key not in known):
            record_repaired(own, source_id, new, now, origin)
    if gone := sorted(key for key, (one, _) in written.items() if one == _GONE and key in known):
        with transaction(own):
            hashes = output_hashes(own, source_id, gone)
            mark_deleted(own, "task_output", source_id, table, hashes, "hard", max(written[key][1] for key in gone))
        forget_repaired(own, source_id, gone, now)
