/*---
description: >-
  One row per endpoint and UTC minute in which the endpoint had a worker, traffic, waiting or running tasks, or a
  registration (M-110). A closed minute without a row is a known zero.
grain: minute
key: [source_id, endpoint, stat_minute]
family: endpoint
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  endpoint: {doc: "Endpoint, compared as bytes (E-401)"}
  stat_minute: {doc: "Start of the UTC minute (M-101)"}
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

counted as (
    select
        instant.source_id,
        instant.endpoint,
        date_trunc('minute', instant."at") as bucket,
        count(*) filter (where instant.kind = 'submitted') as tasks_submitted,
        count(*) filter (where instant.kind = 'completed') as tasks_completed,
        count(*) filter (where instant.kind = 'failed') as tasks_failed,
        count(*) filter (where instant.kind = 'timeout') as tasks_timeout,
        count(*) filter (where instant.kind = 'cancelled') as tasks_cancelled,
        count(*) filter (where instant.kind = 'retried') as tasks_retried,
        count(*) filter (where instant.kind = 'late_event') as late_events,
        count(*) filter (where instant.kind = 'duplicate_event') as duplicate_events,
        count(instant.total_ms) as total_n,
        sum(observed_us(instant.total_ms)) as total_us
    from core.task_instant as instant
    inner join closed
        on
            instant.source_id = closed.source_id
            and instant."at" >= closed.from_at
            and instant."at" < closed.to_at
    where instant."at" >= $window_start and instant."at" < $window_end
    group by instant.source_id, instant.endpoint, bucket
),

attempt as materialized (
    select * from attempt_figures($window_start, $window_end, interval 1 minute)
),

depth as materialized (
    select * from depth_figures($window_start, $window_end)
),

worker as materialized (
    select * from worker_figures($window_start, $window_end, interval 1 minute)
),

life as materialized (
    select * from lifecycle_figures($window_start, $window_end)
),

sample as (
    select * from sample_figures($window_start, $window_end)
),

evidence as (
    select * from worker_evidence_used($window_start, $window_end)
),

silent as (
    select distinct source_id, bucket from silent_minute($window_start, $window_end)
),

anomaly as (
    select * from anomaly_figures($window_start, $window_end)
),

-- Which rows exist (M-110).
present as (
    select source_id, endpoint, bucket from counted
    union
    select source_id, endpoint, bucket from attempt
    union
    select source_id, endpoint, bucket from depth
    union
    select source_id, endpoint, bucket from worker where longest_online_us >= 1000
    union
    select source_id, endpoint, bucket from life
    union
    select source_id, endpoint, bucket from present_endpoint($window_start, $window_end)
),

-- What can be measured in each of these rows (E-510, M-306).
subject as (
    select
        present.source_id,
        present.endpoint,
        present.bucket,
        closed.has_attempts as counts,
        closed.has_events as events,
        closed.has_workers as mapped,
        closed.has_workers and silent.bucket is null as workers,
        closed.has_workers and silent.bucket is null and closed.has_cold_start as colds,
        closed.has_snapshots and silent.bucket is null as slots
    from present
    inner join closed
        on
            present.source_id = closed.source_id
            and present.bucket >= closed.from_at
            and present.bucket < closed.to_at
    left join silent on present.source_id = silent.source_id and present.bucket = silent.bucket
),

component as (
    select
        subject.source_id,
        subject.endpoint,
        subject.bucket as stat_minute,
        subject.mapped,
        subject.workers,
        if_mapped(subject.counts, counted.tasks_submitted) as tasks_submitted,
        if_mapped(subject.counts, counted.tasks_completed) as tasks_completed,
        if_mapped(subject.counts, counted.tasks_failed) as tasks_failed,
        if_mapped(subject.counts, counted.tasks_timeout) as tasks_timeout,
        if_mapped(subject.counts, counted.tasks_cancelled) as tasks_cancelled,
        if_mapped(subject.events, counted.tasks_retried) as tasks_retried,
        if_mapped(subject.counts, attempt.attempts_started) as attempts_started,
        if_mapped(subject.counts, attempt.attempts_lost) as attempts_lost,
        if_mapped(subject.events, counted.late_events) as late_events,
        if_mapped(subject.events, counted.duplicate_events) as duplicate_events,
        coalesce(anomaly.anomalies, 0) as anomalies,
        if_mapped(subject.counts, attempt.queue_wait_n) as queue_wait_n,
        if_mapped(subject.counts, attempt.queue_wait_us) as queue_wait_us,
        attempt.max_queue_wait_us,
        attempt.p95_queue_wait_ms,
        attempt.queue_hist,
        if_mapped(subject.counts, attempt.execution_n) as execution_n,
        if_mapped(subject.counts, attempt.execution_us) as execution_us,
        attempt.min_execution_us,
        attempt.max_execution_us,
        attempt.p50_execution_ms,
        attempt.p95_execution_ms,
        attempt.p99_execution_ms,
        case when subject.counts then coalesce(attempt.exec_hist, cast('{}' as json)) end as exec_hist,
        case
            when subject.counts then coalesce(attempt.execution_time_distribution, no_executions())
        end as execution_time_distribution,
        if_mapped(subject.counts, attempt.failed_execution_n) as failed_execution_n,
        if_mapped(subject.counts, attempt.failed_execution_us) as failed_execution_us,
        if_mapped(subject.counts, counted.total_n) as total_n,
        if_mapped(subject.counts, counted.total_us) as total_us,
        if_mapped(subject.counts, depth.waiting) as queue_depth_end,
        if_mapped(subject.counts, depth.running) as running_end,
        if_mapped(subject.workers, worker.active_workers) as active_workers,
        if_mapped(subject.workers, worker.idle_workers) as idle_workers,
        if_mapped(subject.workers, worker.total_workers) as total_workers,
        if_mapped(subject.workers, worker.online_us) as online_us,
        if_mapped(subject.workers, worker.busy_us) as busy_us,
        if_mapped(subject.workers, worker.slot_online_us) as slot_online_us,
        if_mapped(subject.workers, worker.slot_busy_us) as slot_busy_us,
        if_mapped(subject.workers, worker.idle_spells) as idle_spells,
        case when subject.workers then worker.max_idle_us end as max_idle_us,
        if_mapped(subject.workers, worker.idle_count) as idle_count,
        if_mapped(subject.workers, life.workers_created) as workers_created,
        if_mapped(subject.workers, life.workers_terminated) as workers_terminated,
        if_mapped(subject.workers, life.workers_lost) as workers_lost,
        if_mapped(subject.colds, life.cold_starts) as cold_starts,
        if_mapped(subject.colds, life.cold_start_us) as cold_start_us,
        case when subject.colds then life.max_cold_start_ms end as max_cold_start_ms,
        if_mapped(subject.slots, sample.gpu_n) as gpu_n,
        if_mapped(subject.slots, sample.gpu_sum) as gpu_sum,
        sample.max_gpu_utilization,
        if_mapped(subject.slots, sample.gpu_memory_used_mb_n) as gpu_memory_used_mb_n,
        if_mapped(subject.slots, sample.gpu_memory_used_mb_sum) as gpu_memory_used_mb_sum,
        if_mapped(subject.slots, sample.cpu_utilization_n) as cpu_utilization_n,
        if_mapped(subject.slots, sample.cpu_utilization_sum) as cpu_utilization_sum,
        if_mapped(subject.slots, sample.memory_used_mb_n) as memory_used_mb_n,
        if_mapped(subject.slots, sample.memory_used_mb_sum) as memory_used_mb_sum,
        if_mapped(subject.slots, sample.snapshots_expected) as snapshots_expected,
        if_mapped(subject.slots, sample.snapshots_received) as snapshots_received,
        case when subject.workers then coalesce(evidence.source_rank, 0) else 0 end as source_rank,
        case when subject.workers then coalesce(evidence.quality_rank, 1) when subject.mapped then 4 end as quality_rank
    from subject
    left join counted
        on
            subject.source_id = counted.source_id
            and subject.endpoint = counted.endpoint
            and subject.bucket = counted.bucket
    left join attempt
        on
            subject.source_id = attempt.source_id
            and subject.endpoint = attempt.endpoint
            and subject.bucket = attempt.bucket
    left join depth
        on
            subject.source_id = depth.source_id
            and subject.endpoint = depth.endpoint
            and subject.bucket = depth.bucket
    left join worker
        on
            subject.source_id = worker.source_id
            and subject.endpoint = worker.endpoint
            and subject.bucket = worker.bucket
    left join life
        on
            subject.source_id = life.source_id
            and subject.endpoint = life.endpoint
            and subject.bucket = life.bucket
    left join sample
        on
            subject.source_id = sample.source_id
            and subject.endpoint = sample.endpoint
            and subject.bucket = sample.bucket
    left join evidence
        on
            subject.source_id = evidence.source_id
            and subject.endpoint = evidence.endpoint
            and subject.bucket = evidence.bucket
    left join anomaly
        on
            subject.source_id = anomaly.source_id
            and subject.endpoint = anomaly.endpoint
            and subject.bucket = anomaly.bucket
)

select
    source_id,
    endpoint,
    stat_minute,
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
    us_to_ms(queue_wait_us) as queue_wait_sum_ms,
    ratio2(queue_wait_us, 1000 * queue_wait_n) as avg_queue_wait_ms,
    us_to_ms(max_queue_wait_us) as max_queue_wait_ms,
    p95_queue_wait_ms,
    queue_hist,
    execution_n,
    us_to_ms(execution_us) as execution_sum_ms,
    ratio2(execution_us, 1000 * execution_n) as avg_execution_ms,
    us_to_ms(min_execution_us) as min_execution_ms,
    us_to_ms(max_execution_us) as max_execution_ms,
    p50_execution_ms,
    p95_execution_ms,
    p99_execution_ms,
    exec_hist,
    execution_time_distribution,
    failed_execution_n,
    us_to_ms(failed_execution_us) as failed_execution_sum_ms,
    ratio2(failed_execution_us, 1000 * failed_execution_n) as avg_failed_execution_ms,
    total_n,
    us_to_ms(total_us) as total_sum_ms,
    ratio2(total_us, 1000 * total_n) as avg_total_ms,
    queue_depth_end,
    running_end,
    queue_depth_end as queue_depth_max,
    active_workers,
    idle_workers,
    total_workers,
    us_to_ms(online_us) as online_ms,
    us_to_ms(busy_us) as busy_ms,
    us_to_ms(online_us - busy_us) as idle_ms,
    us_to_ms(slot_online_us) as slot_online_ms,
    us_to_ms(slot_busy_us) as slot_busy_ms,
    ratio2(100 * busy_us, online_us) as avg_worker_utilization,
    ratio2(100 * slot_busy_us, slot_online_us) as slot_utilization,
    ratio3(online_us - busy_us, 1000000) as total_idle_time_sec,
    idle_spells,
    ratio3(online_us - busy_us, 1000000 * idle_spells) as avg_idle_duration_sec,
    ratio3(max_idle_us, 1000000) as max_idle_duration_sec,
    idle_count,
    workers_created,
    workers_terminated,
    workers_lost,
    cold_starts,
    us_to_ms(cold_start_us) as cold_start_sum_ms,
    ratio2(cold_start_us, 1000 * cold_starts) as avg_cold_start_ms,
    max_cold_start_ms,
    gpu_n,
    gpu_sum,
    ratio2(gpu_sum * 1000000, 1000000 * gpu_n) as avg_gpu_utilization,
    max_gpu_utilization,
    gpu_memory_used_mb_n,
    cast(gpu_memory_used_mb_sum as bigint) as gpu_memory_used_mb_sum,
    ratio2(gpu_memory_used_mb_sum, gpu_memory_used_mb_n) as avg_gpu_memory_used_mb,
    cpu_utilization_n,
    cpu_utilization_sum,
    ratio2(cpu_utilization_sum * 1000000, 1000000 * cpu_utilization_n) as avg_cpu_utilization,
    memory_used_mb_n,
    cast(memory_used_mb_sum as bigint) as memory_used_mb_sum,
    ratio2(memory_used_mb_sum, memory_used_mb_n) as avg_memory_used_mb,
    cast(snapshots_expected as bigint) as snapshots_expected,
    cast(snapshots_received as bigint) as snapshots_received,
    ratio2(100 * snapshots_received, snapshots_expected) as snapshot_coverage_pct,
    source_name(source_rank) as worker_source,
    quality_name(quality_rank) as quality,
    'closed' as state,
    cast(1 as bigint) as closed_minutes
from component
