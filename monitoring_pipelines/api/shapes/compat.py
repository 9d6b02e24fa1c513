"""Shapes of the compatible paths (S-401 to S-428).

What belongs here: task monitor, consistency monitor, scheduler monitor. What does not: the product's own paths.
"""

from __future__ import annotations

from monitoring_pipelines.api.shapes.v1 import COUNTED, COUNTED_OF_SOURCE
from monitoring_pipelines.api.shapes.words import (
    ANY,
    FLAG,
    HEALTH,
    INT,
    NUM,
    TEXT,
    TIME,
    alike,
    by_name,
    listed,
    null,
    nulls,
    obj,
    one_of,
    paged,
    ref,
)

_WORD = one_of(("pending", "processing", "completed", "failed", "timeout"))
_LEVEL = one_of(("HEALTHY", "WARNING", "ERROR", "CRITICAL"))
_METRICS = {
    "task_metrics": obj({
        **alike(INT, "total_tasks success_tasks tasks_with_outputs missing_count pending_settle"),
        **nulls(TEXT, "completion_rate missing_rate"), **nulls(NUM, "completion_rate_value missing_rate_value"),
    }),
    "output_metrics": obj({
        **alike(INT, "total_outputs distinct_outputs duplicate_rows no_end_time"), "avg_outputs_per_task": null(TEXT),
        "avg_outputs_per_task_value": null(NUM), **nulls(INT, "orphan_outputs outputs_of_unsuccessful"),
    }),
    "health_status": obj({
        "status": HEALTH, "completion_rate_threshold": obj(alike(TEXT, "healthy degraded unhealthy"))
    }),
}  # fmt: skip
_REASON = obj({"status": _LEVEL, "reason": TEXT})
_JOB = {"source_id": TEXT, **nulls(TEXT, "owner category")}
_JOB_RUN = {
    "source_id": TEXT, "job_id": TEXT, "run_key": TEXT, **nulls(TIME, "scheduled_at started_at ended_at"),
    "duration_ms": null(NUM), "attempt": null(INT), **nulls(TEXT, "outcome error_message trigger"),
}  # fmt: skip
_MS = "last avg lifetime_avg total p50 p95 p99 min max"

SHAPES = {
    "MonitorStats": obj({
        **alike(INT, "active_tasks queued_tasks running_tasks in_use leaked total_tasks tasks_completed tasks_failed tasks_timeout"),
        **nulls(INT, "max_concurrent available"), **alike(NUM, "success_rate avg_duration timestamp"),
        "active_list": listed(obj({
            "text_id": TEXT, "status": _WORD, "stage": TEXT, "start_time": null(NUM), "duration": null(NUM)
        })),
    }),
    "TaskStatus": obj({
        "text_id": TEXT, "status": _WORD, **nulls(NUM, "start_time completed_time duration"),
        **nulls(TEXT, "error_message audio_url filename"),
    }),
    "MonitoringHealth": obj({
        "timestamp": TIME, "overall_status": _LEVEL, "alerts": listed(ref("AlertAsFinding")), "checks": obj({
            "database": obj({"status": _LEVEL, "lag_s": by_name(null(NUM)), "failing": listed(TEXT)}),
            "queue": {"anyOf": [_REASON, obj({"status": _LEVEL, "pending_tasks": INT, "oldest_wait_s": null(NUM)})]},
            "task_execution": {"anyOf": [
                _REASON, obj({"status": _LEVEL, "completed": INT, "failed": INT, "success_rate": null(NUM)})
            ]},
            "resources": obj({"status": _LEVEL, "alerts": listed(TEXT)}),
        }),
    }),
    "ConsistencyMetrics": obj({
        "timestamp": TIME, "as_of": null(TIME), "stale": FLAG, **_METRICS,
        "sources": listed(obj({"source_id": TEXT, "as_of": null(TIME), "stale": FLAG, **_METRICS})),
    }),
    "Thresholds": obj({
        "max_pending_tasks": INT, **alike(NUM, "max_queue_wait_time max_execution_time max_failed_rate min_success_rate")
    }),
    "MonitoringStatus": obj({
        "timestamp": TIME, "as_of": null(TIME), "sources": listed(obj({"id": TEXT, "health": HEALTH, "lag_s": null(NUM)})),
        "tasks": null(obj(COUNTED | {"queued": INT})),
        "checks": by_name(obj({"run_id": TEXT, "status": TEXT, "ended_at": null(TIME), "total_alerts": INT})),
        "alerts": obj({"total": INT, "by_severity": by_name(INT)}),
    }),
    "TaskStats": obj({
        "sources": listed(obj(COUNTED_OF_SOURCE | {"queued": INT})), "combined": obj(COUNTED), "queued": INT
    }),
    "SchedulerStatus": obj({
        "running": FLAG, "job_count": INT, "jobs": listed(obj({
            "id": TEXT, "name": TEXT, "next_run_time": null(TIME), "trigger": null(TEXT), "source_id": TEXT
        })),
    }),
    "SchedulerJobs": obj({
        "total": INT, "jobs": listed(obj({
            "id": TEXT, "name": TEXT, "next_run_time": null(TIME), **nulls(TEXT, "trigger func risk_level"),
            "enabled": null(FLAG), "sla_seconds": null(NUM), "last_status": TEXT, **_JOB,
        })),
    }),
    "SchedulerMetrics": obj({
        "total": INT, "metrics": listed(obj({
            **_JOB, "job_id": TEXT, "job_name": TEXT, "last_status": TEXT, "last_timestamp": null(TIME),
            **alike(INT, "success_count failure_count total_runs missed_count skipped_count sample_count"),
            "success_rate": null(NUM), **{f"{name}_duration_ms": null(NUM) for name in _MS.split()},
        })),
        "notification_channels": listed(obj({"channel": TEXT, "success_count": INT, "failure_count": INT})),
        "overview": obj({
            **alike(INT, "jobs total_runs success_count jobs_with_failures failure_count"),
            **nulls(NUM, "success_rate avg_duration_ms"),
        }),
        "heatmap": listed(obj({
            "category": TEXT, "failures": INT, "intensity": null(NUM), "color": null(one_of(("red", "amber", "yellow"))),
            "jobs": listed(obj({"source_id": TEXT, "job_id": TEXT, "failures": INT})),
        })),
    }),
    "JobRuns": paged(obj(_JOB_RUN), source_id=TEXT),
    "RunsOfJobs": paged(obj(_JOB_RUN)),
    "JobStarted": obj({"job_id": TEXT, "run_id": null(TEXT)}),
    "JobsChanged": obj({
        "action": one_of(("enable", "disable", "trigger")), **alike(INT, "succeeded failed"), "results": listed({"anyOf": [
            obj({"job_id": TEXT, "source_id": TEXT, "success": {"const": True}, "run_id": null(TEXT)}, ("run_id",)),
            obj({
                "job_id": TEXT, "source_id": null(TEXT), "success": {"const": False}, "status": INT, "message": TEXT,
                "reason": null(TEXT),
            }),
        ]}),
    }),
    "SchedulerServices": obj({"total": INT, "services": listed(obj({"service": TEXT, "jobs": INT, "enabled": INT}))}),
    "SchedulerConfigs": obj({
        "total": INT, "configs": listed(obj({
            **_JOB, "job_id": TEXT, "job_name": TEXT, **nulls(TEXT, "description schedule risk_level"),
            "enabled": null(FLAG), "sla_seconds": null(NUM), "dependencies": ANY,
        })),
    }),
}  # fmt: skip
