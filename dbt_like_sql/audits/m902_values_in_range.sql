/*---
rule: M-902
description: No value is negative, and percentages lie between 0 and 100
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    'a value is out of range' as detail
from endpoint_stat($window_start, $window_end)
where
    least(
        coalesce(tasks_submitted, 0),
        coalesce(tasks_completed, 0),
        coalesce(tasks_failed, 0),
        coalesce(tasks_timeout, 0),
        coalesce(tasks_cancelled, 0),
        coalesce(tasks_retried, 0),
        coalesce(attempts_started, 0),
        coalesce(attempts_lost, 0),
        coalesce(late_events, 0),
        coalesce(duplicate_events, 0),
        coalesce(anomalies, 0),
        coalesce(queue_wait_n, 0),
        coalesce(queue_wait_sum_ms, 0),
        coalesce(max_queue_wait_ms, 0),
        coalesce(p95_queue_wait_ms, 0),
        coalesce(execution_n, 0),
        coalesce(execution_sum_ms, 0),
        coalesce(min_execution_ms, 0),
        coalesce(max_execution_ms, 0),
        coalesce(p50_execution_ms, 0),
        coalesce(failed_execution_n, 0),
        coalesce(failed_execution_sum_ms, 0),
        coalesce(total_n, 0),
        coalesce(total_sum_ms, 0),
        coalesce(queue_depth_end, 0),
        coalesce(running_end, 0),
        coalesce(queue_depth_max, 0),
        coalesce(active_workers, 0),
        coalesce(idle_workers, 0),
        coalesce(total_workers, 0),
        coalesce(avg_active_workers, 0),
        coalesce(avg_idle_workers, 0),
        coalesce(avg_workers, 0),
        coalesce(min_workers, 0),
        coalesce(max_workers, 0),
        coalesce(online_ms, 0),
        coalesce(busy_ms, 0),
        coalesce(idle_ms, 0),
        coalesce(slot_online_ms, 0),
        coalesce(slot_busy_ms, 0),
        coalesce(idle_spells, 0),
        coalesce(max_idle_duration_sec, 0),
        coalesce(idle_count, 0),
        coalesce(workers_created, 0),
        coalesce(workers_terminated, 0),
        coalesce(workers_lost, 0),
        coalesce(cold_starts, 0),
        coalesce(cold_start_sum_ms, 0),
        coalesce(max_cold_start_ms, 0),
        coalesce(gpu_n, 0),
        coalesce(gpu_sum, 0),
        coalesce(gpu_memory_used_mb_n, 0),
        coalesce(gpu_memory_used_mb_sum, 0),
        coalesce(cpu_utilization_n, 0),
        coalesce(cpu_utilization_sum, 0),
        coalesce(memory_used_mb_n, 0),
        coalesce(memory_used_mb_sum, 0),
        coalesce(snapshots_expected, 0),
        coalesce(snapshots_received, 0)
    ) < 0
    or greatest(
        coalesce(success_rate, 0),
        coalesce(avg_worker_utilization, 0),
        coalesce(slot_utilization, 0),
        coalesce(snapshot_coverage_pct, 0)
    ) > 100
    or least(
        coalesce(success_rate, 0),
        coalesce(avg_worker_utilization, 0),
        coalesce(slot_utilization, 0),
        coalesce(snapshot_coverage_pct, 0)
    ) < 0
