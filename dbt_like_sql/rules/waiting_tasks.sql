/*
description: >
  Per source the tasks that wait now: how many, the oldest, and up to ten keys, oldest first (C-311). Tasks that were
  deleted while waiting wait no more.
key: [source_id]
*/
SELECT
    w.source_id,
    count(*) AS n,
    min(w.from_at) AS oldest_at,
    list(w.task_key ORDER BY w.from_at, w.task_key)[1:10] AS task_keys
FROM core.task_wait AS w
WHERE w.to_at IS NULL AND w.from_at <= $now::TIMESTAMP
    AND NOT EXISTS (
        SELECT 1
        FROM raw.task AS t
        WHERE t.task_hash = w.task_hash AND t.source_id = w.source_id
            AND (t.is_deleted OR t.deleted_at IS NOT NULL)
    )
GROUP BY w.source_id
