"""What a mapping of each entity needs and may hold: required columns, defaults, allowed words (E-501, E-510, §2).

What belongs here: tables of facts that mapping, validation and proposals share. What does not: the checks themselves.
"""

from __future__ import annotations

from monitoring_pipelines import entities as e

#: Columns without which an entity means nothing. ``task.status`` may come from task events instead.
REQUIRED: dict[str, tuple[str, ...]] = {
    "task": ("task_key", "status"),
    "task_event": ("event_key", "task_key", "event_type", "at"),
    "task_output": ("output_key", "task_key"),
    "endpoint": ("endpoint",),
    "worker": ("worker_key", "status"),
    "worker_event": ("event_key", "worker_key", "event_type", "at"),
    "worker_snapshot": ("snapshot_key", "worker_key", "at"),
    "job": ("job_id",),
    "job_run": ("run_key", "job_id", "outcome"),
    "process_sample": ("process_id", "at"),
    "probe_result": ("target", "at", "up"),
    "ingest_counter": ("process_id", "series", "at", "value"),
    "notification": ("notification_id", "channel", "state"),
}

#: Value of a NOT NULL column that is not mapped, and of a mapped one whose source value is NULL.
#: ``endpoint`` of task and worker defaults to the source id, ``output_expected`` to the source's setting.
DEFAULTS: dict[str, dict[str, str | int | bool]] = {
    "endpoint": {"status": "unknown"},
    "worker": {"status": "unknown", "concurrency": 1},
    "job": {"enabled": True, "risk_level": "medium"},
    "job_run": {"trigger": "schedule"},
    "process_sample": {"scope": "process"},
    "probe_result": {"kind": "http"},
    "ingest_counter": {"kind": "ok"},
}

#: Words a column may hold. A map, default or const outside them is a configuration error.
WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("task", "status"): e.TASK_STATUSES,
    ("task_event", "event_type"): e.EVENT_TYPES,
    ("worker", "status"): e.WORKER_STATUSES,
    ("worker_event", "event_type"): e.WORKER_EVENT_TYPES,
    ("job_run", "outcome"): e.JOB_RUN_OUTCOMES,
    ("job_run", "trigger"): ("schedule", "manual", "catchup"),
    ("job", "risk_level"): ("low", "medium", "high", "critical"),
    ("process_sample", "scope"): ("process", "host"),
    ("probe_result", "kind"): ("scrape", "http"),
    ("ingest_counter", "kind"): ("ok", "error", "generic"),
    ("notification", "state"): ("pending", "sent", "failed", "abandoned", "suppressed"),
}

#: Units a column may be given in, by the end of its name (E-122).
_UNITS = (
    (("_bytes",), ("bytes", "kb", "mb", "mib")),
    (("_mb",), ("bytes", "kb", "mb", "mib")),
    (("_ms",), ("us", "ms", "s", "m")),
    (("_s", "_seconds"), ("us", "ms", "s", "m")),
    (("_pct", "_rate", "_utilization"), ("percent", "ratio")),
)


def units_of(column: str) -> tuple[str, ...]:
    """Units that make sense for a unified column; empty for columns without a unit."""
    for ends, units in _UNITS:
        if column.endswith(ends):
            return units
    return ()
