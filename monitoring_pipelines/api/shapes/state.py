"""Shapes of rows of the state store: their columns are the tables' own.

What belongs here: alerts, messages, silences, checks, repair. What does not: what follows from published files.
"""

from __future__ import annotations

from monitoring_pipelines.api.alert_rows import HIDDEN_OF_ALERT, HIDDEN_OF_MESSAGE
from monitoring_pipelines.api.shapes.words import (
    ANY,
    FLAG,
    HEALTH,
    INT,
    SEVERITY,
    TEXT,
    TIME,
    alike,
    by_name,
    listed,
    null,
    nulls,
    obj,
    of_table,
    paged,
    ref,
)
from monitoring_pipelines.state import tables as t

_FINDING = {
    "alert_type": TEXT, "severity": SEVERITY, "message": null(TEXT), "details": ANY, "task_ids": listed(TEXT),
    "source_id": TEXT, "labels": by_name(TEXT), "created_at": null(TIME), "created_at_local": null(TEXT),
}  # fmt: skip
_OUTCOME = {
    **alike(TEXT, "source_id check_id status"), **nulls(TIME, "window_from window_to as_of"), "severity": null(SEVERITY),
    "health": null(HEALTH), "metrics": by_name(ANY), "findings": listed(ref("Finding")), "expectation": ANY, "stale": FLAG,
    "message": null(TEXT),
}  # fmt: skip
_RUN = {
    **alike(TEXT, "run_id type trigger status"), "scheduled_at": TIME,
    **nulls(TIME, "started_at ended_at window_from window_to"), "window_hours": null(INT), "error": null(TEXT),
    "failed_sources": by_name(TEXT), "alerts_by_severity": by_name(INT), "total_alerts": INT,
}  # fmt: skip

SHAPES = {
    "Alert": of_table(t.alert, HIDDEN_OF_ALERT, severity=SEVERITY),
    "AlertEvent": of_table(t.alert_event),
    "AlertContribution": of_table(t.alert_contribution),
    "Notification": of_table(t.notification, HIDDEN_OF_MESSAGE),
    "Silence": of_table(t.silence),
    "Alerts": paged(ref("Alert")),
    "AlertEvents": paged(ref("AlertEvent")),
    "Silences": paged(ref("Silence")),
    "Notifications": paged(ref("Notification")),
    "OneAlert": obj({
        "alert": ref("Alert"), "contributions": listed(ref("AlertContribution")), "events": listed(ref("AlertEvent")),
        "notifications": listed(ref("Notification")),
    }),
    "Finding": obj(_FINDING | {"check_id": TEXT}),
    "AlertAsFinding": obj(_FINDING | {"alert_id": TEXT, "state": TEXT, "occurrences": INT}),
    "AlertsAsFindings": obj({"alerts": listed(ref("AlertAsFinding")), "total": INT}),
    "CheckRun": obj(_RUN),
    "CheckRuns": paged(ref("CheckRun")),
    "CheckResult": obj(_OUTCOME),
    "WholeCheckRun": obj({
        "check_run": ref("CheckRun"), "check_results": listed(ref("CheckResult")), "findings": listed(ref("Finding"))
    }),
    "RepairPlan": of_table(t.repair_plan),
    "RepairPlans": paged(ref("RepairPlan")),
    "RepairItem": of_table(t.repair_item),
    "RepairItems": paged(ref("RepairItem")),
    "RepairApproval": of_table(t.repair_approval),
    "RepairRun": of_table(t.repair_run),
    "RepairJournalRow": of_table(t.repair_journal),
    "RepairJournal": paged(ref("RepairJournalRow")),
    "WholeRepairPlan": of_table(
        t.repair_plan, approval=null(ref("RepairApproval")), runs=listed(ref("RepairRun"))
    ),
}  # fmt: skip
