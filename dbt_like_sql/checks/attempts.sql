/*
description: >
  Attempts of the source by outcome, those whose outcome has no name included (C-310). All attempts are counted and those
  of other sources taken off: a store of one source is counted by this one column.
*/
SELECT
    outcome,
    sum(n)::BIGINT AS attempts
FROM (
    SELECT
        outcome,
        count(*) AS n
    FROM core.task_attempt
    GROUP BY outcome
    UNION ALL
    SELECT
        outcome,
        -count(*) AS n
    FROM core.task_attempt
    WHERE source_id <> $source_id
    GROUP BY outcome
)
GROUP BY outcome
HAVING sum(n) > 0
