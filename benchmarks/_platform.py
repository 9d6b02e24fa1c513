"""A synthetic platform of exactly known volume, as rows of a MariaDB source.

What belongs here: the arithmetic sequence of tasks and the source's rows of it. What does not: the same rows as history
of a warehouse (``_history``) and measuring.

Task ``i`` is created at ``ORIGIN + 80 ms * i``, assigned 1.5 s later to worker ``i % 500``, completed 30 s after that:
750 tasks and 3,000 events a minute, 500 of 520 workers busy 30 s of 40 s, 20 never, workers spread over 100 endpoints.
A day holds a whole number of rounds over the workers, so that all days are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

STEP_MS = 80
ENDPOINTS = 100
WORKERS = 520
#: Workers that get tasks.
BUSY = 500
DDL = (
    """create table tasks (id bigint auto_increment primary key, task_id varchar(255) not null, endpoint varchar(255), status varchar(50),
       worker_id varchar(255), output text, error text, created_at datetime(3), started_at datetime(3), completed_at datetime(3),
       updated_at datetime(3), unique key (task_id), key (created_at), key (completed_at), key (status, completed_at))""",
    """create table task_events (id bigint auto_increment primary key, event_id varchar(64) not null, task_id varchar(255), endpoint varchar(255),
       event_type varchar(50), event_time datetime(3), worker_id varchar(255), error_message text, queue_wait_ms int,
       execution_duration_ms int, total_duration_ms int, unique key (event_id), key (event_time))""",
    """create table workers (id bigint auto_increment primary key, worker_id varchar(255) unique, endpoint varchar(255),
       status varchar(50), concurrency int, current_jobs int, created_at datetime(3), updated_at datetime(3),
       pod_created_at datetime(3), pod_started_at datetime(3), pod_ready_at datetime(3), terminated_at datetime(3),
       cold_start_duration_ms bigint, last_heartbeat datetime(3), last_task_time datetime(3), failure_type varchar(64),
       failure_reason varchar(255))""",
    """create table worker_resource_snapshots (id bigint auto_increment primary key, worker_id varchar(255), endpoint varchar(255),
       snapshot_at datetime(3), is_idle tinyint, current_task_id varchar(255), gpu_utilization decimal(5,2),
       gpu_memory_used_mb int, gpu_memory_total_mb int, cpu_utilization decimal(5,2), memory_used_mb int, memory_total_mb int,
       key (snapshot_at))""",
)


@dataclass(frozen=True)
class Platform:
    """The platform since ``origin`` (UTC); ids and instants follow from the sequence number alone.

    ``step_ms``: milliseconds between two tasks; larger steps make a smaller platform.
    """

    origin: datetime
    step_ms: int = STEP_MS

    def task_number(self, at: datetime) -> int:
        """First task created at or after ``at``."""
        return int((at - self.origin) / timedelta(milliseconds=self.step_ms))

    def is_idle(self, minute: str, worker: str) -> str:
        """SQL of a snapshot's ``is_idle``, 7 s into a minute: no task of the worker is running at that instant."""
        period = BUSY * self.step_ms
        # One period more, so that the remainder is never taken of a negative number.
        since = f"({minute} * 60000 + 7000 - 1500 + {period} - {worker} * {self.step_ms}) % {period}"
        return f"({worker} >= {BUSY} or {since} >= 30000)"

    def tasks_sql(self, first: int, last: int, now: datetime) -> str:
        """Insert tasks ``first <= i < last`` as the platform shows them at ``now`` (MariaDB sequence engine)."""
        created = f"'{self.origin}' + interval (seq * {self.step_ms * 1000}) microsecond"
        return (
            "insert into tasks (id, task_id, endpoint, status, worker_id, output, created_at, started_at, completed_at, "
            f"updated_at) select seq + 1, concat('task-', lpad(hex(seq), 12, '0')), concat('ep-', (seq % {BUSY}) % {ENDPOINTS}), "
            "if(done <= n, 'COMPLETED', if(got <= n, 'IN_PROGRESS', 'PENDING')), "
            f"if(got <= n, concat('w-', seq % {BUSY}), ''), if(done <= n, '{{}}', null), c, if(got <= n, got, null), "
            "if(done <= n, done, null), if(done <= n, done, if(got <= n, got, c)) from "
            f"(select seq, {created} c, {created} + interval 1500000 microsecond got, {created} + interval 31500000 microsecond done, "
            f"cast('{now}' as datetime(3)) n from seq_{first}_to_{last - 1}) x"
        )

    def progress_sql(self, first: int, last: int, now: datetime) -> str:
        """Bring the still open ones of those tasks to what they are at ``now``."""
        created = f"('{self.origin}' + interval ((id - 1) * {self.step_ms * 1000}) microsecond)"
        return (
            f"update tasks set status = if({created} + interval 31500000 microsecond <= '{now}', 'COMPLETED', 'IN_PROGRESS'), "
            f"worker_id = concat('w-', (id - 1) % {BUSY}), started_at = {created} + interval 1500000 microsecond, "
            f"completed_at = if({created} + interval 31500000 microsecond <= '{now}', {created} + interval 31500000 microsecond, null), "
            f"output = if({created} + interval 31500000 microsecond <= '{now}', '{{}}', null), updated_at = '{now}' "
            f"where id between {first + 1} and {last} and status <> 'COMPLETED' and {created} + interval 1500000 microsecond <= '{now}'"
        )

    def events_sql(self, start: datetime, end: datetime) -> str:
        """Insert every event with ``start <= event_time < end``, ids in the order of time per kind."""
        first = max(0, self.task_number(start) - 400)
        last = self.task_number(end) + 1
        return (
            "insert into task_events (id, event_id, task_id, endpoint, event_type, event_time, worker_id) "
            "select id, concat('e', id), concat('task-', lpad(hex(s), 12, '0')), concat('ep-', (s % "
            f"{BUSY}) % {ENDPOINTS}), kind, t, w from (select (seq - 400 + o.ahead) * 4 + o.k + 1 id, seq s, o.kind, "
            f"'{self.origin}' + interval (seq * {self.step_ms * 1000} + o.delay) microsecond t, "
            f"if(o.k = 0, '', concat('w-', seq % {BUSY})) w from seq_{first}_to_{last} join "
            "(select 0 k, 'TASK_CREATED' kind, 0 delay, 400 ahead union all select 1, 'TASK_ASSIGNED', 1500000, 418 "
            "union all select 2, 'TASK_STARTED', 1600000, 420 union all select 3, 'TASK_COMPLETED', 31500000, 793) o) x "
            f"where t >= '{start}' and t < '{end}' order by id"
        )

    def workers_sql(self, now: datetime) -> str:
        """Insert the workers, ready an hour before the origin."""
        ready = self.origin - timedelta(hours=1)
        return (
            "insert into workers (worker_id, endpoint, status, concurrency, current_jobs, created_at, pod_created_at, "
            "pod_started_at, pod_ready_at, cold_start_duration_ms, last_heartbeat, updated_at) select concat('w-', seq), "
            f"concat('ep-', seq % {ENDPOINTS}), 'ONLINE', 1, 0, '{ready}', '{ready}', '{ready}', '{ready}', 41000, '{now}', '{now}' "
            f"from seq_0_to_{WORKERS - 1}"
        )

    def snapshots_sql(self, start: datetime, end: datetime) -> str:
        """Insert one snapshot per worker and minute in ``[start, end)`` (whole minutes)."""
        first = int((start - self.origin) / timedelta(minutes=1))
        last = int((end - self.origin) / timedelta(minutes=1))
        return (
            "insert into worker_resource_snapshots (id, worker_id, endpoint, snapshot_at, is_idle, gpu_utilization, "
            "gpu_memory_used_mb, gpu_memory_total_mb, cpu_utilization, memory_used_mb, memory_total_mb) "
            f"select m.seq * {WORKERS} + w.seq + 1, concat('w-', w.seq), concat('ep-', w.seq % {ENDPOINTS}), "
            f"'{self.origin}' + interval (m.seq * 60 + 7) second, {self.is_idle('m.seq', 'w.seq')}, 40 + w.seq % 50, 20000, 24000, 35, 8000, 16000 "
            f"from seq_{first}_to_{last - 1} m join seq_0_to_{WORKERS - 1} w"
        )
