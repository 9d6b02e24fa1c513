/*
description: >
  Distinct natural keys of tasks with more than two valid rows, by hour since window_start, beyond the two that
  completeness.sql counts for each of them.
key: [hour_no]
*/
WITH many AS (
    SELECT
        o.task_hash,
        count(DISTINCT hash(o.natural_key)) - 2 AS more
    FROM live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o
    WHERE o.counts AND o.task_hash IN (SELECT f.task_hash FROM task_fact AS f WHERE f.settled AND f.valid_rows > 2)
    GROUP BY o.task_hash
    HAVING count(*) > 2 AND count(DISTINCT hash(o.natural_key)) > 2
)

SELECT
    task_fact.hour_no,
    sum(many.more)::BIGINT AS more
FROM task_fact
INNER JOIN many ON many.task_hash = task_fact.task_hash
GROUP BY task_fact.hour_no
