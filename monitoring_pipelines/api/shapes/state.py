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
    NUM,
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
    one_of,
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
    **nulls(TIME, "started_at ended_at window_from window_to"), "window_hours": null(INT), **nulls(TEXT, "error dagster_run_id"),
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
    "Findings": paged(ref("Finding")),
    "CheckResult": obj(_OUTCOME),
    "WholeCheckRun": obj({
        "check_run": ref("CheckRun"), "check_results": listed(ref("CheckResult")), "findings": listed(ref("Finding"))
    }),
    "CheckReport": obj({
        **alike(TEXT, "timestamp_local run_id check_type trigger run_status"), **alike(TIME, "timestamp scheduled_at"),
        "window": obj({**nulls(TIME, "from to"), "hours": null(INT)}), "status": one_of(("healthy", "issues_detected")),
        "total_alerts": INT, "alerts_by_severity": by_name(INT), "alerts": listed(ref("Finding")),
        # Source → check → how it ended, and figures under names of the check's own.
        "metrics": by_name(by_name(obj(
            {"status": TEXT, "health": null(HEALTH), "as_of": null(TIME), "stale": FLAG}
        ) | {"additionalProperties": True})),
        "duration_ms": null(NUM), "errors": by_name(TEXT),
    }),
    "CheckStarted": obj({"run_id": TEXT, "status": one_of(("running",))}),
    "TestMessages": obj({"notifications": listed(ref("Notification"))}),
    "RepairPlan": of_table(t.repair_plan),
    "RepairPlans": paged(ref("RepairPlan")),
    "RepairItem": of_table(t.repair_item),
    "RepairItems": paged(ref("RepairItem")),
    "RepairApproval": of_table(t.repair_approval),
    "RepairRun": of_table(t.repair_run),
    "RepairPlanStarted": obj({"plan_id": TEXT, "state": one_of(("building",))}),
    # Before its process has stored the run it is starting.
    "RepairRunStarted": obj({"run_id": TEXT, "state": TEXT}),
    "RepairJournalRow": of_table(t.repair_journal),
    "RepairJournal": paged(ref("RepairJournalRow")),
    "WholeRepairPlan": of_table(
        t.repair_plan, approval=null(ref("RepairApproval")), runs=listed(ref("RepairRun"))
    ),
}  # fmt: skip
