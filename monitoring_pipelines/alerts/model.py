"""What the alert engine takes in: the conditions of rules (checks come as ``quality.model.CheckRun``).

What belongs here: plain values shared by rules and engine. What does not: the engine itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from monitoring_pipelines.severity import Severity
from monitoring_pipelines.state.types import canonical_json

#: true and false are answers; all others leave an alert as it is (A-202, C-440, C-451).
Condition = Literal["true", "false", "insufficient_data", "not_applicable", "not_measurable", "error"]


@dataclass(frozen=True)
class Observation:
    """What one rule says of one scope at one evaluation (A-201).

    ``type`` is the rule id without level (``resource.memory``); several levels of a rule are one observation with the
    severity of the worst level that holds. ``for_s``: how long the condition must hold before the alert fires, seconds.
    """

    type: str
    source_id: str
    condition: Condition
    severity: Severity
    severity_label: str
    alertname: str
    message: str
    labels: dict[str, str] = field(default_factory=dict)
    service: str | None = None
    for_s: float = 0.0
    value: float | None = None
    threshold: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    task_ids: tuple[str, ...] = ()
    #: Why the condition is false, when that is not that things are well again.
    ended: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of the alert this observation belongs to (A-001)."""
        return fingerprint(self.type, self.source_id, self.labels)


def fingerprint(alert_type: str, source_id: str, labels: dict[str, str]) -> str:
    """SHA-256 of the canonical JSON of type, source and scope labels (A-001), hexadecimal."""
    text = canonical_json({"type": alert_type, "source": source_id, "labels": labels})
    return hashlib.sha256(text.encode()).hexdigest()
