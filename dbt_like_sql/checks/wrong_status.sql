/*
description: Live outputs created in the window whose task is final but not succeeded, by its status (C-112).
*/
SELECT
    t.status,
    count(*) AS outputs,
    list(DISTINCT t.task_key ORDER BY t.task_key)[1:10] AS examples
FROM raw.task_output AS o
INNER JOIN core.task AS t ON t.task_hash = o.task_hash AND t.source_id = o.source_id
WHERE o.source_id = $source_id AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    AND o.created_at >= $window_start::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP
    AND t.status IN ('failed', 'timed_out', 'cancelled')
    AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
GROUP BY t.status
ORDER BY t.status
