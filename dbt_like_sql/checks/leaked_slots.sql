/*
description: >
  Per source the timed-out attempts whose executor has not reported an end: no later end of the task reported by it or by
  nobody named, no later idle snapshot or end of the worker (C-330). What lies after the newest extraction has not
  happened yet.
key: [source_id]
*/
SELECT
    a.source_id,
    count(*) AS leaked
FROM core.task_attempt AS a
LEFT JOIN meta.source_state AS state ON state.source_id = a.source_id
WHERE a.outcome = 'timeout' AND a.executor_ended_at IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM raw.task_event AS e
        WHERE e.source_id = a.source_id AND e.task_hash = a.task_hash AND e."at" > a.ended_at
            AND e."at" <= coalesce(state.as_of, e."at")
            AND e.event_type IN ('completed', 'failed', 'cancelled') AND coalesce(e.worker_key = a.worker_key, TRUE)
    )
    AND NOT EXISTS (
        SELECT 1 FROM raw.worker_snapshot AS s
        WHERE s.source_id = a.source_id AND s.worker_key = a.worker_key AND s."at" > a.ended_at
            AND s."at" <= coalesce(state.as_of, s."at") AND s.origin = 'source' AND s.is_idle
    )
    AND NOT EXISTS (
        SELECT 1 FROM core.worker_life AS w
        WHERE w.source_id = a.source_id AND w.worker_key = a.worker_key AND w.end_at > a.started_at
    )
GROUP BY a.source_id
