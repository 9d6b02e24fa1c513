/*---
description: >-
  One row per endpoint and UTC hour in which the endpoint had a worker, traffic, waiting or running tasks, or a
  registration (M-110). A closed hour without a row is a known zero.
grain: hour
key: [source_id, endpoint, stat_hour]
family: endpoint
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  endpoint: {doc: "Endpoint, compared as bytes (E-401)"}
  stat_hour: {doc: "Start of the UTC hour (M-101)"}
  tasks_submitted: {rollup: sum, unit: "tasks", doc: "Submissions at their instant (M-201)"}
  tasks_completed: {rollup: sum, unit: "tasks", doc: "Counted outcomes completed, at their instant (M-205)"}
  tasks_failed: {rollup: sum, unit: "tasks", doc: "Counted outcomes failed, at their instant (M-205)"}
  tasks_timeout: {rollup: sum, unit: "tasks", doc: "Counted outcomes timeout, at their instant (M-205, M-217)"}
  tasks_cancelled: {rollup: sum, unit: "tasks", doc: "Counted outcomes cancelled, at their instant (M-205)"}
  tasks_retried: {rollup: sum, unit: "tasks", doc: "Requeues and new starts without one (M-216); NULL without task events"}
  attempts_started: {rollup: sum, unit: "attempts", doc: "Attempts by start (M-203)"}
  attempts_lost: {rollup: sum, unit: "attempts", doc: "Attempts that ended without an outcome, by end (M-204, M-210)"}
  late_events: {rollup: sum, unit: "events", doc: "Final events after the counted outcome (M-205); NULL without task events"}
  duplicate_events: {rollup: sum, unit: "events", doc: "Repeated events (M-202); NULL without task events"}
  anomalies: {rollup: sum, unit: "anomalies", doc: "Anomalies of the endpoint by their instant (E-007)"}
  success_rate: {rollup: derived, unit: "percent", doc: "100 * completed / (completed + failed + timeout)"}
  queue_wait_n: {rollup: sum, unit: "observations", doc: "Queue waits observed, by attempt start (M-214)"}
  queue_wait_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of queue waits"}
  avg_queue_wait_ms: {rollup: derived, unit: "ms", doc: "queue_wait_sum_ms / queue_wait_n"}
  max_queue_wait_ms: {rollup: max, unit: "ms", doc: "Longest queue wait"}
  p95_queue_wait_ms: {rollup: recompute, unit: "ms", doc: "95th percentile of queue waits (M-451)"}
  queue_hist: {rollup: sum, unit: "map", doc: "Histogram of queue waits, index to count (M-453); NULL without any"}
  execution_n: {rollup: sum, unit: "observations", doc: "Executions observed, by attempt end (M-213)"}
  execution_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of executions"}
  avg_execution_ms: {rollup: derived, unit: "ms", doc: "execution_sum_ms / execution_n"}
  min_execution_ms: {rollup: min, unit: "ms", doc: "Shortest execution"}
  max_execution_ms: {rollup: max, unit: "ms", doc: "Longest execution"}
  p50_execution_ms: {rollup: recompute, unit: "ms", doc: "Median of executions (M-451)"}
  p95_execution_ms: {rollup: recompute, unit: "ms", doc: "95th percentile of executions (M-451)"}
  p99_execution_ms: {rollup: recompute, unit: "ms", doc: "99th percentile of executions (M-451)"}
  exec_hist: {rollup: sum, unit: "map", doc: "Histogram of executions, index to count (M-453)"}
  execution_time_distribution: {rollup: sum, unit: "map", doc: "Executions in seven fixed ranges of ms (M-455)"}
  failed_execution_n: {rollup: sum, unit: "observations", doc: "Durations of failed and timed-out attempts, by end"}
  failed_execution_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of those durations"}
  avg_failed_execution_ms: {rollup: derived, unit: "ms", doc: "failed_execution_sum_ms / failed_execution_n"}
  total_n: {rollup: sum, unit: "observations", doc: "Completions whose time since submission is known"}
  total_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of times from submission to completion"}
  avg_total_ms: {rollup: derived, unit: "ms", doc: "total_sum_ms / total_n"}
  queue_depth_end: {rollup: last, unit: "tasks", doc: "Tasks waiting just before the end of the bucket"}
  running_end: {rollup: last, unit: "attempts", doc: "Attempts open just before the end of the bucket"}
  queue_depth_max: {rollup: max, unit: "tasks", doc: "Largest queue_depth_end of the minutes"}
  active_workers: {rollup: recompute, unit: "workers", doc: "Workers that were busy at any time of the bucket (M-308)"}
  idle_workers: {rollup: recompute, unit: "workers", doc: "Workers online but never busy in the bucket (M-308)"}
  total_workers: {rollup: recompute, unit: "workers", doc: "active_workers + idle_workers"}
  avg_active_workers: {rollup: derived, unit: "workers", doc: "Mean of active_workers over the minutes, a minute without row is 0"}
  avg_idle_workers: {rollup: derived, unit: "workers", doc: "Mean of idle_workers over the minutes, a minute without row is 0"}
  avg_workers: {rollup: derived, unit: "workers", doc: "online_ms / length of the bucket"}
  min_workers: {rollup: min, unit: "workers", doc: "Smallest total_workers of the minutes"}
  max_workers: {rollup: max, unit: "workers", doc: "Largest total_workers of the minutes"}
  online_ms: {rollup: sum, unit: "ms", doc: "Time workers were online, summed over workers (M-307)"}
  busy_ms: {rollup: sum, unit: "ms", doc: "Time workers ran at least one attempt while online (M-307)"}
  idle_ms: {rollup: sum, unit: "ms", doc: "online_ms - busy_ms"}
  slot_online_ms: {rollup: sum, unit: "ms", doc: "Online time times concurrency (M-310)"}
  slot_busy_ms: {rollup: sum, unit: "ms", doc: "Integral of min(running attempts, concurrency) (M-310)"}
  avg_worker_utilization: {rollup: derived, unit: "percent", doc: "100 * busy_ms / online_ms (M-309)"}
  slot_utilization: {rollup: derived, unit: "percent", doc: "100 * slot_busy_ms / slot_online_ms (M-310)"}
  total_idle_time_sec: {rollup: derived, unit: "s", doc: "idle_ms / 1000"}
  idle_spells: {rollup: recompute, unit: "spells", doc: "Maximal idle stretches, cut once to the bucket (M-311)"}
  avg_idle_duration_sec: {rollup: derived, unit: "s", doc: "idle_ms / idle_spells / 1000"}
  max_idle_duration_sec: {rollup: recompute, unit: "s", doc: "Longest of those stretches"}
  idle_count: {rollup: sum, unit: "transitions", doc: "Instants at which a worker became idle (M-312)"}
  workers_created: {rollup: sum, unit: "workers", doc: "Lives that began (M-313)"}
  workers_terminated: {rollup: sum, unit: "workers", doc: "Lives that were ended (M-313)"}
  workers_lost: {rollup: sum, unit: "workers", doc: "Lives that ended by silence (M-313)"}
  cold_starts: {rollup: sum, unit: "workers", doc: "Created workers with a known cold start (M-314)"}
  cold_start_sum_ms: {rollup: sum, unit: "ms", doc: "Sum of cold starts"}
  avg_cold_start_ms: {rollup: derived, unit: "ms", doc: "cold_start_sum_ms / cold_starts"}
  max_cold_start_ms: {rollup: max, unit: "ms", doc: "Longest cold start"}
  gpu_n: {rollup: sum, unit: "samples", doc: "GPU samples of online workers (M-315)"}
  gpu_sum: {rollup: sum, unit: "percent", doc: "Sum of those samples"}
  avg_gpu_utilization: {rollup: derived, unit: "percent", doc: "gpu_sum / gpu_n"}
  max_gpu_utilization: {rollup: max, unit: "percent", doc: "Largest GPU sample"}
  gpu_memory_used_mb_n: {rollup: sum, unit: "samples", doc: "Samples of GPU memory"}
  gpu_memory_used_mb_sum: {rollup: sum, unit: "MiB", doc: "Sum of those samples"}
  avg_gpu_memory_used_mb: {rollup: derived, unit: "MiB", doc: "gpu_memory_used_mb_sum / gpu_memory_used_mb_n"}
  cpu_utilization_n: {rollup: sum, unit: "samples", doc: "Samples of CPU use"}
  cpu_utilization_sum: {rollup: sum, unit: "percent", doc: "Sum of those samples"}
  avg_cpu_utilization: {rollup: derived, unit: "percent", doc: "cpu_utilization_sum / cpu_utilization_n"}
  memory_used_mb_n: {rollup: sum, unit: "samples", doc: "Samples of memory"}
  memory_used_mb_sum: {rollup: sum, unit: "MiB", doc: "Sum of those samples"}
  avg_memory_used_mb: {rollup: derived, unit: "MiB", doc: "memory_used_mb_sum / memory_used_mb_n"}
  snapshots_expected: {rollup: sum, unit: "snapshots", doc: "Slots in which a worker was online throughout (M-316)"}
  snapshots_received: {rollup: sum, unit: "snapshots", doc: "Those slots that have a sample (M-316)"}
  snapshot_coverage_pct: {rollup: derived, unit: "percent", doc: "100 * received / expected"}
  worker_source: {rollup: worst, doc: "Weakest evidence about workers used: lifecycle, snapshots, current_state, attempts, none (M-317)"}
  quality: {rollup: worst, doc: "exact, bridged, estimated or unknown; NULL if no worker input is mapped (M-317)"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
with
closed as (
    select * from closed_window($window_start, $window_end)
),

-- Sums and extremes of the hour's minutes.
minute as (
    select
        stat.source_id,
        stat.endpoint,
        date_trunc('hour', stat.stat_minute) as bucket,
        count(*) as minutes,
        count(*) filter (where stat.quality = 'unknown') as unknown_minutes,
        sum(stat.active_workers) as active_sum,
        sum(stat.idle_workers) as idle_sum,
        min(stat.total_workers) as min_workers,
        max(stat.total_workers) as max_workers,
        max(stat.queue_depth_end) filter (
            where stat.stat_minute = least(date_trunc('hour', stat.stat_minute) + interval 1 hour, closed.to_at) - interval 1 minute
        ) as queue_depth_end,
        max(stat.running_end) filter (
            where stat.stat_minute = least(date_trunc('hour', stat.stat_minute) + interval 1 hour, closed.to_at) - interval 1 minute
        ) as running_end,
        cast(sum(stat.tasks_submitted) as bigint) as tasks_submitted,
        cast(sum(stat.tasks_completed) as bigint) as tasks_completed,
        cast(sum(stat.tasks_failed) as bigint) as tasks_failed,
        cast(sum(stat.tasks_timeout) as bigint) as tasks_timeout,
        cast(sum(stat.tasks_cancelled) as bigint) as tasks_cancelled,
        cast(sum(stat.tasks_retried) as bigint) as tasks_retried,
        cast(sum(stat.attempts_started) as bigint) as attempts_started,
        cast(sum(stat.attempts_lost) as bigint) as attempts_lost,
        cast(sum(stat.late_events) as bigint) as late_events,
        cast(sum(stat.duplicate_events) as bigint) as duplicate_events,
        cast(sum(stat.anomalies) as bigint) as anomalies,
        cast(sum(stat.queue_wait_n) as bigint) as queue_wait_n,
        cast(sum(stat.execution_n) as bigint) as execution_n,
        cast(sum(stat.failed_execution_n) as bigint) as failed_execution_n,
        cast(sum(stat.total_n) as bigint) as total_n,
        cast(sum(stat.idle_count) as bigint) as idle_count,
        cast(sum(stat.workers_created) as bigint) as workers_created,
        cast(sum(stat.workers_terminated) as bigint) as workers_terminated,
        cast(sum(stat.workers_lost) as bigint) as workers_lost,
        cast(sum(stat.cold_starts) as bigint) as cold_starts,
        cast(sum(stat.gpu_n) as bigint) as gpu_n,
        cast(sum(stat.gpu_memory_used_mb_n) as bigint) as gpu_memory_used_mb_n,
        cast(sum(stat.gpu_memory_used_mb_sum) as bigint) as gpu_memory_used_mb_sum,
        cast(sum(stat.cpu_utilization_n) as bigint) as cpu_utilization_n,
        cast(sum(stat.memory_used_mb_n) as bigint) as memory_used_mb_n,
        cast(sum(stat.memory_used_mb_sum) as bigint) as memory_used_mb_sum,
        cast(sum(stat.snapshots_expected) as bigint) as snapshots_expected,
        cast(sum(stat.snapshots_received) as bigint) as snapshots_received,
        cast(sum(stat.queue_wait_sum_ms) as decimal(20, 3)) as queue_wait_sum_ms,
        cast(sum(stat.execution_sum_ms) as decimal(20, 3)) as execution_sum_ms,
        cast(sum(stat.failed_execution_sum_ms) as decimal(20, 3)) as failed_execution_sum_ms,
        cast(sum(stat.total_sum_ms) as decimal(20, 3)) as total_sum_ms,
        cast(sum(stat.online_ms) as decimal(20, 3)) as online_ms,
        cast(sum(stat.busy_ms) as decimal(20, 3)) as busy_ms,
        cast(sum(stat.idle_ms) as decimal(20, 3)) as idle_ms,
        cast(sum(stat.slot_online_ms) as decimal(20, 3)) as slot_online_ms,
        cast(sum(stat.slot_busy_ms) as decimal(20, 3)) as slot_busy_ms,
        cast(sum(stat.cold_start_sum_ms) as decimal(20, 3)) as cold_start_sum_ms,
        sum(stat.gpu_sum) as gpu_sum,
        sum(stat.cpu_utilization_sum) as cpu_utilization_sum,
        max(stat.max_queue_wait_ms) as max_queue_wait_ms,
        max(stat.max_execution_ms) as max_execution_ms,
        max(stat.max_cold_start_ms) as max_cold_start_ms,
        max(stat.max_gpu_utilization) as max_gpu_utilization,
        max(stat.queue_depth_max) as queue_depth_max,
        min(stat.min_execution_ms) as min_execution_ms,
        max(source_rank(stat.worker_source)) as source_rank,
        max(quality_rank(stat.quality)) as quality_rank
    from mart.endpoint_minute_stats as stat
    inner join closed
        on
            stat.source_id = closed.source_id
            and stat.stat_minute >= closed.from_at
            and stat.stat_minute < closed.to_at
    where stat.stat_minute >= $window_start and stat.stat_minute < $window_end
    group by stat.source_id, stat.endpoint, bucket
),

attempt as (
    select * from attempt_figures($window_start, $window_end, interval 1 hour)
),

worker as (
    select * from worker_figures($window_start, $window_end, interval 1 hour)
),

component as (
    select
        minute.*,
        closed.has_attempts as counts,
        closed.has_workers as mapped,
        minute.online_ms is not null as workers,
        span_us(minute.bucket, least(minute.bucket + interval 1 hour, closed.to_at)) // 60000000 as closed_minutes,
        attempt.p95_queue_wait_ms,
        attempt.queue_hist,
        attempt.p50_execution_ms,
        attempt.p95_execution_ms,
        attempt.p99_execution_ms,
        attempt.exec_hist,
        attempt.execution_time_distribution,
        worker.active_workers,
        worker.idle_workers,
        worker.total_workers,
        worker.idle_spells,
        worker.max_idle_us
    from minute
    inner join closed on minute.source_id = closed.source_id
    left join attempt
        on
            minute.source_id = attempt.source_id
            and minute.endpoint = attempt.endpoint
            and minute.bucket = attempt.bucket
    left join worker
        on
            minute.source_id = worker.source_id
            and minute.endpoint = worker.endpoint
            and minute.bucket = worker.bucket
),

-- Minutes of which nothing is known about workers are in no mean over time.
measured as (
    select
        *,
        closed_minutes - coalesce(unknown_minutes, 0) as known_minutes
    from component
)

select
    source_id,
    endpoint,
    bucket as stat_hour,
    tasks_submitted,
    tasks_completed,
    tasks_failed,
    tasks_timeout,
    tasks_cancelled,
    tasks_retried,
    attempts_started,
    attempts_lost,
    late_events,
    duplicate_events,
    anomalies,
    ratio2(100 * tasks_completed, tasks_completed + tasks_failed + tasks_timeout) as success_rate,
    queue_wait_n,
    queue_wait_sum_ms,
    ratio2(ms_to_us(queue_wait_sum_ms), 1000 * queue_wait_n) as avg_queue_wait_ms,
    max_queue_wait_ms,
    p95_queue_wait_ms,
    queue_hist,
    execution_n,
    execution_sum_ms,
    ratio2(ms_to_us(execution_sum_ms), 1000 * execution_n) as avg_execution_ms,
    min_execution_ms,
    max_execution_ms,
    p50_execution_ms,
    p95_execution_ms,
    p99_execution_ms,
    case when counts then coalesce(exec_hist, cast('{}' as json)) end as exec_hist,
    case when counts then coalesce(execution_time_distribution, no_executions()) end as execution_time_distribution,
    failed_execution_n,
    failed_execution_sum_ms,
    ratio2(ms_to_us(failed_execution_sum_ms), 1000 * failed_execution_n) as avg_failed_execution_ms,
    total_n,
    total_sum_ms,
    ratio2(ms_to_us(total_sum_ms), 1000 * total_n) as avg_total_ms,
    if_mapped(counts, queue_depth_end) as queue_depth_end,
    if_mapped(counts, running_end) as running_end,
    queue_depth_max,
    if_mapped(workers, active_workers) as active_workers,
    if_mapped(workers, idle_workers) as idle_workers,
    if_mapped(workers, total_workers) as total_workers,
    case when workers then ratio2(active_sum, known_minutes) end as avg_active_workers,
    case when workers then ratio2(idle_sum, known_minutes) end as avg_idle_workers,
    case when workers then ratio2(ms_to_us(online_ms), 60000000 * known_minutes) end as avg_workers,
    case
        when workers and minutes < closed_minutes then 0
        when workers then min_workers
    end as min_workers,
    case when workers then max_workers end as max_workers,
    online_ms,
    busy_ms,
    idle_ms,
    slot_online_ms,
    slot_busy_ms,
    ratio2(100 * ms_to_us(busy_ms), ms_to_us(online_ms)) as avg_worker_utilization,
    ratio2(100 * ms_to_us(slot_busy_ms), ms_to_us(slot_online_ms)) as slot_utilization,
    ratio3(ms_to_us(idle_ms), 1000000) as total_idle_time_sec,
    if_mapped(workers, idle_spells) as idle_spells,
    case when workers then ratio3(ms_to_us(idle_ms), 1000000 * idle_spells) end as avg_idle_duration_sec,
    case when workers then ratio3(max_idle_us, 1000000) end as max_idle_duration_sec,
    idle_count,
    workers_created,
    workers_terminated,
    workers_lost,
    cold_starts,
    cold_start_sum_ms,
    ratio2(ms_to_us(cold_start_sum_ms), 1000 * cold_starts) as avg_cold_start_ms,
    max_cold_start_ms,
    gpu_n,
    gpu_sum,
    ratio2(gpu_sum * 1000000, 1000000 * gpu_n) as avg_gpu_utilization,
    max_gpu_utilization,
    gpu_memory_used_mb_n,
    gpu_memory_used_mb_sum,
    ratio2(gpu_memory_used_mb_sum, gpu_memory_used_mb_n) as avg_gpu_memory_used_mb,
    cpu_utilization_n,
    cpu_utilization_sum,
    ratio2(cpu_utilization_sum * 1000000, 1000000 * cpu_utilization_n) as avg_cpu_utilization,
    memory_used_mb_n,
    memory_used_mb_sum,
    ratio2(memory_used_mb_sum, memory_used_mb_n) as avg_memory_used_mb,
    snapshots_expected,
    snapshots_received,
    ratio2(100 * snapshots_received, snapshots_expected) as snapshot_coverage_pct,
    source_name(source_rank) as worker_source,
    quality_name(quality_rank) as quality,
    case when closed_minutes = 60 then 'closed' else 'partial' end as state,
    closed_minutes
from measured
