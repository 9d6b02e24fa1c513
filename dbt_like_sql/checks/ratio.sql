/*
description: Live outputs and live tasks of the source, whatever their status (C-106).
*/
SELECT
    (
        SELECT count(*) FROM raw.task AS t
        WHERE t.source_id = $source_id AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
    ) AS tasks,
    (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    ) AS outputs
