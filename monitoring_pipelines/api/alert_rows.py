"""Alerts as answers and pages show them: without bookkeeping of the dispatcher.

What belongs here: shaping rows of ``state.alerts``. What does not: reading and paging them.
"""

from __future__ import annotations

from typing import Any

from monitoring_pipelines.quality.files import local_text
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines.state.alerts import OPEN_STATES

__all__ = ["HIDDEN_OF_ALERT", "HIDDEN_OF_MESSAGE", "OPEN_STATES", "as_finding", "message", "one", "shown"]


#: Bookkeeping of the dispatcher.
HIDDEN_OF_ALERT = ("open_fingerprint", "route", "next_due_at", "contributions")
HIDDEN_OF_MESSAGE = ("payload", "lease_owner", "lease_until")


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """An alert without bookkeeping of the dispatcher."""
    return {name: value for name, value in row.items() if name not in HIDDEN_OF_ALERT}


def message(row: dict[str, Any]) -> dict[str, Any]:
    """A notification without lease and payload; its target is stored masked."""
    return {name: value for name, value in row.items() if name not in HIDDEN_OF_MESSAGE}


def one(state: StateStore, alert_id: str) -> dict[str, Any] | None:
    """One alert with what carries it, its history and its messages; None when there is none."""
    row = stored.find_alert(state, alert_id)
    if row is None:
        return None
    return {
        "alert": shown(row), "contributions": row["contributions"], "events": stored.events_of(state, alert_id),
        "notifications": [message(found) for found in stored.notifications_of(state, alert_id)],
    }  # fmt: skip


def as_finding(row: dict[str, Any], zone: str) -> dict[str, Any]:
    """An alert in the shape of a finding, with its id and state (C-028, S-413)."""
    at = row["fired_at"] or row["active_at"]
    return {
        "alert_type": row["type"], "severity": row["severity"], "message": row["message"], "details": row["details"],
        "task_ids": row["task_ids"] or [], "source_id": row["source_id"], "created_at": at,
        "created_at_local": local_text(at, zone), "alert_id": row["alert_id"], "state": row["state"],
        "occurrences": row["occurrences"], "labels": row["labels"],
    }  # fmt: skip
