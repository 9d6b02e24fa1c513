/*
description: >
  Completeness of the closed hours in [window_start, window_end): one row per endpoint and one, `*`, for all of them.
  The rate is one division of two integers, so that a rate equal to a band's limit is exactly equal to it (C-002).
key: [endpoint]
*/
SELECT
    coalesce(endpoint, '*') AS endpoint,
    sum(success_tasks)::BIGINT AS success_tasks,
    sum(tasks_with_outputs)::BIGINT AS tasks_with_outputs,
    100.0::DOUBLE * sum(tasks_with_outputs)::BIGINT / nullif(sum(success_tasks)::BIGINT, 0) AS completion_rate
FROM mart.output_hourly_stats
WHERE source_id = $source_id
    AND stat_hour >= $window_start::TIMESTAMP AND stat_hour < $window_end::TIMESTAMP
    AND state = 'closed'
GROUP BY GROUPING SETS ((endpoint), ())
HAVING sum(success_tasks) > 0
