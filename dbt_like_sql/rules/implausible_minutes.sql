/*
description: >
  Rows of the last closed hour that contradict themselves (C-510, M-901, M-902, M-904, M-905): counts and times that do
  not add up, figures out of range, tasks executed while no worker was busy, idle workers without idle time.
key: [source_id, reason]
*/
WITH minute_row AS (
    SELECT m.*
    FROM mart.endpoint_minute_stats AS m
    INNER JOIN meta.source_state AS state ON state.source_id = m.source_id
    WHERE m.stat_minute >= state.closed_through - INTERVAL 1 HOUR AND m.stat_minute < state.closed_through
),

found AS (
    SELECT
        source_id, endpoint, stat_minute,
        unnest(list_filter([
            CASE WHEN active_workers + idle_workers <> total_workers THEN 'active and idle are not all workers (M-901)' END,
            CASE WHEN busy_ms + idle_ms <> online_ms THEN 'busy and idle are not all online time (M-904)' END,
            CASE
                WHEN avg_worker_utilization NOT BETWEEN 0 AND 100 OR slot_utilization NOT BETWEEN 0 AND 100
                    THEN 'utilisation out of range (M-902)'
            END,
            CASE
                WHEN online_ms > 0 AND execution_n > 0 AND execution_sum_ms > 0 AND avg_worker_utilization = 0
                    THEN 'tasks were executed at utilisation 0'
            END,
            CASE WHEN idle_workers > 0 AND idle_ms = 0 THEN 'idle workers without idle time (M-905)' END
        ], LAMBDA reason: reason IS NOT NULL)) AS reason
    FROM minute_row
)

SELECT
    source_id,
    reason,
    count(*) AS n,
    min(endpoint) AS endpoint,
    min(stat_minute) AS stat_minute
FROM found
GROUP BY source_id, reason
