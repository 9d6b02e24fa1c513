"""Initial tables."""

import sqlalchemy as sa
from alembic import op

from monitoring_pipelines.state import types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.create_table(
        "alert",
        sa.Column("alert_id", types.Id, nullable=False),
        sa.Column("fingerprint", types.Key, nullable=False),
        sa.Column("open_fingerprint", types.Key, nullable=True),
        sa.Column("type", types.Key, nullable=False),
        sa.Column("alertname", types.Key, nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("labels", types.Json(), nullable=False),
        sa.Column("service", types.Key, nullable=True),
        sa.Column("severity", types.Word, nullable=False),
        sa.Column("severity_label", types.Word, nullable=False),
        sa.Column("state", types.Word, nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("message", types.LongText, nullable=True),
        sa.Column("details", types.Json(), nullable=True),
        sa.Column("task_ids", types.Json(), nullable=True),
        sa.Column("active_at", types.Instant(), nullable=False),
        sa.Column("fired_at", types.Instant(), nullable=True),
        sa.Column("last_seen_at", types.Instant(), nullable=False),
        sa.Column("resolved_at", types.Instant(), nullable=True),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("acknowledged_at", types.Instant(), nullable=True),
        sa.Column("acknowledged_by", types.Key, nullable=True),
        sa.Column("acknowledged_note", types.LongText, nullable=True),
        sa.Column("inhibited_by", types.Id, nullable=True),
        sa.Column("silence_id", types.Id, nullable=True),
        sa.Column("runbook_url", types.LongText, nullable=True),
        sa.Column("route", types.Key, nullable=True),
        sa.Column("last_sent_at", types.Instant(), nullable=True),
        sa.Column("next_due_at", types.Instant(), nullable=True),
        sa.Column("is_drill", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alert")),
        sa.UniqueConstraint("open_fingerprint", name=op.f("uq_alert_open_fingerprint")),
    )
    with op.batch_alter_table("alert", schema=None) as batch_op:
        batch_op.create_index("ix_alert_active_at", ["active_at"], unique=False)
        batch_op.create_index("ix_alert_fingerprint", ["fingerprint"], unique=False)
        batch_op.create_index("ix_alert_resolved_at", ["resolved_at"], unique=False)
        batch_op.create_index("ix_alert_state_severity", ["state", "severity"], unique=False)

    op.create_table(
        "alert_contribution",
        sa.Column("fingerprint", types.Key, nullable=False),
        sa.Column("contributor", types.Word, nullable=False),
        sa.Column("is_bad", sa.Boolean(), nullable=False),
        sa.Column("severity", types.Word, nullable=True),
        sa.Column("run_id", types.Id, nullable=True),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("finding", types.Json(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", "contributor", name=op.f("pk_alert_contribution")),
    )
    op.create_table(
        "alert_event",
        sa.Column("event_id", types.Id, nullable=False),
        sa.Column("alert_id", types.Id, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("kind", types.Word, nullable=False),
        sa.Column("from_state", types.Word, nullable=True),
        sa.Column("to_state", types.Word, nullable=True),
        sa.Column("severity", types.Word, nullable=True),
        sa.Column("actor", types.Key, nullable=True),
        sa.Column("reason", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_alert_event")),
    )
    with op.batch_alter_table("alert_event", schema=None) as batch_op:
        batch_op.create_index("ix_alert_event_alert_id_at", ["alert_id", "at"], unique=False)
        batch_op.create_index("ix_alert_event_at", ["at"], unique=False)

    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("actor", types.Key, nullable=False),
        sa.Column("action", types.Key, nullable=False),
        sa.Column("object", types.Key, nullable=False),
        sa.Column("detail", types.Json(), nullable=True),
        sa.Column("previous_sha256", types.Key, nullable=False),
        sa.Column("sha256", types.Key, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "check_result",
        sa.Column("run_id", types.Id, nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("check_id", types.Key, nullable=False),
        sa.Column("status", types.Word, nullable=False),
        sa.Column("severity", types.Word, nullable=True),
        sa.Column("health", types.Word, nullable=True),
        sa.Column("window_from", types.Instant(), nullable=True),
        sa.Column("window_to", types.Instant(), nullable=True),
        sa.Column("metrics", types.Json(), nullable=True),
        sa.Column("expectation", types.Json(), nullable=True),
        sa.Column("as_of", types.Instant(), nullable=True),
        sa.Column("stale", sa.Boolean(), nullable=False),
        sa.Column("message", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "source_id", "check_id", name=op.f("pk_check_result")),
    )
    with op.batch_alter_table("check_result", schema=None) as batch_op:
        batch_op.create_index(
            "ix_check_result_source_id_check_id_run_id", ["source_id", "check_id", "run_id"], unique=False
        )

    op.create_table(
        "check_run",
        sa.Column("run_id", types.Id, nullable=False),
        sa.Column("type", types.Word, nullable=False),
        sa.Column("trigger", types.Word, nullable=False),
        sa.Column("status", types.Word, nullable=False),
        sa.Column("scheduled_at", types.Instant(), nullable=False),
        sa.Column("started_at", types.Instant(), nullable=True),
        sa.Column("ended_at", types.Instant(), nullable=True),
        sa.Column("window_from", types.Instant(), nullable=True),
        sa.Column("window_to", types.Instant(), nullable=True),
        sa.Column("window_hours", sa.Integer(), nullable=True),
        sa.Column("sources", types.Json(), nullable=True),
        sa.Column("total_alerts", sa.Integer(), nullable=False),
        sa.Column("alerts_by_severity", types.Json(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("error", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_check_run")),
    )
    with op.batch_alter_table("check_run", schema=None) as batch_op:
        batch_op.create_index("ix_check_run_scheduled_at", ["scheduled_at"], unique=False)
        batch_op.create_index("ix_check_run_type_scheduled_at", ["type", "scheduled_at"], unique=False)

    op.create_table(
        "collected",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("entity", types.Word, nullable=False),
        sa.Column("key", types.Key, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("row", types.Json(), nullable=False),
        sa.Column("moved_at", types.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_collected")),
    )
    with op.batch_alter_table("collected", schema=None) as batch_op:
        batch_op.create_index(
            "ix_collected_entity_source_id_key_at", ["entity", "source_id", "key", "at"], unique=False
        )
        batch_op.create_index("ix_collected_moved_at", ["moved_at"], unique=False)

    op.create_table(
        "component_heartbeat",
        sa.Column("component", types.Key, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("period_s", sa.Double(), nullable=False),
        sa.Column("process_id", types.Key, nullable=False),
        sa.Column("version", types.Word, nullable=False),
        sa.PrimaryKeyConstraint("component", name=op.f("pk_component_heartbeat")),
    )
    op.create_table(
        "expectation",
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("kind", types.Word, nullable=False),
        sa.Column("name", types.Key, nullable=False),
        sa.Column("first_seen_at", types.Instant(), nullable=False),
        sa.Column("last_seen_at", types.Instant(), nullable=False),
        sa.Column("retired_at", types.Instant(), nullable=True),
        sa.Column("state", types.Json(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "kind", "name", name=op.f("pk_expectation")),
    )
    op.create_table(
        "finding",
        sa.Column("run_id", types.Id, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("check_id", types.Key, nullable=False),
        sa.Column("alert_type", types.Key, nullable=False),
        sa.Column("severity", types.Word, nullable=False),
        sa.Column("labels", types.Json(), nullable=True),
        sa.Column("message", types.LongText, nullable=True),
        sa.Column("details", types.Json(), nullable=True),
        sa.Column("task_ids", types.Json(), nullable=True),
        sa.Column("created_at", types.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_finding")),
    )
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.create_index("ix_finding_created_at", ["created_at"], unique=False)

    op.create_table(
        "notification",
        sa.Column("notification_id", types.Id, nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("alert_ids", types.Json(), nullable=False),
        sa.Column("group_key", types.Key, nullable=False),
        sa.Column("channel", types.Key, nullable=False),
        sa.Column("channel_type", types.Word, nullable=False),
        sa.Column("target", types.Key, nullable=True),
        sa.Column("kind", types.Word, nullable=False),
        sa.Column("state", types.Word, nullable=False),
        sa.Column("severity", types.Word, nullable=True),
        sa.Column("reason", types.Key, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", types.Instant(), nullable=False),
        sa.Column("next_retry_at", types.Instant(), nullable=True),
        sa.Column("created_at", types.Instant(), nullable=False),
        sa.Column("final_at", types.Instant(), nullable=True),
        sa.Column("sent_at", types.Instant(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("provider_code", types.Key, nullable=True),
        sa.Column("error", types.LongText, nullable=True),
        sa.Column("via_digest", types.Id, nullable=True),
        sa.Column("payload", types.Json(), nullable=True),
        sa.Column("lease_owner", types.Key, nullable=True),
        sa.Column("lease_until", types.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("notification_id", name=op.f("pk_notification")),
    )
    with op.batch_alter_table("notification", schema=None) as batch_op:
        batch_op.create_index("ix_notification_channel_created_at", ["channel", "created_at"], unique=False)
        batch_op.create_index("ix_notification_created_at", ["created_at"], unique=False)
        batch_op.create_index("ix_notification_state_due_at", ["state", "due_at"], unique=False)

    op.create_table(
        "notification_alert",
        sa.Column("alert_id", types.Id, nullable=False),
        sa.Column("notification_id", types.Id, nullable=False),
        sa.PrimaryKeyConstraint("alert_id", "notification_id", name=op.f("pk_notification_alert")),
    )
    op.create_table(
        "notification_attempt",
        sa.Column("notification_id", types.Id, nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("channel", types.Key, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("provider_code", types.Key, nullable=True),
        sa.Column("error", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("notification_id", "attempt_no", name=op.f("pk_notification_attempt")),
    )
    with op.batch_alter_table("notification_attempt", schema=None) as batch_op:
        batch_op.create_index("ix_notification_attempt_channel_at", ["channel", "at"], unique=False)

    op.create_table(
        "recovery_request",
        sa.Column("request_id", types.Id, nullable=False),
        sa.Column("target", types.Key, nullable=False),
        sa.Column("action", types.Word, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("result", types.Word, nullable=False),
        sa.Column("reason", types.LongText, nullable=True),
        sa.Column("detail", types.Json(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_recovery_request")),
    )
    with op.batch_alter_table("recovery_request", schema=None) as batch_op:
        batch_op.create_index("ix_recovery_request_target_at", ["target", "at"], unique=False)

    op.create_table(
        "repair_approval",
        sa.Column("plan_id", types.Id, nullable=False),
        sa.Column("plan_hash", types.Key, nullable=False),
        sa.Column("rows_planned", sa.Integer(), nullable=False),
        sa.Column("approver", types.Key, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("note", types.LongText, nullable=True),
        sa.Column("policy", types.Json(), nullable=True),
        sa.Column("used_by_run", types.Id, nullable=True),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_repair_approval")),
    )
    op.create_table(
        "repair_item",
        sa.Column("plan_id", types.Id, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("task_key", types.LongText, nullable=False),
        sa.Column("class", types.Word, nullable=False),
        sa.Column("reason", types.LongText, nullable=True),
        sa.Column("remote_status", types.Key, nullable=True),
        sa.Column("remote_code", types.Key, nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("recoverer_id", types.Key, nullable=True),
        sa.Column("task", types.Json(), nullable=True),
        sa.Column("rows", types.Json(), nullable=True),
        sa.Column("run_state", types.Word, nullable=False),
        sa.Column("run_reason", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("plan_id", "seq", name=op.f("pk_repair_item")),
    )
    op.create_table(
        "repair_journal",
        sa.Column("journal_id", types.Id, nullable=False),
        sa.Column("run_id", types.Id, nullable=False),
        sa.Column("plan_id", types.Id, nullable=True),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("op", types.Word, nullable=False),
        sa.Column("target_table", types.Key, nullable=False),
        sa.Column("pk", types.Json(), nullable=True),
        sa.Column("task_key", types.LongText, nullable=False),
        sa.Column("natural_key", types.Key, nullable=False),
        sa.Column("before", types.Json(), nullable=True),
        sa.Column("after", types.Json(), nullable=True),
        sa.Column("after_sha256", types.Key, nullable=True),
        sa.Column("actor", types.Key, nullable=False),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("state", types.Word, nullable=False),
        sa.Column("rolled_back_by", types.Id, nullable=True),
        sa.PrimaryKeyConstraint("journal_id", name=op.f("pk_repair_journal")),
    )
    with op.batch_alter_table("repair_journal", schema=None) as batch_op:
        batch_op.create_index("ix_repair_journal_plan_id", ["plan_id"], unique=False)
        batch_op.create_index("ix_repair_journal_run_id", ["run_id"], unique=False)

    op.create_table(
        "repair_plan",
        sa.Column("plan_id", types.Id, nullable=False),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("created_at", types.Instant(), nullable=False),
        sa.Column("created_by", types.Key, nullable=False),
        sa.Column("mode", types.Word, nullable=False),
        sa.Column("window_from", types.Instant(), nullable=True),
        sa.Column("window_to", types.Instant(), nullable=True),
        sa.Column("task_ids", types.Json(), nullable=True),
        sa.Column("unknown_ids", types.Json(), nullable=True),
        sa.Column("rejected_ids", types.Json(), nullable=True),
        sa.Column("max_tasks", sa.Integer(), nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("recoverers", types.Json(), nullable=True),
        sa.Column("config_hash", types.Key, nullable=True),
        sa.Column("schema_fingerprint", types.Key, nullable=True),
        sa.Column("plan_hash", types.Key, nullable=True),
        sa.Column("state", types.Word, nullable=False),
        sa.Column("counters", types.Json(), nullable=True),
        sa.Column("alert_id", types.Id, nullable=True),
        sa.Column("before", types.Json(), nullable=True),
        sa.Column("abort_reason", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_repair_plan")),
    )
    with op.batch_alter_table("repair_plan", schema=None) as batch_op:
        batch_op.create_index("ix_repair_plan_source_id_created_at", ["source_id", "created_at"], unique=False)

    op.create_table(
        "repair_run",
        sa.Column("run_id", types.Id, nullable=False),
        sa.Column("plan_id", types.Id, nullable=True),
        sa.Column("source_id", types.Word, nullable=False),
        sa.Column("kind", types.Word, nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("actor", types.Key, nullable=False),
        sa.Column("started_at", types.Instant(), nullable=False),
        sa.Column("ended_at", types.Instant(), nullable=True),
        sa.Column("state", types.Word, nullable=False),
        sa.Column("reason", types.LongText, nullable=True),
        sa.Column("counters", types.Json(), nullable=True),
        sa.Column("verification", types.Json(), nullable=True),
        sa.Column("report_path", types.LongText, nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_repair_run")),
    )
    with op.batch_alter_table("repair_run", schema=None) as batch_op:
        batch_op.create_index("ix_repair_run_plan_id", ["plan_id"], unique=False)
        batch_op.create_index("ix_repair_run_started_at", ["started_at"], unique=False)

    op.create_table(
        "rule_state",
        sa.Column("rule_id", types.Key, nullable=False),
        sa.Column("scope", types.Key, nullable=False),
        sa.Column("active_at", types.Instant(), nullable=True),
        sa.Column("evaluated_at", types.Instant(), nullable=False),
        sa.Column("status", types.Word, nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("detail", types.Json(), nullable=True),
        sa.PrimaryKeyConstraint("rule_id", "scope", name=op.f("pk_rule_state")),
    )
    op.create_table(
        "self_job_run",
        sa.Column("run_key", types.Key, nullable=False),
        sa.Column("job_id", types.Key, nullable=False),
        sa.Column("scheduled_at", types.Instant(), nullable=True),
        sa.Column("started_at", types.Instant(), nullable=True),
        sa.Column("ended_at", types.Instant(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("outcome", types.Word, nullable=False),
        sa.Column("error_message", types.LongText, nullable=True),
        sa.Column("trigger", types.Word, nullable=False),
        sa.Column("changed_at", types.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_self_job_run")),
    )
    with op.batch_alter_table("self_job_run", schema=None) as batch_op:
        batch_op.create_index("ix_self_job_run_changed_at", ["changed_at"], unique=False)
        batch_op.create_index("ix_self_job_run_job_id_started_at", ["job_id", "started_at"], unique=False)

    op.create_table(
        "setting",
        sa.Column("name", types.Key, nullable=False),
        sa.Column("value", types.Json(), nullable=True),
        sa.Column("updated_at", types.Instant(), nullable=False),
        sa.Column("updated_by", types.Key, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "silence",
        sa.Column("silence_id", types.Id, nullable=False),
        sa.Column("matchers", types.Json(), nullable=False),
        sa.Column("starts_at", types.Instant(), nullable=False),
        sa.Column("ends_at", types.Instant(), nullable=False),
        sa.Column("creator", types.Key, nullable=False),
        sa.Column("comment", types.LongText, nullable=True),
        sa.Column("created_at", types.Instant(), nullable=False),
        sa.Column("deleted_at", types.Instant(), nullable=True),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silence")),
    )
    with op.batch_alter_table("silence", schema=None) as batch_op:
        batch_op.create_index("ix_silence_ends_at", ["ends_at"], unique=False)

    op.create_table(
        "threshold",
        sa.Column("name", types.Key, nullable=False),
        sa.Column("value", types.Json(), nullable=False),
        sa.Column("updated_at", types.Instant(), nullable=False),
        sa.Column("updated_by", types.Key, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_threshold")),
    )
    op.create_table(
        "threshold_journal",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", types.Key, nullable=False),
        sa.Column("old", types.Json(), nullable=True),
        sa.Column("new", types.Json(), nullable=True),
        sa.Column("at", types.Instant(), nullable=False),
        sa.Column("actor", types.Key, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_threshold_journal")),
    )
