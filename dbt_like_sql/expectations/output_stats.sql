/*
description: >
  Closed hours of output statistics in [window_start, window_end).
key: [source_id, endpoint, stat_hour]
*/
SELECT *
FROM mart.output_hourly_stats
WHERE source_id = $source_id
    AND stat_hour >= $window_start::TIMESTAMP AND stat_hour < $window_end::TIMESTAMP
    AND state = 'closed'
