"""Tables of the state store (E-131, §2.4 of the data dictionary), as SQLAlchemy Core tables.

What belongs here: columns, keys, indexes. What does not: how they change over versions (``migrations``).
All instants are naive UTC. A change here needs a migration; a test compares both.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, UniqueConstraint

from monitoring_pipelines.state.types import Id, Instant, Json, Key, LongText, Word

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
#: SQLite counts rows by itself only in a column of exactly this type.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, LongText)


# --- checks (C-0xx) -------------------------------------------------------------------------------------------------

#: One check run, executed or not (C-022, C-023). ``type``: quick, full, deep, manual, report.
check_run = Table(
    "check_run", metadata,
    Column("run_id", Id, primary_key=True),
    Column("type", Word, nullable=False),
    Column("trigger", Word, nullable=False),
    Column("status", Word, nullable=False),  # running, healthy, issues_detected, error, skipped, missed
    Column("scheduled_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("window_from", Instant),
    Column("window_to", Instant),
    Column("window_hours", Integer),
    Column("sources", Json),
    Column("total_alerts", Integer, nullable=False, default=0),
    Column("alerts_by_severity", Json),
    Column("duration_ms", Double),
    #: skipped and missed rows may stand for several due times (C-023).
    Column("count", Integer, nullable=False, default=1),
    _text("error"),
    #: When the alert engine took the run in; NULL: it has not yet (A-002).
    Column("alerted_at", Instant),
    #: The run of Dagster that made it; NULL: the API, the command line or nobody did.
    Column("dagster_run_id", Key),
    Index("ix_check_run_alerted_at", "alerted_at"),
    Index("ix_check_run_type_scheduled_at", "type", "scheduled_at"),
    Index("ix_check_run_scheduled_at", "scheduled_at"),
)  # fmt: skip

#: One check of one source in one run. ``status``: passed, findings, not_applicable, insufficient_data, error.
check_result = Table(
    "check_result", metadata,
    Column("run_id", Id, primary_key=True),
    Column("source_id", Word, primary_key=True),
    Column("check_id", Key, primary_key=True),
    Column("status", Word, nullable=False),
    Column("severity", Word),
    Column("health", Word),
    Column("window_from", Instant),
    Column("window_to", Instant),
    Column("metrics", Json),
    Column("expectation", Json),  # the result of a Great Expectations suite
    Column("as_of", Instant),
    Column("stale", Boolean, nullable=False, default=False),
    _text("message"),
    Index("ix_check_result_source_id_check_id_run_id", "source_id", "check_id", "run_id"),
)  # fmt: skip

#: What the newest audit of a partition of a table said (M-9xx); ``checks``: name of the audit → rows that break it.
partition_check = Table(
    "partition_check", metadata,
    Column("source_id", Word, primary_key=True),
    Column("table_name", Word, primary_key=True),
    Column("bucket", Instant, primary_key=True),
    Column("checks", Json, nullable=False),
    Column("checked_at", Instant, nullable=False),
    Index("ix_partition_check_bucket", "bucket"),
)  # fmt: skip

#: Findings of a check result (C-028); ``seq`` keeps their order.
finding = Table(
    "finding", metadata,
    Column("run_id", Id, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("source_id", Word, nullable=False),
    Column("check_id", Key, nullable=False),
    Column("alert_type", Key, nullable=False),
    Column("severity", Word, nullable=False),
    Column("labels", Json),  # scope labels
    _text("message"),
    Column("details", Json),
    Column("task_ids", Json),
    Column("created_at", Instant, nullable=False),
    Index("ix_finding_created_at", "created_at"),
)  # fmt: skip

#: Values that people changed at run time (C-301); what is not here has its configured value.
threshold = Table(
    "threshold", metadata,
    Column("name", Key, primary_key=True),
    Column("value", Json, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Key, nullable=False),
)  # fmt: skip

threshold_journal = Table(
    "threshold_journal", metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("name", Key, nullable=False),
    Column("old", Json),
    Column("new", Json),
    Column("at", Instant, nullable=False),
    Column("actor", Key, nullable=False),
)  # fmt: skip

# --- alerts (A-xxx) -------------------------------------------------------------------------------------------------

#: One occurrence of a problem. ``open_fingerprint`` is the fingerprint while open, else NULL: its unique index is what
#: allows at most one open alert per fingerprint (A-001), also between two processes.
alert = Table(
    "alert", metadata,
    Column("alert_id", Id, primary_key=True),
    Column("fingerprint", Key, nullable=False),
    Column("open_fingerprint", Key),
    Column("type", Key, nullable=False),
    Column("alertname", Key, nullable=False),
    Column("source_id", Word, nullable=False),
    Column("labels", Json, nullable=False),
    Column("service", Key),
    Column("severity", Word, nullable=False),
    Column("severity_label", Word, nullable=False),
    Column("state", Word, nullable=False),  # pending, firing, inhibited, silenced, resolved
    Column("value", Double),
    Column("threshold", Double),
    _text("message"),
    Column("details", Json),
    Column("task_ids", Json),
    Column("active_at", Instant, nullable=False),
    Column("fired_at", Instant),
    Column("last_seen_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Column("occurrences", Integer, nullable=False, default=1),
    Column("acknowledged_at", Instant),
    Column("acknowledged_by", Key),
    _text("acknowledged_note"),
    Column("inhibited_by", Id),
    Column("silence_id", Id),
    Column("runbook_url", LongText),
    #: Route, last message and due instants of A-301 to A-304; NULL before the first message.
    Column("route", Key),
    Column("last_sent_at", Instant),
    Column("next_due_at", Instant),
    Column("is_drill", Boolean, nullable=False, default=False),
    UniqueConstraint("open_fingerprint"),
    Index("ix_alert_state_severity", "state", "severity"),
    Index("ix_alert_fingerprint", "fingerprint"),
    Index("ix_alert_active_at", "active_at"),
    Index("ix_alert_resolved_at", "resolved_at"),
)  # fmt: skip

#: Append only: every transition, acknowledgement, silence, severity change and message (A-204).
alert_event = Table(
    "alert_event", metadata,
    Column("event_id", Id, primary_key=True),
    Column("alert_id", Id, nullable=False),
    Column("at", Instant, nullable=False),
    Column("kind", Word, nullable=False),  # transition, severity, acknowledge, unacknowledge, silence, message
    Column("from_state", Word),
    Column("to_state", Word),
    Column("severity", Word),
    Column("actor", Key),
    _text("reason"),
    Index("ix_alert_event_alert_id_at", "alert_id", "at"),
    Index("ix_alert_event_at", "at"),
)  # fmt: skip

#: The newest result of every contributor to an alert (A-002): quick, full, deep, tick.
alert_contribution = Table(
    "alert_contribution", metadata,
    Column("fingerprint", Key, primary_key=True),
    Column("contributor", Word, primary_key=True),
    Column("is_bad", Boolean, nullable=False),
    Column("severity", Word),
    Column("run_id", Id),
    Column("at", Instant, nullable=False),
    Column("finding", Json),
)  # fmt: skip

#: What one channel knows of one alert: the timer of A-302 and the message that is on its way (A-501).
alert_channel = Table(
    "alert_channel", metadata,
    Column("alert_id", Id, primary_key=True),
    Column("channel", Key, primary_key=True),
    Column("notified_at", Instant),  # first message that arrived; NULL: none has
    Column("last_sent_at", Instant),  # last message, or last attempt of an abandoned one; repeats count from here
    Column("open_notification_id", Id),  # pending or in retry
    Index("ix_alert_channel_open_notification_id", "open_notification_id"),
)  # fmt: skip

#: Where a rule with `for` stands per scope (A-201, C-440, C-451), so that a restart forgets nothing.
rule_state = Table(
    "rule_state", metadata,
    Column("rule_id", Key, primary_key=True),
    Column("scope", Key, primary_key=True),  # fingerprint of the alert the rule would raise
    Column("active_at", Instant),
    Column("evaluated_at", Instant, nullable=False),
    Column("status", Word, nullable=False),  # true, false, insufficient_data, not_applicable, not_measurable, error
    Column("value", Double),
    Column("detail", Json),
)  # fmt: skip

#: Targets and series that existed once and are expected to go on (C-440).
expectation = Table(
    "expectation", metadata,
    Column("source_id", Word, primary_key=True),
    Column("kind", Word, primary_key=True),  # target, series, process
    Column("name", Key, primary_key=True),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("state", Json),  # health state machine: state, streaks (C-480)
)  # fmt: skip

#: One message to one channel (A-403); it exists before the first attempt and ends in sent, abandoned or suppressed.
notification = Table(
    "notification", metadata,
    Column("notification_id", Id, primary_key=True),
    Column("source_id", Word, nullable=False),
    Column("alert_ids", Json, nullable=False),
    Column("group_key", Key, nullable=False),
    Column("channel", Key, nullable=False),
    Column("channel_type", Word, nullable=False),
    Column("target", Key),
    Column("kind", Word, nullable=False),  # firing, repeat, severity_up, resolved, test, digest
    Column("state", Word, nullable=False),  # pending, sent, failed, abandoned, suppressed
    Column("severity", Word),
    Column("reason", Key),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Instant, nullable=False),
    Column("next_retry_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("final_at", Instant),
    Column("sent_at", Instant),
    Column("latency_ms", Double),
    Column("provider_code", Key),
    _text("error"),
    Column("via_digest", Id),
    Column("payload", Json),
    #: A dispatcher owns the row until then (A-403).
    Column("lease_owner", Key),
    Column("lease_until", Instant),
    Index("ix_notification_state_due_at", "state", "due_at"),
    Index("ix_notification_channel_state_due_at", "channel", "state", "due_at"),
    Index("ix_notification_sent_at", "sent_at"),
    Index("ix_notification_via_digest", "via_digest"),
    Index("ix_notification_channel_created_at", "channel", "created_at"),
    Index("ix_notification_created_at", "created_at"),
)  # fmt: skip

notification_alert = Table(
    "notification_alert", metadata,
    Column("alert_id", Id, primary_key=True),
    Column("notification_id", Id, primary_key=True),
)  # fmt: skip

#: Every attempt to deliver, by its instant (M-702, C-350).
notification_attempt = Table(
    "notification_attempt", metadata,
    Column("notification_id", Id, primary_key=True),
    Column("attempt_no", Integer, primary_key=True),
    Column("channel", Key, nullable=False),
    Column("at", Instant, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("latency_ms", Double),
    Column("http_status", Integer),
    Column("provider_code", Key),
    _text("error"),
    Index("ix_notification_attempt_channel_at", "channel", "at"),
)  # fmt: skip

silence = Table(
    "silence", metadata,
    Column("silence_id", Id, primary_key=True),
    Column("matchers", Json, nullable=False),
    Column("starts_at", Instant, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Column("creator", Key, nullable=False),
    _text("comment"),
    Column("created_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Index("ix_silence_ends_at", "ends_at"),
)  # fmt: skip

#: Journal of requests to restart or shed load (A-701 to A-704).
recovery_request = Table(
    "recovery_request", metadata,
    Column("request_id", Id, primary_key=True),
    Column("target", Key, nullable=False),
    Column("action", Word, nullable=False),
    Column("at", Instant, nullable=False),
    Column("result", Word, nullable=False),  # would_restart, executed, cooldown, exhausted, failed
    _text("reason"),
    Column("detail", Json),
    Index("ix_recovery_request_target_at", "target", "at"),
)  # fmt: skip

# --- repair (R-xxx) -------------------------------------------------------------------------------------------------

repair_plan = Table(
    "repair_plan", metadata,
    Column("plan_id", Id, primary_key=True),
    Column("source_id", Word, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Key, nullable=False),
    Column("mode", Word, nullable=False),
    Column("window_from", Instant),
    Column("window_to", Instant),
    Column("task_ids", Json),
    Column("unknown_ids", Json),
    Column("rejected_ids", Json),
    Column("max_tasks", Integer),
    Column("batch_size", Integer),
    Column("recoverers", Json),
    Column("config_hash", Key),
    Column("schema_fingerprint", Key),
    Column("plan_hash", Key),
    Column("state", Word, nullable=False),
    Column("counters", Json),
    Column("alert_id", Id),
    Column("before", Json),  # completeness of the window when planned
    _text("abort_reason"),
    Index("ix_repair_plan_source_id_created_at", "source_id", "created_at"),
)  # fmt: skip

repair_item = Table(
    "repair_item", metadata,
    Column("plan_id", Id, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("task_key", LongText, nullable=False),
    Column("class", Word, nullable=False),
    _text("reason"),
    Column("remote_status", Key),
    Column("remote_code", Key),
    Column("tries", Integer, nullable=False, default=0),
    Column("recoverer_id", Key),
    Column("task", Json),
    Column("rows", Json),
    Column("run_state", Word, nullable=False),  # pending, committed, already_present, failed, not_reached
    _text("run_reason"),
)  # fmt: skip

repair_approval = Table(
    "repair_approval", metadata,
    Column("plan_id", Id, primary_key=True),
    Column("plan_hash", Key, nullable=False),
    Column("rows_planned", Integer, nullable=False),
    Column("approver", Key, nullable=False),
    Column("at", Instant, nullable=False),
    _text("note"),
    Column("policy", Json),
    #: The run that used it up; an approval is good for one apply and its resumes.
    Column("used_by_run", Id),
)  # fmt: skip

repair_run = Table(
    "repair_run", metadata,
    Column("run_id", Id, primary_key=True),
    Column("plan_id", Id),
    Column("source_id", Word, nullable=False),
    Column("kind", Word, nullable=False),  # apply, resume, verify, rollback
    Column("dry_run", Boolean, nullable=False, default=False),
    Column("actor", Key, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("state", Word, nullable=False),  # running, finished, paused, locked, refused, failed
    _text("reason"),
    Column("counters", Json),
    Column("verification", Json),
    Column("report_path", LongText),
    Index("ix_repair_run_plan_id", "plan_id"),
    Index("ix_repair_run_started_at", "started_at"),
)  # fmt: skip

#: Copy of the journal kept beside the user's tables (R-101); that one decides.
repair_journal = Table(
    "repair_journal", metadata,
    Column("journal_id", Id, primary_key=True),
    Column("run_id", Id, nullable=False),
    Column("plan_id", Id),
    Column("source_id", Word, nullable=False),
    Column("op", Word, nullable=False),  # insert, self_revert, delete
    Column("target_table", Key, nullable=False),
    Column("pk", Json),
    Column("task_key", LongText, nullable=False),
    Column("natural_key", Key, nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("after_sha256", Key),
    Column("actor", Key, nullable=False),
    Column("at", Instant, nullable=False),
    Column("state", Word, nullable=False),  # intent, committed, void
    Column("rolled_back_by", Id),
    Index("ix_repair_journal_run_id", "run_id"),
    Index("ix_repair_journal_plan_id", "plan_id"),
)  # fmt: skip

# --- the product itself ---------------------------------------------------------------------------------------------

component_heartbeat = Table(
    "component_heartbeat", metadata,
    Column("component", Key, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("period_s", Double, nullable=False),
    Column("process_id", Key, nullable=False),
    Column("version", Word, nullable=False),
)  # fmt: skip

#: Switches and marks of the product that must survive a restart, for example disabled jobs (S-426).
setting = Table(
    "setting", metadata,
    Column("name", Key, primary_key=True),
    Column("value", Json),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Key),
)  # fmt: skip

#: Samples of the built-in collectors until an extraction cycle has moved them into the warehouse (E-124).
collected = Table(
    "collected", metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("source_id", Word, nullable=False),
    Column("entity", Word, nullable=False),  # process_sample, probe_result, ingest_counter
    Column("key", Key, nullable=False),
    Column("at", Instant, nullable=False),
    Column("row", Json, nullable=False),
    Column("moved_at", Instant),
    Index("ix_collected_entity_source_id_key_at", "entity", "source_id", "key", "at"),
    Index("ix_collected_moved_at", "moved_at"),
    Index("ix_collected_at", "at"),
)  # fmt: skip

#: Runs of the product's own jobs (S-702), moved into the warehouse as source ``_self``.
self_job_run = Table(
    "self_job_run", metadata,
    Column("run_key", Key, primary_key=True),
    Column("job_id", Key, nullable=False),
    Column("scheduled_at", Instant),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("duration_ms", Double),
    Column("outcome", Word, nullable=False),
    _text("error_message"),
    Column("trigger", Word, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_self_job_run_job_id_started_at", "job_id", "started_at"),
    Index("ix_self_job_run_changed_at", "changed_at"),
)  # fmt: skip

#: Who did what through API, command line or Dagster; each row carries the hash of the one before it.
audit_log = Table(
    "audit_log", metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", Key, nullable=False),
    Column("action", Key, nullable=False),
    Column("object", Key, nullable=False),
    Column("detail", Json),
    Column("previous_sha256", Key, nullable=False),
    Column("sha256", Key, nullable=False),
)  # fmt: skip
