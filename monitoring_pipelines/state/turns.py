"""Turns among transactions that read what they then write, where rows that are not there yet cannot be locked.

What belongs here: waiting for a turn. What does not: what is done in it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import setting


def wait_for_turn(con: Connection, name: str, now: datetime) -> None:
    """Wait until no other transaction has the turn; it ends with this transaction.

    Args:
        con: A connection of ``StateStore.begin``; on SQLite it is alone already.
        name: What they take turns at.
        now: Naive UTC.
    """
    if con.dialect.name == "sqlite":
        return
    row = {"name": f"turn:{name}", "value": None, "updated_at": now, "updated_by": None}
    upsert(con, setting, [row], update=())
    con.execute(select(setting.c.name).where(setting.c.name == row["name"]).with_for_update()).one()
