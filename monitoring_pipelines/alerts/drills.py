"""Exercises: a rule's whole life cycle with the label ``drill=true`` (A-504).

What belongs here: starting an exercise and what its rule says while it lasts. What does not: single test messages
(``testing``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, select

from monitoring_pipelines.alerts.lifecycle import DRILL
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.severity import SEVERITIES, Severity
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.state import StateStore

_PREFIX = "drill:"
#: Severity and alert name of an exercise whose rule has its own (checks §5); others are high.
_KNOWN: dict[str, tuple[Severity, str]] = {
    "target.down": ("critical", "CollectorTargetDown"),
    "target.health_down": ("critical", "CollectorHealthDown"),
    "ingest.none": ("critical", "CollectorNoDataIngestion"),
    "output_flow": ("critical", "output_flow"),
    "resource.memory": ("medium", "CollectorHighMemory"),
    "ingest.low": ("medium", "CollectorDataIngestionLow"),
}


def start_drill(state: StateStore, rule: str, now: datetime, lasts_s: float, severity: str | None, actor: str) -> str:
    """Let ``rule`` say true for ``lasts_s`` seconds; returns the severity of the alert.

    Raises:
        UsageError: There is no such rule or severity.
    """
    from monitoring_pipelines.config.known import RULE_IDS
    from monitoring_pipelines.config.suggest import did_you_mean

    if rule not in RULE_IDS:
        raise UsageError(f"unknown rule {rule!r}{did_you_mean(rule, RULE_IDS)}")
    level = severity or _KNOWN.get(rule, ("high", rule))[0]
    if level not in SEVERITIES:
        raise UsageError(f"unknown severity {level!r}", f"one of {', '.join(SEVERITIES)}")
    value = {"rule": rule, "severity": level, "until": now + timedelta(seconds=lasts_s)}
    with state.begin() as con:
        row = {"name": f"{_PREFIX}{rule}", "value": value, "updated_at": now, "updated_by": actor}
        upsert(con, tables.setting, [row])
    return level


def drill_observations(con: Connection, now: datetime) -> list[Observation]:
    """What the rules of running exercises say; an exercise that is over says false once and is forgotten."""
    table, done = tables.setting, []
    for row in con.execute(select(table).where(table.c.name.startswith(_PREFIX))).all():
        rule, severity = row.value["rule"], row.value["severity"]
        over = now >= datetime.fromisoformat(row.value["until"].rstrip("Z"))
        if over:
            con.execute(delete(table).where(table.c.name == row.name))
        name = _KNOWN.get(rule, (severity, rule))[1]
        done.append(
            Observation(
                rule, "_self", "false" if over else "true", severity, severity, name,
                f"exercise of {rule}: nothing is wrong", {DRILL: "true"}, service="drill",
            )
        )  # fmt: skip
    return done
