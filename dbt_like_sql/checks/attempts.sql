/*
description: >
  Attempts of the source by outcome, those whose outcome has no name included (C-310).
*/
SELECT
    outcome,
    count(*) AS attempts
FROM core.task_attempt
WHERE source_id = $source_id
GROUP BY outcome
