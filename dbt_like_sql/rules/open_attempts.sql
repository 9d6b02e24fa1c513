/*
description: >
  Per source and age limit the attempts that run now: those older than $long_s, and those over their own time limit:
  the task's deadline, else the endpoint's limit, else the source's (C-311, C-320). Deleted tasks run no more.
key: [source_id]
*/
WITH open_attempt AS (
    SELECT
        a.source_id,
        a.task_key,
        a.started_at,
        CASE
            WHEN s.timeout_mode = 'source' THEN coalesce(
                (
                    SELECT min(t.deadline_at)
                    FROM raw.task AS t
                    WHERE t.task_hash = a.task_hash AND t.source_id = a.source_id AND t.deadline_at IS NOT NULL
                ),
                a.started_at + to_microseconds((1000000 * coalesce(e.task_timeout_s, s.timeout_limit_s))::BIGINT)
            )
        END AS limit_at
    FROM core.task_attempt AS a
    LEFT JOIN meta.source_setting AS s ON s.source_id = a.source_id
    LEFT JOIN raw.endpoint AS e ON e.source_id = a.source_id AND e.endpoint = a.endpoint AND e.deleted_at IS NULL
    WHERE a.outcome = 'open' AND a.ended_at IS NULL AND a.started_at <= $now::TIMESTAMP
        AND NOT EXISTS (
            SELECT 1 FROM raw.task AS t
            WHERE t.task_hash = a.task_hash AND t.source_id = a.source_id AND (t.is_deleted OR t.deleted_at IS NOT NULL)
        )
)

SELECT
    o.source_id,
    count(*) AS n,
    min(o.started_at) AS oldest_at,
    count(*) FILTER (WHERE o.started_at < $long_before::TIMESTAMP) AS long_n,
    list(o.task_key ORDER BY o.started_at, o.task_key) FILTER (WHERE o.started_at < $long_before::TIMESTAMP)[1:10] AS long_keys,
    count(*) FILTER (WHERE o.limit_at < $now::TIMESTAMP) AS over_n,
    list(o.task_key ORDER BY o.started_at, o.task_key) FILTER (WHERE o.limit_at < $now::TIMESTAMP)[1:10] AS over_keys
FROM open_attempt AS o
GROUP BY o.source_id
