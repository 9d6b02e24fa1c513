/*---
rule: M-906
description: Averages are sum by n; percentiles lie in order between minimum and maximum
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    'an average or the order of percentiles is wrong' as detail
from endpoint_stat($window_start, $window_end)
where
    abs(cast(avg_queue_wait_ms as double) * queue_wait_n - cast(queue_wait_sum_ms as double)) > 0.0051 * queue_wait_n
    or abs(cast(avg_execution_ms as double) * execution_n - cast(execution_sum_ms as double)) > 0.0051 * execution_n
    or abs(cast(avg_total_ms as double) * total_n - cast(total_sum_ms as double)) > 0.0051 * total_n
    or abs(cast(avg_cold_start_ms as double) * cold_starts - cast(cold_start_sum_ms as double)) > 0.0051 * cold_starts
    or abs(
        cast(avg_failed_execution_ms as double) * failed_execution_n - cast(failed_execution_sum_ms as double)
    ) > 0.0051 * failed_execution_n
    or (execution_n > 0) <> (avg_execution_ms is not null)
    or (queue_wait_n > 0) <> (avg_queue_wait_ms is not null)
    or round(min_execution_ms, 2) > p50_execution_ms
    or p50_execution_ms > p95_execution_ms
    or p95_execution_ms > p99_execution_ms
    or p99_execution_ms > round(max_execution_ms, 2)
    or p95_queue_wait_ms > round(max_queue_wait_ms, 2)
