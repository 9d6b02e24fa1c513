"""Shapes of answers of the product's own paths from published files.

What belongs here: sources, tasks, completeness, processes, health. What does not: stored state, statistics.
"""

from __future__ import annotations

from monitoring_pipelines.api.shapes.words import (
    DATE,
    FLAG,
    HEALTH,
    INT,
    NUM,
    TEXT,
    TIME,
    Schema,
    alike,
    by_name,
    listed,
    null,
    nulls,
    obj,
    of_entity,
    one_of,
    paged,
    ref,
)
from monitoring_pipelines.entities import TASK_STATUSES
from monitoring_pipelines.published.processes import COLUMNS as SAMPLE_COLUMNS
from monitoring_pipelines.warehouse.task_summaries import LISTED

_SOURCE = {
    "id": TEXT, "preset": null(TEXT), "last_success_at": null(TIME), "lag_s": null(NUM), "closed_through": null(TIME),
    "origin": null(TIME), "features": ref("Features"), "tables": listed(ref("ExtractedTable")), "drift": FLAG,
    "error": null(TEXT), "health": HEALTH,
}  # fmt: skip
_DAY = {
    "tasks_24h": obj(nulls(INT, "submitted completed failed timeout") | {"success_rate": null(NUM)}),
    "workers": null(obj(nulls(INT, "active idle total"))),
}  # fmt: skip
COMPLETION: dict[str, Schema] = {
    **alike(INT, "total_tasks success_tasks pending_settle tasks_with_outputs total_outputs distinct_outputs invalid_outputs "
            "no_end_time missing_count duplicate_rows"),
    **nulls(TEXT, "completion_rate missing_rate avg_outputs_per_task"),
    **nulls(NUM, "completion_rate_value missing_rate_value avg_outputs_per_task_value"),
}  # fmt: skip
COUNTED: dict[str, Schema] = {
    **alike(INT, "tasks started active completed failed timeout cancelled lost late_events"),
    "slots": obj({"limit": null(INT), "in_use": INT, "available": null(INT), "leaked": INT}),
    "success_rate": null(NUM),
}  # fmt: skip
COUNTED_OF_SOURCE = COUNTED | {"source_id": TEXT, "by_status": by_name(INT)}
_TASK = of_entity(LISTED) | {
    "task_key": TEXT, "status": one_of(TASK_STATUSES), **alike(FLAG, "output_expected is_deleted"),
    **alike(INT, "outputs attempts late_events"),
}  # fmt: skip
_BEHIND = {
    "source_id": TEXT,
    "task_key": TEXT,
    "endpoint": TEXT,
    "effective_end": TIME,
    "remote_id": null(TEXT),
    "status": TEXT,
}
_SAMPLE = of_entity(SAMPLE_COLUMNS) | {
    "process_id": TEXT, "at": TIME, "fd_usage_pct": null(NUM), **nulls(by_name(INT), "tcp_by_state host_tcp_by_state")
}  # fmt: skip
_TREND = obj({"class": TEXT, "slope": null(NUM), "unit": TEXT})

SHAPES = {
    "Live": obj({"status": one_of(("live",))}),
    "Component": obj(
        {"status": HEALTH, "reason": TEXT, "as_of": null(TIME), "version": INT, "at": TIME, "age_s": NUM, "period_s": NUM},
        ("reason", "as_of", "version", "at", "age_s", "period_s"),
    ),
    "Health": obj(
        {"status": HEALTH, "uptime": NUM, "components": by_name(ref("Component")),
         "grace": obj({"applied": FLAG, "uptime": NUM, "grace_seconds": NUM})}, ("grace",),
    ),
    "Features": obj({"on": listed(TEXT), "not_applicable": listed(obj({"name": TEXT, "needs": TEXT}))}),
    "ExtractedTable": obj({
        "src_table": TEXT, "entity": TEXT, "strategy": null(TEXT), "rows_total": null(INT), "last_success_at": null(TIME),
        "last_error": null(TEXT),
    }),
    "Source": obj(_SOURCE),
    "Sources": listed(ref("Source")),
    "Anomalies": paged(obj({
        **alike(TEXT, "source_id kind entity"), "day": null(DATE), "count": INT, **nulls(TIME, "first_at last_at"),
        "examples": listed(obj({"key": null(TEXT), "detail": null(TEXT)})),
    }), count=INT),
    "Completion": obj(COMPLETION),
    "SourceTile": obj(_SOURCE | {"completion": null(obj(COMPLETION | {"health": HEALTH}))} | _DAY),
    "ProductTile": obj({"id": one_of(("_self",)), "health": HEALTH, "completion": null(ref("Completion"))}),
    "OpenAlerts": obj({
        "total": INT, "by_severity": by_name(INT), "by_state": by_name(INT), "gravest": listed(ref("Alert"))
    }),
    "Overview": obj({
        "as_of": null(TIME), "now": TIME, "sources": listed({"anyOf": [ref("SourceTile"), ref("ProductTile")]}),
        "alerts": ref("OpenAlerts"), "endpoints": listed(ref("Endpoint")), "status": by_name(INT), "health": HEALTH,
    }),
    "TaskCounters": obj({"sources": listed(obj(COUNTED_OF_SOURCE)), "combined": obj(COUNTED)}),
    "Self": obj({
        "as_of": null(TIME),
        # Before the first publication the rows are those of ``/sources``.
        "sources": listed(obj(_SOURCE | {"aggregate_lag_s": null(NUM)}, ("health", "aggregate_lag_s"))),
        "anomalies": listed(obj({"source_id": TEXT, "kind": TEXT, "count": INT, "last_at": null(TIME)})),
        "published": null(obj({"version": INT, "published_at": TIME, "changes_waiting": INT})),
        "restated_24h": null(INT), "snapshot_coverage_pct": null(NUM), "store_bytes": null(INT),
        "components": by_name(ref("Component")),
    }, ("restated_24h", "snapshot_coverage_pct")),
    "Workers": obj({
        "source_id": TEXT, "endpoint": TEXT, "from": TIME, "to": TIME, "workers": listed(obj({
            "worker_key": TEXT, **alike(NUM, "online_ms busy_ms idle_ms"), "state": one_of(("busy", "idle", "offline")),
            "since": null(TIME), "idle_age_s": null(NUM), "source": null(TEXT), "quality": null(TEXT),
        })),
    }),
    "Task": obj(_TASK),
    "Tasks": paged(ref("Task")),
    "WholeTask": obj({
        "task": ref("Task"),
        "attempts": listed(obj({
            "attempt_no": INT, **nulls(TEXT, "worker_key outcome end_source"),
            **nulls(TIME, "enqueued_at started_at ended_at executor_ended_at"), "counted": null(FLAG),
            **nulls(NUM, "queue_wait_ms execution_ms"), "late_event_count": null(INT),
        })),
        "events": listed(obj(of_entity(
            ("at", "row_id", "event_key", "event_type", "raw_type", "worker_key", "error_message")
        ))),
        "outputs": listed(obj({
            **of_entity(("created_at", "output_key", "node_key", "name", "uri", "media_type", "size_bytes", "version",
                         "origin", "valid")), "live": FLAG,
        })),
        "anomalies": listed(obj({"at": null(TIME), **nulls(TEXT, "kind entity key detail")})),
    }),
    "Timeline": obj({
        "source_id": TEXT, "task_key": TEXT, "timeline": listed(obj({
            "at": TIME, "kind": one_of(("event", "attempt", "output", "anomaly", "row")), "what": null(TEXT),
            "worker_key": null(TEXT), "detail": null(TEXT),
        })),
    }),
    "TasksWithoutOutput": paged(obj(_BEHIND, age_s=NUM), hours=INT),
    "TasksBehindAFigure": paged(obj(_BEHIND, outputs=INT, distinct_outputs=INT), kind=TEXT, hours=INT),
    "Split": obj({
        "date": null(DATE), "from": TIME, "to": TIME, "sources": listed(obj({
            "source_id": TEXT, "days": listed(obj({"date": DATE} | COMPLETION)),
            "split": null(obj({"before": null(ref("Completion")), "after": null(ref("Completion")), "difference": null(NUM)})),
            "change_point": null(obj({"date": DATE, "before": NUM, "after": NUM, "direction": one_of(("down", "up"))})),
        })),
    }),
    "Processes": obj({"items": listed(obj(_SAMPLE | {"trends": by_name(_TREND), "health_state": HEALTH})), "total": INT}),
    "Samples": paged(
        obj(_SAMPLE), source_id=TEXT, process_id=TEXT, trends=by_name(_TREND), thresholds=by_name(listed(obj({
            "severity": TEXT, "label": TEXT, "threshold": null(NUM), "op": TEXT, "unit": TEXT,
        }))),
    ),
    "Targets": obj({
        "items": listed(obj({
            "source_id": TEXT, "target": TEXT, "health_state": TEXT,
            **nulls(TIME, "since first_seen_at retired_at"), "probes": listed(obj({
                "kind": TEXT, "at": TIME, "up": null(FLAG), "http_status": null(INT), "latency_ms": null(NUM),
                "health_state": null(TEXT),
            })),
        })), "total": INT,
    }),
    "Ingest": obj({
        "items": listed(obj({
            "source_id": TEXT, "process_id": TEXT, "series": TEXT, "last_at": null(TIME),
            **nulls(NUM, "value rate_per_s error_rate_per_s success_rate"),
        })), "total": INT,
    }),
}  # fmt: skip
