"""Which of the product's own jobs are switched off; it survives restarts (S-426).

What belongs here: the switch per job. What does not: obeying it (``orchestration``), who may turn it (``api``).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import setting

_PREFIX = "job_enabled:"


def switch(con: Connection, job_id: str, enabled: bool, actor: str, now: datetime) -> None:
    """Switch a job on or off."""
    row = {"name": f"{_PREFIX}{job_id}", "value": enabled, "updated_at": now, "updated_by": actor}
    upsert(con, setting, [row])


def switched_off(con: Connection) -> set[str]:
    """Ids of the jobs that are off."""
    rows = con.execute(select(setting.c.name, setting.c.value).where(setting.c.name.startswith(_PREFIX)))
    return {name.removeprefix(_PREFIX) for name, value in rows if value is False}


def is_on(con: Connection, job_id: str) -> bool:
    """Whether a job may be started."""
    value = con.execute(select(setting.c.value).where(setting.c.name == f"{_PREFIX}{job_id}")).scalar()
    return value is not False
