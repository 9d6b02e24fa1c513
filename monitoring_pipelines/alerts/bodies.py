"""Messages as programs read them: our own JSON and the shapes of Alertmanager (checks §10).

What belongs here: JSON bodies. What does not: text for people (``wording``), sending (``channels``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.book import Row

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.messages import Message

#: How Alertmanager says "not over".
_NEVER = "0001-01-01T00:00:00Z"


def own_json(message: Message) -> dict[str, Any]:
    """The body of a webhook: what people read and what programs need."""
    return {
        "version": 1, "notification_id": message.notification_id, "kind": message.kind, "title": message.title,
        "severity": message.severity, "text": message.text, "language": message.language,
        "group_key": message.group_key, "created_at": stamp(message.created_at),
        "alerts": [alert_json(alert) for alert in message.alerts], "truncated_alerts": message.truncated,
    }  # fmt: skip


def alert_json(alert: Row) -> dict[str, Any]:
    """One alert; instants in RFC 3339."""
    links = alert.get("links")
    names = ("alert_id", "fingerprint", "type", "alertname", "labels", "service", "severity", "severity_label", "state",
             "value", "threshold", "message", "details", "occurrences", "is_drill")  # fmt: skip
    times = ("active_at", "fired_at", "last_seen_at", "resolved_at", "acknowledged_at")
    return (
        {name: alert[name] for name in names}
        | {"source_id": alert["source_id"], "task_ids": alert["task_ids"] or []}
        | {name: stamp(alert[name]) for name in times}
        | {"alert_url": links.alert if links else None, "dagster_url": links.dagster if links else None}
        | {"runbook_url": alert["runbook_url"]}
    )


def alertmanager_webhook(message: Message, receiver: str) -> dict[str, Any]:
    """The body Alertmanager itself would post to a webhook (version 4)."""
    alerts = [_webhook_alert(alert) for alert in message.alerts]
    status = "resolved" if message.kind == "resolved" else "firing"
    return {
        "version": "4", "groupKey": message.group_key, "truncatedAlerts": message.truncated, "status": status,
        "receiver": receiver, "groupLabels": _common(alerts, "labels", ("alertname", "service")),
        "commonLabels": _common(alerts, "labels"), "commonAnnotations": _common(alerts, "annotations"),
        "externalURL": message.dashboard,
        "alerts": alerts or [_synthetic(message)],
    }  # fmt: skip


def alertmanager_v2(alert: Row, ends_at: datetime) -> dict[str, Any]:
    """One alert for ``POST /api/v2/alerts`` of Alertmanager."""
    posted = _webhook_alert(alert)
    return {
        "labels": posted["labels"], "annotations": posted["annotations"], "startsAt": posted["startsAt"],
        "endsAt": stamp(ends_at), "generatorURL": posted["generatorURL"],
    }  # fmt: skip


def _webhook_alert(alert: Row) -> dict[str, Any]:
    links = alert.get("links")
    labels = {**{name: str(value) for name, value in alert["labels"].items()}, "alertname": alert["alertname"],
              "type": alert["type"], "source": alert["source_id"], "severity": alert["severity"]}  # fmt: skip
    if alert["service"]:
        labels["service"] = alert["service"]
    notes = {"summary": alert["message"] or "", "runbook_url": alert["runbook_url"] or ""}
    for name in ("value", "threshold"):
        if alert[name] is not None:
            notes[name] = repr(alert[name])
    is_over = alert["resolved_at"] is not None
    return {
        "status": "resolved" if is_over else "firing", "labels": labels, "annotations": notes,
        "startsAt": stamp(alert["fired_at"] or alert["active_at"]),
        "endsAt": stamp(alert["resolved_at"]) if is_over else _NEVER,
        "generatorURL": (links.alert if links else None) or "", "fingerprint": alert["fingerprint"][:16],
    }  # fmt: skip


def _synthetic(message: Message) -> dict[str, Any]:
    """Tests and digests are about no single alert, and the format knows nothing else."""
    return {
        "status": "firing", "labels": {"alertname": message.tag, "severity": message.severity},
        "annotations": {"summary": message.title, "description": message.text},
        "startsAt": stamp(message.created_at), "endsAt": _NEVER, "generatorURL": message.dashboard,
        "fingerprint": message.notification_id[-16:].lower(),
    }  # fmt: skip


def _common(alerts: list[dict[str, Any]], what: str, only: tuple[str, ...] | None = None) -> dict[str, str]:
    if not alerts:
        return {}
    first: dict[str, str] = alerts[0][what]
    return {
        name: value for name, value in first.items()
        if (only is None or name in only) and all(alert[what].get(name) == value for alert in alerts)
    }  # fmt: skip


def stamp(at: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if at is None else at.isoformat(timespec="microseconds") + "Z"
