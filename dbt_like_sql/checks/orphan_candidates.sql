/*
description: >
  Live outputs created in the window, or without creation time, that no task of the last weeks owns (C-111): what
  remains is compared with all tasks. An inline output is part of its task's row and has an owner as long as it exists.
*/
SELECT
    o.output_key,
    o.task_key,
    o.task_hash
FROM raw.task_output AS o
WHERE o.source_id = $source_id AND o.origin <> 'inline' AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    AND ((o.created_at >= $window_start::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP) OR o.created_at IS NULL)
    AND coalesce(
        o.task_hash NOT IN (
            SELECT t.task_hash FROM raw.task AS t
            WHERE t.source_id = $source_id AND t.task_hash IS NOT NULL
                AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
                AND t.created_at >= $tasks_from::TIMESTAMP AND t.created_at < $window_end::TIMESTAMP
        ),
        TRUE
    )
ORDER BY o.task_key, o.output_key
