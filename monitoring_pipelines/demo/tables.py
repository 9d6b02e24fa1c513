"""The tables of the simulated platforms, as their own teams would have created them.

What belongs here: columns in row order, keys and indexes, and their DDL for MySQL/MariaDB and SQLite. What does not:
rows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """One table; the first column is the primary key, an auto-increment id unless ``auto`` is false."""

    name: str
    columns: tuple[tuple[str, str], ...]
    unique: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    auto: bool = True

    @property
    def column_names(self) -> list[str]:
        """Names in row order."""
        return [name for name, _ in self.columns]

    def create_mysql(self) -> str:
        """``CREATE TABLE`` for MySQL 8+ and MariaDB, indexes included."""
        key = self.columns[0][0]
        lines = [
            f"`{name}` {kind}{' NOT NULL AUTO_INCREMENT' if self.auto and name == key else ''}"
            for name, kind in self.columns
        ]
        lines.append(f"PRIMARY KEY (`{key}`)")
        lines += [f"UNIQUE KEY `uk_{self.name}_{c}` (`{c}`)" for c in self.unique]
        for index in self.indexes:
            columns = ", ".join(f"`{c.strip()}`" for c in index.split(","))
            lines.append(f"KEY `idx_{self.name}_{index.replace(',', '_')}` ({columns})")
        body = ",\n  ".join(lines)
        return f"CREATE TABLE `{self.name}` (\n  {body}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"

    def create_sqlite(self) -> str:
        """``CREATE TABLE`` for SQLite, without indexes (they follow the bulk load)."""
        key = self.columns[0][0]
        lines = []
        for name, kind in self.columns:
            if name == key:
                kind = "INTEGER PRIMARY KEY AUTOINCREMENT" if self.auto else f"{kind} PRIMARY KEY"
            lines.append(f'"{name}" {kind}')
        body = ",\n  ".join(lines)
        return f'CREATE TABLE "{self.name}" (\n  {body}\n)'

    def sqlite_indexes(self) -> list[str]:
        """``CREATE INDEX`` statements for SQLite."""
        result = [f'CREATE UNIQUE INDEX "uk_{self.name}_{c}" ON "{self.name}" ("{c}")' for c in self.unique]
        for index in self.indexes:
            columns = ", ".join(f'"{c.strip()}"' for c in index.split(","))
            result.append(f'CREATE INDEX "idx_{self.name}_{index.replace(",", "_")}" ON "{self.name}" ({columns})')
        return result


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    """Parse lines ``name type`` (the type may contain blanks)."""
    pairs = [line.strip().split(" ", 1) for line in text.strip().splitlines()]
    return tuple((name, kind) for name, kind in pairs)


WAVERLESS = (
    Table(
        "endpoints",
        _columns("""
            id bigint
            endpoint varchar(255) NOT NULL
            image varchar(500)
            status varchar(50)
            replicas int
            gpu_count int
            task_timeout int
            max_pending_tasks int
            created_at datetime(3) NOT NULL
            updated_at datetime(3) NOT NULL
        """),
        unique=("endpoint",),
    ),
    Table(
        "tasks",
        _columns("""
            id bigint
            task_id varchar(255) NOT NULL
            endpoint varchar(255) NOT NULL
            input json
            status varchar(50) NOT NULL
            output json
            error text
            worker_id varchar(255)
            webhook_url varchar(1000)
            created_at datetime(3) NOT NULL
            updated_at datetime(3) NOT NULL
            started_at datetime(3)
            completed_at datetime(3)
            extend json
        """),
        unique=("task_id",),
        indexes=("endpoint,status", "created_at", "completed_at"),
    ),
    Table(
        "task_events",
        _columns("""
            id bigint
            event_id varchar(255) NOT NULL
            task_id varchar(255) NOT NULL
            endpoint varchar(255) NOT NULL
            event_type varchar(50) NOT NULL
            event_time datetime(3) NOT NULL
            worker_id varchar(255)
            error_message text
            retry_count int
            metadata json
            queue_wait_ms int
            execution_duration_ms int
            total_duration_ms int
        """),
        unique=("event_id",),
        indexes=("task_id", "event_time"),
    ),
    Table(
        "workers",
        _columns("""
            id bigint
            worker_id varchar(255) NOT NULL
            endpoint varchar(255) NOT NULL
            pod_name varchar(255)
            status varchar(50) NOT NULL
            concurrency int NOT NULL
            current_jobs int NOT NULL
            created_at datetime(3) NOT NULL
            updated_at datetime(3) NOT NULL
            pod_created_at datetime(3)
            pod_started_at datetime(3)
            pod_ready_at datetime(3)
            terminated_at datetime(3)
            cold_start_duration_ms bigint
            last_heartbeat datetime(3) NOT NULL
            last_task_time datetime(3)
            total_tasks_completed bigint NOT NULL
            failure_type varchar(50)
            failure_reason varchar(500)
        """),
        unique=("worker_id",),
        indexes=("endpoint", "status"),
    ),
    Table(
        "worker_events",
        _columns("""
            id bigint
            event_id varchar(255) NOT NULL
            worker_id varchar(255) NOT NULL
            endpoint varchar(255) NOT NULL
            event_type varchar(50) NOT NULL
            event_time datetime(3) NOT NULL
            cold_start_duration_ms bigint
            idle_duration_ms bigint
            task_id varchar(255)
            metadata json
        """),
        unique=("event_id",),
        indexes=("worker_id,event_time", "event_time"),
    ),
    Table(
        "worker_resource_snapshots",
        _columns("""
            id bigint
            worker_id varchar(255) NOT NULL
            endpoint varchar(255)
            snapshot_at datetime(3) NOT NULL
            is_idle tinyint(1) NOT NULL
            current_task_id varchar(255)
            gpu_utilization decimal(5,2)
            gpu_memory_used_mb int
            gpu_memory_total_mb int
            cpu_utilization decimal(5,2)
            memory_used_mb int
            memory_total_mb int
        """),
        indexes=("worker_id,snapshot_at", "snapshot_at"),
    ),
)

TKTOOL = (
    Table(
        "tasks",
        _columns("""
            task_id varchar(50) NOT NULL
            workflow_id varchar(50) NOT NULL
            status varchar(20) NOT NULL
            runninghub_task_id varchar(100)
            task_description text
            created_at datetime(3) NOT NULL
            started_at datetime(3)
            completed_at datetime(3)
            timeout_at datetime(3)
        """),
        indexes=("status,completed_at", "created_at", "completed_at"),
        auto=False,
    ),
    Table(
        "task_outputs",
        _columns("""
            id bigint
            task_id varchar(36) NOT NULL
            node_id varchar(50)
            name varchar(255)
            file_url text
            file_type varchar(50)
            file_size bigint
            local_path varchar(500)
            thumbnail_path varchar(500)
            created_at datetime(3) NOT NULL
        """),
        indexes=("task_id", "created_at"),
    ),
)

SCHEDULER = (
    Table(
        "scheduler_task_configs",
        _columns("""
            id bigint
            task_id varchar(100) NOT NULL
            task_name varchar(200)
            owner varchar(100)
            category varchar(100)
            description text
            is_enabled tinyint(1) NOT NULL
            cron_config json
            risk_level varchar(20)
            sla_config json
            dependencies_tables json
            updated_at datetime(3)
        """),
        unique=("task_id",),
    ),
    Table(
        "mp_job_runs",
        _columns("""
            id bigint
            run_key varchar(64) NOT NULL
            job_id varchar(255) NOT NULL
            scheduled_at datetime(6)
            started_at datetime(6)
            ended_at datetime(6)
            duration_ms decimal(20,3)
            outcome varchar(32) NOT NULL
            error_message varchar(1000)
            attempt int
            trigger varchar(32)
            result_error varchar(1000)
        """),
        unique=("run_key",),
        indexes=("started_at", "ended_at"),
    ),
    Table(
        "alert_notifications",
        _columns("""
            id bigint
            alert_id bigint
            notify_channel varchar(20) NOT NULL
            notify_target varchar(200)
            status varchar(20) NOT NULL
            retry_count int NOT NULL
            next_retry_at datetime(3)
            sent_at datetime(3)
            created_at datetime(3) NOT NULL
            error_message text
        """),
        indexes=("status", "created_at"),
    ),
)

COLLECTOR = (
    Table(
        "mp_process_samples",
        _columns("""
            id bigint
            process_id varchar(255) NOT NULL
            at datetime(6) NOT NULL
            rss_bytes bigint
            vms_bytes bigint
            mem_pct double
            objects bigint
            cpu_pct double
            effective_cores double
            load1 double
            load5 double
            fds bigint
            fds_max bigint
            conns bigint
            tcp_by_state json
            host_tcp_by_state json
            threads bigint
            gc_collections bigint
            host_mem_available_bytes bigint
            uptime_s double
            scope varchar(16)
        """),
        indexes=("process_id,at",),
    ),
    Table(
        "mp_ingest_samples",
        _columns("""
            id bigint
            process_id varchar(255) NOT NULL
            series varchar(255) NOT NULL
            at datetime(6) NOT NULL
            kind varchar(16) NOT NULL
            value decimal(38,6) NOT NULL
            labels json
        """),
        indexes=("process_id,series,at",),
    ),
)

TTS = (
    Table(
        "tts_texts",
        _columns("""
            id bigint
            user_id bigint
            content text
            is_deleted tinyint NOT NULL
            created_at timestamp(3) NULL
            updated_at timestamp(3) NULL
        """),
        indexes=("created_at", "updated_at"),
    ),
    Table(
        "tts_audios",
        _columns("""
            id bigint
            text_id bigint NOT NULL
            version_num int
            filename varchar(255)
            oss_object_key varchar(255)
            file_size bigint
            is_deleted tinyint NOT NULL
            created_at timestamp(3) NULL
            updated_at timestamp(3) NULL
        """),
        indexes=("text_id", "created_at", "updated_at"),
    ),
    Table(
        "mp_task_events",
        _columns("""
            id bigint
            event_key varchar(255) NOT NULL
            task_key varchar(255) NOT NULL
            endpoint varchar(255)
            event_type varchar(32) NOT NULL
            at datetime(6) NOT NULL
            worker_key varchar(255)
            error_message varchar(500)
        """),
        unique=("event_key",),
        indexes=("task_key", "at"),
    ),
)

DATABASES: dict[str, tuple[Table, ...]] = {
    "waverless": WAVERLESS,
    "tktool": TKTOOL,
    "tts": TTS,
    "scheduler": SCHEDULER,
    "collector": COLLECTOR,
}
