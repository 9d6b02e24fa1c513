"""Signs of life of the product's components (C-501, E-131).

What belongs here: writing and reading ``component_heartbeat``. What does not: judging their age (``alerts.rules``).
"""

from __future__ import annotations

import os
import socket
from datetime import datetime

from sqlalchemy import Connection, select

from monitoring_pipelines import __version__
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.store import upsert


def beat(con: Connection, component: str, period_s: float, now: datetime) -> None:
    """Say that ``component`` is alive at ``now`` and will say so again within ``period_s`` seconds."""
    process = f"{os.getpid()}@{socket.gethostname()}"[:191]
    row = {"component": component, "at": now, "period_s": period_s, "process_id": process, "version": __version__}
    upsert(con, tables.component_heartbeat, [row])


def heartbeat_age(con: Connection, component: str, now: datetime) -> float:
    """Age of the newest heartbeat in periods of the component; 0 if it has never beaten."""
    table = tables.component_heartbeat
    row = con.execute(select(table.c.at, table.c.period_s).where(table.c.component == component)).one_or_none()
    return 0.0 if row is None else (now - row.at).total_seconds() / row.period_s


def is_fresh(con: Connection, component: str, now: datetime) -> bool:
    """Whether ``component`` has beaten within two of its periods (C-501); one that never did has not."""
    table = tables.component_heartbeat
    known = con.execute(select(table.c.at).where(table.c.component == component)).scalar() is not None
    return known and heartbeat_age(con, component, now) <= 2
