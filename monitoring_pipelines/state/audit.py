"""The audit log: who did what through API, command line or Dagster, each row chained to the one before it.

What belongs here: appending and checking the chain. What does not: deciding what is worth a row.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from monitoring_pipelines.state.tables import audit_log
from monitoring_pipelines.state.turns import wait_for_turn
from monitoring_pipelines.state.types import canonical_json

#: What the first row names as its predecessor.
GENESIS = "0" * 64


def record(
    con: Connection, now: datetime, actor: str, action: str, target: str, detail: dict[str, Any] | None = None
) -> int:
    """Append one row, in the transaction of what it records.

    Args:
        con: A connection of ``StateStore.begin``.
        now: Naive UTC.
        actor: Name of the token, user or job.
        action: What was done, e.g. ``alert.acknowledge``.
        target: What it was done to.
        detail: Anything else worth keeping; never a secret.

    Returns:
        The row's number.
    """
    # The last row cannot be locked instead: who waits for it is given it, and not its successor.
    wait_for_turn(con, "audit", now)
    last = con.execute(select(audit_log.c.seq, audit_log.c.sha256).order_by(audit_log.c.seq.desc()).limit(1)).first()
    seq = 1 if last is None else last.seq + 1
    previous = GENESIS if last is None else last.sha256
    row = {"seq": seq, "at": now, "actor": actor, "action": action, "object": target, "detail": detail}
    con.execute(audit_log.insert().values(**row, previous_sha256=previous, sha256=_digest(row, previous)))
    return seq


def first_broken(con: Connection) -> int | None:
    """Number of the first row that was changed, removed or inserted later; None when the chain holds."""
    previous, expected = GENESIS, 1
    for row in con.execute(select(audit_log).order_by(audit_log.c.seq)).mappings():
        content = {name: row[name] for name in ("seq", "at", "actor", "action", "object", "detail")}
        if row["seq"] != expected or row["previous_sha256"] != previous or row["sha256"] != _digest(content, previous):
            return expected
        previous, expected = row["sha256"], expected + 1
    return None


def _digest(row: dict[str, Any], previous: str) -> str:
    return hashlib.sha256((previous + canonical_json(row)).encode()).hexdigest()
