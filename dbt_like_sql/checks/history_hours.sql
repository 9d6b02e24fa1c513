/*
description: Succeeded tasks and those with output by hour, from the statistics (M §7.1); for whole hours only.
*/
SELECT
    stat_hour AS at,
    sum(success_tasks)::BIGINT AS total,
    sum(tasks_with_outputs)::BIGINT AS complete
FROM mart.output_hourly_stats
WHERE source_id = $source_id AND state = 'closed'
    AND stat_hour >= $window_start::TIMESTAMP AND stat_hour < $window_end::TIMESTAMP
GROUP BY stat_hour
HAVING sum(success_tasks) > 0
ORDER BY stat_hour
