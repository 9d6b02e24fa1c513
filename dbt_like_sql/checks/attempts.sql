/*
description: >
  Attempts of the source by outcome: all of them, those that ended in the window with a counted outcome, and attempts
  whose outcome has no name (C-310, C-312).
*/
SELECT
    outcome,
    count(*) AS attempts,
    count(*) FILTER (WHERE counted AND ended_at >= $window_start::TIMESTAMP AND ended_at < $window_end::TIMESTAMP) AS ended
FROM core.task_attempt
WHERE source_id = $source_id
GROUP BY outcome
