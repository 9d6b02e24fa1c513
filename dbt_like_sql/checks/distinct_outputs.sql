/*
description: >
  Distinct natural keys of tasks with more than two valid rows, by hour since window_start, beyond the two that
  completeness.sql counts for each of them.
key: [hour_no]
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        (epoch_us(t.effective_end) - epoch_us($window_start::TIMESTAMP)) // 3600000000 AS hour_no
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
),

many AS (
    SELECT
        o.task_hash,
        count(DISTINCT hash(o.natural_key)) - 2 AS more
    FROM raw.task_output AS o
    WHERE o.source_id = $source_id AND o.valid AND o.origin <> 'placeholder'
        AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
        AND (o.created_at >= $outputs_from::TIMESTAMP OR o.created_at IS NULL)
        AND o.task_hash IN (SELECT task_hash FROM task)
    GROUP BY o.task_hash
    HAVING count(*) > 2 AND count(DISTINCT hash(o.natural_key)) > 2
)

SELECT
    task.hour_no,
    sum(many.more)::BIGINT AS more
FROM task
INNER JOIN many ON many.task_hash = task.task_hash
GROUP BY task.hour_no
