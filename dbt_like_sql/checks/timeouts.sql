/*
description: Attempts that were timed out by their limit in the window (C-320, mode derive).
*/
SELECT
    count(*) AS timed_out,
    list(task_key ORDER BY ended_at, task_key)[1:10] AS examples
FROM core.task_attempt
WHERE source_id = $source_id AND outcome = 'timeout' AND end_source = 'derived_timeout'
    AND ended_at >= $window_start::TIMESTAMP AND ended_at < $window_end::TIMESTAMP
