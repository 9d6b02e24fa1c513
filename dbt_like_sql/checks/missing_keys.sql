/*
description: >
  Keys of the settled tasks of the window that have no valid output, by end and key (C-101). Outputs of the window's own
  time rule out nearly all tasks; later ones are compared with what is left, so that memory follows the window alone.
  row_status is NULL where the source's row can say nothing more: of tasks known by their events only, and of those its
  retention removed (E-610).
key: [task_key]
*/
WITH early AS MATERIALIZED (
    SELECT t.task_hash
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
        AND t.task_hash NOT IN (
            SELECT o.task_hash FROM raw.task_output AS o
            WHERE o.source_id = $source_id AND o.valid AND o.origin <> 'placeholder'
                AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
                AND o.created_at >= $outputs_from::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP + INTERVAL 1 DAY
                AND o.task_hash IS NOT NULL
        )
),

missing AS MATERIALIZED (
    SELECT early.task_hash
    FROM early
    WHERE
        early.task_hash NOT IN (
            SELECT o.task_hash FROM raw.task_output AS o
            WHERE o.source_id = $source_id AND o.valid AND o.origin <> 'placeholder'
                AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
                AND (o.created_at >= $window_end::TIMESTAMP + INTERVAL 1 DAY OR o.created_at IS NULL)
                AND o.task_hash IN (SELECT task_hash FROM early)
        )
)

SELECT
    t.task_key,
    t.task_hash,
    CASE WHEN NOT t.is_pruned THEN t.row_status END AS row_status,
    t.effective_end
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
WHERE t.status = 'succeeded' AND t.output_expected AND t.task_hash IN (SELECT task_hash FROM missing)
ORDER BY t.effective_end, t.task_key
