/*
description: >
  Per source the counted outcomes of the last 24 hours, those of tasks that never started included (C-312, M-205, M-208),
  and the attempts that were ended by their time limit in the last hour (C-320).
key: [source_id]
*/
WITH outcome AS (
    SELECT
        source_id,
        count(*) FILTER (WHERE kind = 'completed') AS completed,
        count(*) FILTER (WHERE kind = 'failed') AS failed,
        count(*) FILTER (WHERE kind = 'timeout') AS timed_out
    FROM core.task_instant
    WHERE "at" >= $day_ago::TIMESTAMP AND "at" < $now::TIMESTAMP AND kind IN ('completed', 'failed', 'timeout')
    GROUP BY source_id
),

derived AS (
    SELECT
        source_id,
        count(*) AS derived,
        list(task_key ORDER BY ended_at DESC, task_key ASC)[1:10] AS derived_keys
    FROM core.task_attempt
    WHERE end_source = 'derived_timeout' AND ended_at >= $hour_ago::TIMESTAMP AND ended_at < $now::TIMESTAMP
    GROUP BY source_id
)

SELECT
    coalesce(outcome.source_id, derived.source_id) AS source_id,
    coalesce(outcome.completed, 0) AS completed,
    coalesce(outcome.failed, 0) AS failed,
    coalesce(outcome.timed_out, 0) AS timed_out,
    coalesce(derived.derived, 0) AS derived,
    derived.derived_keys
FROM outcome
FULL JOIN derived ON derived.source_id = outcome.source_id
