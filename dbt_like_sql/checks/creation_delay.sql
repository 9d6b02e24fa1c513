/*
description: >
  Delays of the outputs of the settled tasks of the window, per task: one valid output that no repair inserted and that
  was created more than $delay_us after the task's end makes the task delayed (C-104).
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        t.task_key,
        t.effective_end
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
),

delay AS (
    SELECT
        task.task_key,
        task.effective_end,
        max(epoch_us(o.created_at) - epoch_us(task.effective_end)) AS delay_us
    FROM task
    INNER JOIN raw.task_output AS o ON o.task_hash = task.task_hash
    WHERE o.source_id = $source_id AND o.valid AND o.origin NOT IN ('placeholder', 'repair')
        AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
        AND (o.created_at >= $outputs_from::TIMESTAMP OR o.created_at IS NULL)
    GROUP BY ALL
)

SELECT
    count(*) AS population,
    count(*) FILTER (WHERE delay_us > $delay_us::BIGINT) AS delayed,
    max(delay_us) AS max_delay_us,
    list(task_key ORDER BY effective_end, task_key) FILTER (WHERE delay_us > $delay_us::BIGINT)[1:10] AS examples
FROM delay
