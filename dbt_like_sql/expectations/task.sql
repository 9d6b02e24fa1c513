/*
description: >
  Final tasks that ended in [window_start, window_end) and are settled, for the expectations on raw.task. `copies` is the
  number of rows of the same key in the whole window; of larger windows one row in $keep_one_in is taken, by its key.
key: [task_key]
*/
WITH task AS (
    SELECT
        t.*,
        count(*) OVER (PARTITION BY t.task_key) AS copies
    FROM raw.task AS t
    WHERE t.source_id = $source_id
        AND t.effective_end >= $window_start::TIMESTAMP AND t.effective_end < $window_end::TIMESTAMP
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
        AND NOT t.is_deleted AND t.deleted_at IS NULL
)

SELECT
    task_key,
    endpoint,
    status,
    created_at,
    started_at,
    ended_at,
    effective_end,
    copies,
    len(coalesce(error_message, '')) AS error_length
FROM task
WHERE hash(task_key) % $keep_one_in::UBIGINT = 0
