/*
description: >
  Live outputs created in the window, or without creation time, that no succeeded task created since $tasks_from owns: what
  remains is compared with all tasks, to tell orphans (C-111), outputs of unsuccessful tasks (C-112) and those of old
  tasks apart. The window's end is given as the instant after which an output lies in the future.
*/
WITH owned AS (
    SELECT t.task_hash
    FROM raw.task AS t
    ANTI JOIN core.task_status AS s ON s.source_id = t.source_id AND s.task_hash = t.task_hash AND s.has_row
    WHERE t.source_id = $source_id AND t.status = 'succeeded'
        AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
        AND t.created_at >= $tasks_from::TIMESTAMP AND t.created_at < $window_end::TIMESTAMP
    UNION ALL
    SELECT s.task_hash
    FROM core.task_status AS s
    WHERE s.source_id = $source_id AND s.status = 'succeeded' AND NOT s.has_row
        AND s.created_at >= $tasks_from::TIMESTAMP AND s.created_at < $window_end::TIMESTAMP
)

SELECT
    o.output_key,
    o.task_key,
    o.task_hash,
    o.origin = 'inline' AS is_inline,
    o.created_at IS NOT NULL AS is_dated
FROM live_output($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP - INTERVAL 1 MICROSECOND) AS o
ANTI JOIN owned ON owned.task_hash = o.task_hash
WHERE NOT o.in_future
ORDER BY o.task_key, o.output_key
