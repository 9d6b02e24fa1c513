/*
description: >
  Live outputs created in the window, or without creation time, that no succeeded task created since $tasks_from owns: what
  remains is compared with all tasks, to tell orphans (C-111), outputs of unsuccessful tasks (C-112) and those of old
  tasks apart. The window's end is given as the instant after which an output lies in the future.
*/
SELECT
    o.output_key,
    o.task_key,
    o.task_hash,
    o.origin = 'inline' AS is_inline,
    o.created_at IS NOT NULL AS is_dated
FROM live_output($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP - INTERVAL 1 MICROSECOND) AS o
WHERE NOT o.in_future
    AND coalesce(
        o.task_hash NOT IN (
            SELECT t.task_hash
            FROM raw.task AS t
            WHERE t.source_id = $source_id AND t.task_hash IS NOT NULL AND t.status = 'succeeded'
                AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
                AND t.created_at >= $tasks_from::TIMESTAMP AND t.created_at < $window_end::TIMESTAMP
                AND t.task_hash NOT IN (
                    SELECT s.task_hash FROM core.task_status AS s
                    WHERE s.source_id = $source_id AND s.has_row AND s.task_hash IS NOT NULL
                )
            UNION ALL
            SELECT s.task_hash
            FROM core.task_status AS s
            WHERE s.source_id = $source_id AND s.task_hash IS NOT NULL AND s.status = 'succeeded' AND NOT s.has_row
                AND s.created_at >= $tasks_from::TIMESTAMP AND s.created_at < $window_end::TIMESTAMP
        ),
        TRUE
    )
ORDER BY o.task_key, o.output_key
