"""Presets: every row of entities §9, and the status maps of §3."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring_pipelines.config.loader import load_text
from monitoring_pipelines.config.presets import NAMES, load_preset
from monitoring_pipelines.config.source_schema import ColumnMapping, SourceSettings
from monitoring_pipelines.entities import entities


def preset(name: str, tables: str = "") -> SourceSettings:
    text = f"sources:\n- {{id: s, preset: {name}, read_dsn_env: X, tables: {{{tables}}}}}\n"
    return load_text(text, "m.yaml", Path("/")).sources[0]


def brief(column: ColumnMapping) -> object:
    """A column as the tables of §9 write it."""
    if column.kind == "const":
        return ("const", column.const)
    if column.derive:
        return ("derive", column.derive)
    text = column.column if column.column is not None else str(column.expr).replace("`", "")
    return (text, "nullif") if column.null_if else text


def columns(source: SourceSettings, entity: str, index: int = 0) -> dict[str, object]:
    return {name: brief(column) for name, column in source.tables[entity][index].columns.items()}


def test_waverless_task() -> None:
    """§9.1 task, §3 status map, E-508 values."""
    s = preset("waverless")
    assert (s.timeouts.mode, s.timeouts.limit_s, s.retention_days) == ("source", 3600, 10)
    task = s.tables["task"][0]
    assert (task.table, task.row_id, task.strategy, task.updated_at) == ("tasks", "id", "append", None)
    assert columns(s, "task") == {
        "task_key": "task_id", "endpoint": "endpoint", "status": "status", "worker_key": ("worker_id", "nullif"),
        "created_at": "created_at", "started_at": "started_at", "updated_at": "updated_at",
        "ended_at": "completed_at", "error_message": "left(error, 500)", "output_expected": ("const", True),
    }  # fmt: skip
    assert task.columns["status"].map == {
        "PENDING": "queued", "IN_PROGRESS": "running", "COMPLETED": "succeeded", "FAILED": "failed",
        "CANCELLED": "cancelled",
    }  # fmt: skip
    assert s.tables["task_output"][0].inline is not None


def test_waverless_task_events() -> None:
    """§9.1 task_event: all thirteen words."""
    s = preset("waverless")
    assert columns(s, "task_event") == {
        "event_key": "event_id", "task_key": "task_id", "endpoint": "endpoint", "event_type": "event_type",
        "at": "event_time", "worker_key": ("worker_id", "nullif"),
        "error_message": ("left(error_message, 500)", "nullif"), "src_queue_wait_ms": "queue_wait_ms",
        "src_execution_ms": "execution_duration_ms", "src_total_ms": "total_duration_ms",
    }  # fmt: skip
    assert s.tables["task_event"][0].row_id == "id"
    assert s.tables["task_event"][0].columns["event_type"].map == {
        "TASK_CREATED": "created", "TASK_QUEUED": "queued", "TASK_ASSIGNED": "assigned", "TASK_STARTED": "started",
        "TASK_COMPLETED": "completed", "TASK_FAILED": "failed", "TASK_TIMEOUT": "timeout",
        "TASK_CANCELLED": "cancelled", "TASK_ORPHANED": "orphaned", "WORKER_LOST": "orphaned",
        "TASK_REQUEUED": "requeued", "TASK_RECOVERED": "info", "WORKER_CHANGED": "info",
    }  # fmt: skip


def test_waverless_workers() -> None:
    """§9.1 worker, worker_event (two tables), worker_snapshot, endpoint."""
    s = preset("waverless")
    assert columns(s, "worker") == {
        "worker_key": "worker_id", "endpoint": "endpoint", "status": "status", "concurrency": "concurrency",
        "current_jobs": "current_jobs", "created_at": "created_at", "pod_created_at": "pod_created_at",
        "pod_started_at": "pod_started_at", "terminated_at": "terminated_at", "ready_at": "pod_ready_at",
        "cold_start_ms": "cold_start_duration_ms", "last_heartbeat_at": "last_heartbeat",
        "last_task_at": "last_task_time", "failure_type": "failure_type", "failure_reason": "failure_reason",
    }  # fmt: skip
    assert s.tables["worker"][0].columns["status"].map == {
        word.upper(): word for word in ("starting", "online", "busy", "draining", "offline")
    }
    assert columns(s, "worker_event", 0) == {
        "event_key": "event_id", "worker_key": "worker_id", "endpoint": "endpoint", "event_type": "event_type",
        "at": "event_time", "task_key": ("task_id", "nullif"), "cold_start_ms": "cold_start_duration_ms",
    }  # fmt: skip
    assert columns(s, "worker_event", 1) == {
        "event_key": "concat('s', id)", "worker_key": "worker_id", "endpoint": "endpoint",
        "event_type": "event_type", "at": "created_at", "old_status": "old_status", "new_status": "new_status",
    }  # fmt: skip
    assert s.tables["worker_event"][1].columns["event_type"].map == {
        "STATUS_CHANGE": "status_change", "PHASE_CHANGE": "status_change", "FAILURE": "failure",
        "RECOVERY": "recovery",
    }  # fmt: skip
    snapshot = columns(s, "worker_snapshot")
    assert (snapshot["snapshot_key"], snapshot["at"]) == ("id", "snapshot_at")
    assert snapshot["current_task_key"] == ("current_task_id", "nullif")
    assert columns(s, "endpoint") == {
        "endpoint": "endpoint", "status": "status", "replicas": "replicas", "gpu_count": "gpu_count",
        "max_pending_tasks": "max_pending_tasks", "registered_at": "created_at",
        "task_timeout_s": ("task_timeout", "nullif"),
    }  # fmt: skip
    optional = {name: [t.optional for t in tables] for name, tables in s.tables.items()}
    assert optional == {
        "task": [False], "task_event": [False], "task_output": [False], "endpoint": [True], "worker": [False],
        "worker_event": [True, True], "worker_snapshot": [True],
    }  # fmt: skip


def test_tts() -> None:
    """§9.2: statuses from attempts or outputs, TIMESTAMP times, size limit, soft deletion."""
    s = preset("tts")
    assert (s.timeouts.mode, s.timeouts.limit_s, s.min_output_bytes) == ("derive", 2400, 5000)
    assert columns(s, "task") == {
        "task_key": "id", "endpoint": ("const", "tts"), "owner_key": "user_id", "created_at": "created_at",
        "updated_at": "updated_at", "status": ("derive", "outputs"), "output_expected": ("const", True),
    }  # fmt: skip
    task, output, event = s.tables["task"][0], s.tables["task_output"][0], s.tables["task_event"][0]
    assert str(task.deleted_when) == str(output.deleted_when) == "`is_deleted` = 1"
    assert (task.strategy, task.row_id, task.updated_at) == ("updated", "id", "updated_at")
    assert task.columns["created_at"].time == output.columns["created_at"].time == "timestamp"
    assert columns(s, "task_output") == {
        "output_key": "id", "task_key": "text_id", "node_key": "version_num", "name": "filename",
        "uri": "oss_object_key", "version": "version_num", "size_bytes": "file_size",
        "media_type": "lower(substring_index(filename, '.', (-1)))".replace("(-1)", "-1"),
        "created_at": "created_at", "updated_at": "updated_at",
    }  # fmt: skip
    assert (event.table, event.optional, event.columns["task_key"].column) == ("mp_task_events", True, "task_key")


def test_tts_status_columns_on_the_audio_table() -> None:
    """§9.2 last row: used when the team names that table."""
    s = preset("tts", "task: {table: tts_audios, columns: {started_at: {time: epoch_s}}}")
    assert len(s.tables["task"]) == 1
    task = s.tables["task"][0]
    assert (task.table, task.columns["status"].column, task.columns["task_key"].column) == (
        "tts_audios", "task_status", "text_id",
    )  # fmt: skip
    assert (task.columns["started_at"].column, task.columns["started_at"].time) == ("start_time", "epoch_s")
    assert task.columns["ended_at"].column == "completed_time"
    assert task.columns["status"].map is not None
    assert task.columns["status"].map["processing"] == "running"


def test_tktool() -> None:
    """§9.3: late failures are timeouts, size 0 is unknown, outputs by task id."""
    s = preset("tktool")
    assert (s.timeouts.mode, s.timeouts.limit_s) == ("derive", 36000)
    task = s.tables["task"][0]
    assert (task.strategy, task.row_id, task.updated_at) == ("rescan", None, None)
    assert columns(s, "task") == {
        "task_key": "task_id", "endpoint": "workflow_id",
        "status": "case when (status = 'FAILED') and (completed_at > timeout_at) then 'TIMEOUT' else status end",
        "remote_id": ("runninghub_task_id", "nullif"), "created_at": "created_at", "started_at": "started_at",
        "ended_at": "completed_at", "deadline_at": "timeout_at", "output_expected": ("const", True),
    }  # fmt: skip
    assert task.columns["status"].map == {
        "READY": "created", "PENDING": "queued", "QUEUED": "queued", "RUNNING": "running", "SUCCESS": "succeeded",
        "FAILED": "failed", "STOPPED": "cancelled", "CANCELLED": "cancelled", "TIMEOUT": "timed_out",
    }  # fmt: skip
    assert columns(s, "task_output") == {
        "output_key": "id", "task_key": "task_id", "node_key": "node_id", "name": "name",
        "media_type": "file_type", "size_bytes": ("file_size", "nullif"), "uri": "left(file_url, 1000)",
        "created_at": "created_at",
    }  # fmt: skip


def test_scheduler() -> None:
    """§9.4: jobs, runs, notifications."""
    s = preset("scheduler")
    job = columns(s, "job")
    assert job["job_id"] == "task_id"
    assert job["enabled"] == "is_enabled"
    assert job["sla_seconds"] == "left(json_value(sla_config, '$.max_execution_time_seconds'), 255)"
    assert s.tables["job_run"][0].columns["outcome"].map == {
        "success": "success", "failed": "failure", "failure": "failure", "timeout": "timeout", "missed": "missed",
        "skipped": "skipped", "started": "running", "running": "running",
    }  # fmt: skip
    notification = s.tables["notification"][0]
    assert notification.optional
    assert notification.columns["state"].map == {
        "PENDING": "pending", "QUEUED": "pending", "SENT": "sent", "FAILED": "failed", "ABANDONED": "abandoned",
    }  # fmt: skip
    assert columns(s, "notification")["attempts"] == "retry_count + 1"
    assert columns(s, "notification")["channel"] == "upper(notify_channel)"


def test_collector() -> None:
    """§9.5: tables with unified names, and the metric names of scraped pages."""
    s = preset("collector")
    assert {name: tables[0].table for name, tables in s.tables.items()} == {
        "process_sample": "mp_process_samples", "ingest_counter": "mp_ingest_samples",
        "probe_result": "mp_probe_results",
    }  # fmt: skip
    assert all(tables[0].optional for tables in s.tables.values())
    scrape = load_preset("collector")["scrape"]
    assert scrape["process_sample"]["rss_bytes"][0] == {"metric": "process_resident_memory_bytes"}
    assert scrape["process_sample"]["rss_bytes"][1] == {"metric": "rss_mb", "unit": "mb"}
    assert set(scrape["process_sample"]) <= {c.name for c in entities()["process_sample"].columns}
    assert "lsr_all_account" in scrape["ingest_counter"]["series"]


@pytest.mark.parametrize("name", NAMES)
def test_presets_never_read_payload_columns(name: str) -> None:
    """E-404: none of the listed columns is transferred by any preset."""
    banned = {
        "input", "extend", "webhook_url", "metadata", "runtime_state", "jobs_in_progress", "failure_details",
        "pending_message", "content", "task_description", "task_data", "alert_data",
    }  # fmt: skip
    for tables in preset(name).tables.values():
        for table in tables:
            assert banned.isdisjoint(table.source_columns())
            for column in table.columns.values():
                uses = column.source_expr.payload_uses() if column.source_expr else set()
                assert not any(use.column == "output" and use.how != "null_test" for use in uses)
