"""The rule engine: what every shipped and configured rule says now (checks_alerts §4 to §7).

What belongs here: one evaluation over all families. What does not: ``for``, life cycle and messages (``alerts``).
"""

from __future__ import annotations

from monitoring_pipelines.alerts.rules.engine import evaluate, heartbeats
from monitoring_pipelines.alerts.rules.table import Level, Rule, describe, in_force, shipped

__all__ = ["Level", "Rule", "describe", "evaluate", "heartbeats", "in_force", "shipped"]
