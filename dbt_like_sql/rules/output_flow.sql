/*
description: >
  Per source the settled tasks that ended in the last hour and expect an output, and the outputs the application created
  in it, inline ones included, which were created when their task ended (C-107).
key: [source_id]
*/
WITH task AS MATERIALIZED (
    SELECT t.source_id
    FROM core.task AS t
    WHERE t.effective_end >= $hour_ago::TIMESTAMP AND t.effective_end < $now::TIMESTAMP
        AND t.status = 'succeeded' AND t.output_expected AND NOT t.is_deleted
        AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
)

SELECT
    task.source_id,
    count(*) AS tasks,
    (
        SELECT count(*)
        FROM raw.task_output AS o
        WHERE o.source_id = task.source_id AND o.origin IN ('app', 'inline')
            AND o.created_at >= $hour_ago::TIMESTAMP AND o.created_at < $now::TIMESTAMP
    ) AS outputs
FROM task
INNER JOIN meta.source_setting AS setting ON setting.source_id = task.source_id AND setting.has_output
GROUP BY task.source_id
