/*
description: >
  Per source the counted outcomes of the last 24 hours (C-312), and the attempts that were ended by their time limit in
  the last hour (C-320).
key: [source_id]
*/
SELECT
    a.source_id,
    count(*) FILTER (WHERE a.counted AND a.outcome = 'completed') AS completed,
    count(*) FILTER (WHERE a.counted AND a.outcome = 'failed') AS failed,
    count(*) FILTER (WHERE a.counted AND a.outcome = 'timeout') AS timed_out,
    count(*) FILTER (WHERE a.end_source = 'derived_timeout' AND a.ended_at >= $hour_ago::TIMESTAMP) AS derived,
    list(a.task_key ORDER BY a.ended_at DESC, a.task_key ASC)
        FILTER (WHERE a.end_source = 'derived_timeout' AND a.ended_at >= $hour_ago::TIMESTAMP)[1:10] AS derived_keys
FROM core.task_attempt AS a
WHERE a.ended_at >= $day_ago::TIMESTAMP AND a.ended_at < $now::TIMESTAMP
GROUP BY a.source_id
