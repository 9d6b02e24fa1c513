/*
description: >
  Keys of the settled tasks of the window that have no valid output, by end and key (C-101). row_status is NULL where the
  source's row can say nothing more: of tasks known by their events only, and of those its retention removed (E-610).
key: [task_key]
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_key,
        t.task_hash,
        CASE WHEN NOT t.is_pruned THEN t.row_status END AS row_status,
        t.effective_end
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
)

SELECT
    task.task_key,
    task.task_hash,
    task.row_status,
    task.effective_end
FROM task
WHERE
    task.task_hash NOT IN (
        SELECT o.task_hash FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND o.valid AND o.origin <> 'placeholder'
            AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
            AND (o.created_at >= $outputs_from::TIMESTAMP OR o.created_at IS NULL)
            AND o.task_hash IN (SELECT task_hash FROM task)
    )
ORDER BY task.effective_end, task.task_key
