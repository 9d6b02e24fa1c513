"""Ids of shipped checks and rules, so that a misspelt one in the configuration is an error.

What belongs here: names only. What does not: what they compute (``quality``, ``alerts``).
"""

from __future__ import annotations

#: Consistency and task checks (C-1xx, C-3xx, C-5xx) by the ids of checks_alerts.md.
CHECK_IDS = (
    "missing_outputs", "creation_delay", "trend", "ratio", "output_flow", "duplicates", "orphans", "wrong_status",
    "no_end_time", "bad_times", "no_remote_id", "status_mismatch", "key_length", "source_performance", "change_point",
    "tasks.invariants", "tasks.backlog", "tasks.queue_wait", "tasks.long_running", "tasks.failure_rate",
    "tasks.success_rate", "tasks.timeouts", "tasks.slots", "jobs.failing", "jobs.duration_over_sla", "jobs.missed",
    "jobs.never_ran", "jobs.failure_rate", "notify.channel_down", "notify.failure_ratio",
    "expectations.task", "expectations.task_output", "expectations.endpoint_stats", "expectations.output_stats",
    "expectations.completeness",
    "self.heartbeat", "self.extract_lag", "self.snapshot_coverage", "self.snapshot_gap", "self.aggregation",
    "self.schema_drift", "self.check_error", "self.storage", "self.config", "self.plausibility", "self.anomalies",
    "self.clock",
)  # fmt: skip

#: Rules that ``rules:`` may change without giving a metric (checks_alerts.md §4–§6, C-602).
RULE_IDS = (
    *CHECK_IDS,
    "resource.memory", "resource.connections", "resource.fds", "resource.cpu", "resource.memory_level",
    "resource.limits", "resource.threads", "leak.trend", "leak.close_wait", "fd.forecast",
    "host.cpu", "host.memory", "host.disk", "target.down", "target.health_down",
    "ingest.none", "ingest.low", "ingest.series_stale",
    "endpoint.p95_execution", "endpoint.queue_depth", "endpoint.failure_share", "endpoint.gpu",
    "endpoint.cold_start", "endpoint.no_workers",
)  # fmt: skip
