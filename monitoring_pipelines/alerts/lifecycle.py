"""What one observation of a rule does to its alert (A-003, A-201, A-202).

What belongs here: pending, firing, resolved for rules. What does not: checks (``contributions``), inhibition and
silences (``standing``), messages (``plan``).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.book import Book, Row
from monitoring_pipelines.alerts.links import runbook_address

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.model import Observation
    from monitoring_pipelines.config import Settings

#: Label of alerts that belong to an exercise (A-504).
DRILL = "drill"


def observe(book: Book, seen: Observation, settings: Settings) -> None:
    """Apply one evaluation of a rule to its alert.

    Only true and false are answers; anything else leaves the alert as it is (A-202, C-440, C-451).
    """
    alert = book.find(seen.fingerprint)
    if seen.condition == "false":
        if alert is not None:
            book.drop(alert) if alert["state"] == "pending" else book.resolve(alert, seen.ended)
        return
    if seen.condition != "true":
        return
    if alert is None:
        alert = book.open(_row(seen, settings))
        if seen.for_s > 0:
            book.pend(alert)
    else:
        _see(book, alert, seen)
    if alert["state"] == "pending" and book.now - alert["active_at"] >= timedelta(seconds=seen.for_s):
        book.fire(alert)


def _row(seen: Observation, settings: Settings) -> Row:
    return {
        "fingerprint": seen.fingerprint, "type": seen.type, "alertname": seen.alertname, "source_id": seen.source_id,
        "labels": dict(seen.labels), "service": seen.service, "severity": seen.severity,
        "severity_label": seen.severity_label, "value": seen.value, "threshold": seen.threshold,
        "message": seen.message, "details": seen.details or None, "task_ids": list(seen.task_ids[:10]) or None,
        "runbook_url": runbook_of(settings, seen.type), "is_drill": seen.labels.get(DRILL) == "true",
    }  # fmt: skip


def _see(book: Book, alert: Row, seen: Observation) -> None:
    """A further true evaluation: newest value and text, severity, never the count of occurrences (A-001)."""
    details: dict[str, Any] | None = seen.details or None
    book.set(
        alert, last_seen_at=book.now, value=seen.value, threshold=seen.threshold, message=seen.message,
        details=details, task_ids=list(seen.task_ids[:10]) or None,
    )  # fmt: skip
    book.rate(alert, seen.severity, seen.severity_label)


def runbook_of(settings: Settings, rule_id: str) -> str:
    """Address of the text that says what to do (A-309): the rule's own, else below ``alerts.links.runbooks``."""
    for rule in settings.rules:
        if rule.id == rule_id and rule.runbook:
            return rule.runbook
    return runbook_address(settings, rule_id)
