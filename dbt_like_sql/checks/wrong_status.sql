/*
description: Live outputs created in the window whose task is final but not succeeded, by its status (C-112, E-203).
*/
WITH task AS (
    SELECT
        t.task_hash,
        t.task_key,
        t.status
    FROM raw.task AS t
    WHERE t.source_id = $source_id AND t.status IN ('failed', 'timed_out', 'cancelled')
        AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
        AND t.task_hash NOT IN (
            SELECT s.task_hash FROM core.task_status AS s WHERE s.source_id = $source_id AND s.task_hash IS NOT NULL
        )
    UNION ALL
    SELECT
        s.task_hash,
        s.task_key,
        s.status
    FROM core.task_status AS s
    LEFT JOIN raw.task AS t ON t.source_id = s.source_id AND t.task_hash = s.task_hash
    WHERE s.source_id = $source_id AND s.status IN ('failed', 'timed_out', 'cancelled')
        AND coalesce(NOT t.is_deleted, TRUE) AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
)

SELECT
    task.status,
    count(*) AS outputs,
    list(DISTINCT task.task_key ORDER BY task.task_key)[1:10] AS examples
FROM raw.task_output AS o
INNER JOIN task ON task.task_hash = o.task_hash
WHERE o.source_id = $source_id
    AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    AND o.created_at >= $window_start::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP
GROUP BY task.status
ORDER BY task.status
