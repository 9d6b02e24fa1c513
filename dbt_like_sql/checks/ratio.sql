/*
description: >
  Live outputs and live tasks of the source, whatever their status (C-106). A task known by its events only is a task
  (E-100); an inline output is deleted with the row it stands on (E-103).
*/
SELECT
    (
        SELECT count(*) FROM raw.task AS t
        WHERE t.source_id = $source_id AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
    ) + (
        SELECT count(*) FROM core.task_status AS s WHERE s.source_id = $source_id AND NOT s.has_row
    ) AS tasks,
    (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
    ) - (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND o.origin = 'inline'
            AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
            AND o.task_hash IN (
                SELECT t.task_hash FROM raw.task AS t
                WHERE t.source_id = $source_id AND (t.is_deleted OR (t.deleted_at IS NOT NULL AND t.deleted_reason <> 'retention'))
            )
    ) AS outputs
