/*
description: Tasks that wait now, by endpoint, with the oldest of each (C-311). A deleted task waits no more.
*/
SELECT
    endpoint,
    count(*) AS waiting,
    min(from_at) AS oldest_at,
    arg_min(task_key, from_at) AS oldest_task
FROM core.task_wait AS w
WHERE source_id = $source_id AND from_at <= $now::TIMESTAMP AND (to_at IS NULL OR to_at > $now::TIMESTAMP)
    AND NOT EXISTS (
        SELECT 1 FROM raw.task AS t
        WHERE t.source_id = w.source_id AND t.task_hash = w.task_hash AND (t.is_deleted OR t.deleted_at IS NOT NULL)
    )
GROUP BY endpoint
ORDER BY waiting DESC, endpoint
