/*
description: >
  Times that cannot be (C-114): a task that ended before it started, a time in the future, an output created before its
  task's start. Tasks that end in the future are in no window yet: future_tasks.sql.
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        t.task_key,
        t.created_at,
        t.started_at,
        t.ended_at,
        t.effective_end
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
),

found AS (
    SELECT
        'ended_before_start' AS kind,
        task_key,
        effective_end
    FROM task
    WHERE ended_at < started_at
    UNION ALL
    SELECT
        'future' AS kind,
        task_key,
        effective_end
    FROM task
    WHERE created_at > $latest::TIMESTAMP OR started_at > $latest::TIMESTAMP
    UNION ALL
    SELECT
        CASE WHEN o.in_future THEN 'future' ELSE 'output_before_start' END AS kind,
        task.task_key,
        task.effective_end
    FROM task
    INNER JOIN live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o ON o.task_hash = task.task_hash
    WHERE o.origin <> 'inline' AND (o.in_future OR o.created_at < task.started_at)
),

by_task AS (
    SELECT
        kind,
        task_key,
        effective_end,
        count(*) AS n
    FROM found
    GROUP BY kind, task_key, effective_end
)

SELECT
    kind,
    sum(n)::BIGINT AS n,
    list(task_key ORDER BY effective_end, task_key)[1:10] AS examples,
    list(effective_end ORDER BY effective_end, task_key)[1:10] AS ends
FROM by_task
GROUP BY kind
ORDER BY kind
