/*
description: Tasks of the window with an output that came more than $delay_us after their end, by end and key (C-104).
*/
SELECT DISTINCT
    t.task_key,
    t.effective_end
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
INNER JOIN live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o ON o.task_hash = t.task_hash
WHERE t.status = 'succeeded' AND t.output_expected
    AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
    AND o.own AND epoch_us(o.created_at) - epoch_us(t.effective_end) > $delay_us::BIGINT
ORDER BY t.effective_end, t.task_key
LIMIT 10
