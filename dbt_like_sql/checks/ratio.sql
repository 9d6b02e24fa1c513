/*
description: >
  Live outputs and live tasks of the source, whatever their status (C-106). A task known by its events only is a task
  (E-100); an inline output is deleted with the row it stands on (E-103). Rows are counted as a whole and what is not live
  is taken off: storage without deleted rows need not be read.
*/
SELECT
    (SELECT count(*) FROM raw.task)
    - (SELECT count(*) FROM raw.task AS t WHERE t.source_id <> $source_id)
    - (SELECT count(*) FILTER (WHERE t.source_id = $source_id) FROM raw.task AS t WHERE t.is_deleted IS NOT DISTINCT FROM TRUE)
    - (
        SELECT count(*) FROM raw.task AS t
        WHERE t.deleted_at IS NOT NULL AND t.source_id = $source_id AND t.deleted_reason <> 'retention' AND NOT t.is_deleted
    )
    + (SELECT count(*) FROM core.task_status AS s WHERE s.source_id = $source_id AND NOT s.has_row) AS tasks,
    (SELECT count(*) FROM raw.task_output)
    - (SELECT count(*) FROM raw.task_output AS o WHERE o.source_id <> $source_id)
    - (SELECT count(*) FILTER (WHERE o.source_id = $source_id) FROM raw.task_output AS o WHERE o.is_deleted IS NOT DISTINCT FROM TRUE)
    - (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.deleted_at IS NOT NULL AND o.source_id = $source_id AND o.deleted_reason <> 'retention' AND NOT o.is_deleted
    )
    - (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND o.origin = 'inline'
            AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
            AND o.task_hash IN (
                SELECT t.task_hash FROM raw.task AS t WHERE t.is_deleted AND t.source_id = $source_id
                UNION ALL
                SELECT t.task_hash FROM raw.task AS t
                WHERE t.deleted_at IS NOT NULL AND t.source_id = $source_id AND t.deleted_reason <> 'retention'
            )
    ) AS outputs
