/*
description: Tasks that wait now, by endpoint, with the oldest of each (C-311).
*/
SELECT
    endpoint,
    count(*) AS waiting,
    min(from_at) AS oldest_at,
    arg_min(task_key, from_at) AS oldest_task
FROM core.task_wait
WHERE source_id = $source_id AND from_at <= $now::TIMESTAMP AND (to_at IS NULL OR to_at > $now::TIMESTAMP)
GROUP BY endpoint
ORDER BY waiting DESC, endpoint
