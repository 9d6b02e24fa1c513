"""What a check says: outcomes and findings, the shapes every surface and the alert engine share.

What belongs here: plain values. What does not: computing (``checks``), storing (``repository``), alerting (``alerts``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from monitoring_pipelines.severity import Health, Severity

#: ``not_applicable``: an input is not mapped; ``insufficient_data``: too little to judge; ``error``: it could not be
#: computed. None of them is ever shown as passed.
CheckStatus = Literal["passed", "findings", "not_applicable", "insufficient_data", "error"]
RunType = Literal["quick", "full", "deep", "manual", "report"]
RunStatus = Literal["running", "healthy", "issues_detected", "error", "skipped", "missed"]


@dataclass(frozen=True)
class Finding:
    """One problem found by a check (C-028).

    ``labels`` is the scope of the alert it feeds (A-001): names such as endpoint or job, never values or windows.
    """

    source_id: str
    check_id: str
    alert_type: str
    severity: Severity
    message: str
    created_at: datetime
    details: dict[str, Any] = field(default_factory=dict)
    task_ids: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckOutcome:
    """What one check of one source found in its window ``[window_from, window_to)``, naive UTC."""

    source_id: str
    check_id: str
    status: CheckStatus
    window_from: datetime | None = None
    window_to: datetime | None = None
    severity: Severity | None = None
    health: Health | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    #: Result of a Great Expectations suite as JSON, where one ran.
    expectation: dict[str, Any] | None = None
    as_of: datetime | None = None
    stale: bool = False
    message: str | None = None


@dataclass(frozen=True)
class CheckRun:
    """One executed, skipped or missed run over all its sources (C-022 to C-024)."""

    run_id: str
    type: RunType
    trigger: str  # schedule, manual, catchup, api, asset_check
    status: RunStatus
    scheduled_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    window_from: datetime | None = None
    window_to: datetime | None = None
    window_hours: int | None = None
    outcomes: tuple[CheckOutcome, ...] = ()
    error: str | None = None
    #: Source → reason, for sources that could not be read (C-025).
    failed_sources: dict[str, str] = field(default_factory=dict)
    #: The run of Dagster that made it; None when none did.
    dagster_run_id: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all outcomes, in their order."""
        return tuple(finding for outcome in self.outcomes for finding in outcome.findings)
