/*
description: Settled tasks that ended in the window and output rows created in it (C-107); repairs are no flow.
*/
SELECT
    (
        SELECT count(*) FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
        WHERE t.status = 'succeeded' AND t.output_expected
            AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
    ) AS tasks,
    (
        SELECT count(*) FROM raw.task_output AS o
        WHERE o.source_id = $source_id AND o.origin IN ('app', 'inline')
            AND o.created_at >= $window_start::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP
    ) AS outputs
