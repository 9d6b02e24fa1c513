"""Source tables of the presets as their platforms create them, for tests of reading.

What belongs here: DDL in MySQL's dialect and a configuration that reads it. What does not: rows and expectations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

WAVERLESS = """
create table tasks (id bigint auto_increment primary key, task_id varchar(255) not null unique collate utf8mb4_bin,
  endpoint varchar(255), status varchar(50), worker_id varchar(255), input json, output json, error text,
  created_at datetime(3), started_at datetime(3), completed_at datetime(3), updated_at datetime(3),
  key (created_at), key (status, completed_at));
create table task_events (id bigint auto_increment primary key, event_id varchar(64) not null unique, task_id varchar(255),
  endpoint varchar(255), event_type varchar(50), event_time datetime(3), worker_id varchar(255), error_message text,
  queue_wait_ms int, execution_duration_ms int, total_duration_ms int, key (event_time));
create table workers (id bigint auto_increment primary key, worker_id varchar(255) unique, endpoint varchar(255),
  status varchar(50), concurrency int, current_jobs int, created_at datetime(3), updated_at datetime(3),
  pod_created_at datetime(3), pod_started_at datetime(3), pod_ready_at datetime(3), terminated_at datetime(3),
  cold_start_duration_ms bigint, last_heartbeat datetime(3), last_task_time datetime(3), failure_type varchar(64),
  failure_reason varchar(255));
create table status_events (id bigint auto_increment primary key, worker_id varchar(255), endpoint varchar(255),
  event_type varchar(50), created_at datetime(3), old_status varchar(50), new_status varchar(50));
create table worker_resource_snapshots (id bigint auto_increment primary key, worker_id varchar(255),
  endpoint varchar(255), snapshot_at timestamp(3) null, is_idle tinyint, current_task_id varchar(255),
  gpu_utilization decimal(5,2), gpu_memory_used_mb int, gpu_memory_total_mb int, cpu_utilization decimal(5,2),
  memory_used_mb int, memory_total_mb int, key (snapshot_at));
"""
TKTOOL = """
create table tasks (task_id varchar(50) primary key, workflow_id varchar(50), status varchar(20),
  runninghub_task_id varchar(64), created_at datetime, started_at datetime, completed_at datetime, timeout_at datetime);
create table task_outputs (id bigint auto_increment primary key, task_id varchar(36), node_id varchar(50),
  name varchar(255), file_type varchar(20), file_size bigint, file_url text, created_at datetime);
"""
TTS = """
create table tts_texts (id bigint auto_increment primary key, user_id bigint, content text, is_deleted tinyint default 0,
  created_at timestamp(3) null, updated_at timestamp(3) null, key (updated_at), key (created_at));
create table tts_audios (id bigint auto_increment primary key, text_id bigint, version_num int, filename varchar(255),
  oss_object_key varchar(255), file_size bigint, is_deleted tinyint default 0, created_at timestamp(3) null,
  updated_at timestamp(3) null, key (updated_at), key (created_at));
"""
SCHEDULER = """
create table scheduler_task_configs (id bigint auto_increment primary key, task_id varchar(100) unique, task_name varchar(100),
  owner varchar(50), category varchar(50), description text, is_enabled tinyint, cron_config json, risk_level varchar(20),
  sla_config json, dependencies_tables json, updated_at datetime);
create table mp_job_runs (id bigint auto_increment primary key, run_key varchar(100) not null unique, job_id varchar(100),
  scheduled_at datetime(6), started_at datetime(6), ended_at datetime(6), duration_ms decimal(20,3), outcome varchar(20),
  error_message text, attempt int, `trigger` varchar(20), key (started_at));
"""
TABLES = {"waverless": WAVERLESS, "tktool": TKTOOL, "tts": TTS, "scheduler": SCHEDULER}
VARIABLE = "MP_TEST_READ_DSN"


def settings_for(directory: Path, preset: str | None, extra: str = "", head: str = "") -> Settings:
    """A configuration with one source ``shop`` whose DSN is in the environment variable ``VARIABLE``.

    Args:
        directory: Where the file and the data go.
        preset: Preset of the source.
        extra: More lines of the source, unindented.
        head: More top-level lines.
    """
    from monitoring_pipelines.config import load_settings

    lines = [f"preset: {preset}"] if preset else []
    lines += extra.splitlines()
    body = "".join(f"    {line}\n" for line in lines)
    path = directory / "monitoring.yaml"
    path.write_text(f"version: 1\n{head}\nsources:\n  - id: shop\n    read_dsn_env: {VARIABLE}\n{body}", "utf-8")
    return load_settings(path)
