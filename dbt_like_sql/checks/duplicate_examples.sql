/*
description: >
  Tasks of the window with more valid rows than natural keys (C-110): those with most surplus, and those that ended first
  (C-028).
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        t.task_key,
        t.effective_end
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
)

SELECT
    task.task_key,
    task.effective_end,
    count(*) AS valid_rows,
    count(*) - count(DISTINCT o.natural_key) AS surplus
FROM task
INNER JOIN live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o ON o.task_hash = task.task_hash
WHERE o.counts
GROUP BY task.task_key, task.effective_end
HAVING count(*) > count(DISTINCT o.natural_key)
QUALIFY row_number() OVER (ORDER BY surplus DESC, task.task_key ASC) <= 10
    OR row_number() OVER (ORDER BY task.effective_end, task.task_key) <= 10
ORDER BY surplus DESC, task.task_key ASC
