/*
description: >
  Attempts that are open now with their limit: the task's deadline, else the endpoint's timeout, else $limit_s (C-311,
  C-320). Deleted tasks are left out.
*/
SELECT
    a.task_key,
    a.endpoint,
    a.started_at,
    (epoch_us($now::TIMESTAMP) - epoch_us(a.started_at)) / 1000000.0 AS age_s,
    coalesce(
        t.deadline_at, a.started_at + to_microseconds((e.task_timeout_s * 1000000)::BIGINT),
        a.started_at + to_microseconds(($limit_s::DOUBLE * 1000000)::BIGINT)
    ) AS limit_at
FROM core.task_attempt AS a
LEFT JOIN raw.task AS t ON t.source_id = a.source_id AND t.task_hash = a.task_hash
LEFT JOIN (
    SELECT
        endpoint,
        max(task_timeout_s) AS task_timeout_s
    FROM raw.endpoint
    WHERE source_id = $source_id AND deleted_at IS NULL
    GROUP BY endpoint
) AS e ON e.endpoint = a.endpoint
WHERE a.source_id = $source_id AND a.outcome = 'open' AND a.started_at <= $now::TIMESTAMP
    AND coalesce(NOT t.is_deleted, true) AND t.deleted_at IS NULL
ORDER BY a.started_at, a.task_key
