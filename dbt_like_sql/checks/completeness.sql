/*
description: >
  Completeness figures of the tasks that ended in [window_start, window_end), by hour since window_start (C-101, C-102,
  M §7.1). Tasks are counted, never rows. Outputs created before $outputs_from are not looked at: a caller gives an
  instant well before the oldest task of the window.
key: [hour_no]
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        (epoch_us(t.effective_end) - epoch_us($window_start::TIMESTAMP)) // 3600000000 AS hour_no,
        t.status = 'succeeded' AND t.output_expected AS counts,
        epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT AS settled,
        t.ended_at IS NULL AS no_end
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
),

output AS (
    SELECT
        o.task_hash,
        count(*) FILTER (WHERE o.valid AND o.origin <> 'placeholder') AS valid_rows,
        count(DISTINCT hash(o.natural_key)) FILTER (WHERE o.valid AND o.origin <> 'placeholder') AS distinct_rows,
        count(*) FILTER (WHERE NOT o.valid OR o.origin = 'placeholder') AS invalid_rows
    FROM raw.task_output AS o
    WHERE o.source_id = $source_id
        AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
        AND (o.created_at >= $outputs_from::TIMESTAMP OR o.created_at IS NULL)
        AND o.task_hash IN (SELECT task_hash FROM task WHERE counts AND settled)
    GROUP BY o.task_hash
)

SELECT
    task.hour_no,
    count(*) AS total_tasks,
    count(*) FILTER (WHERE counts AND settled) AS success_tasks,
    count(*) FILTER (WHERE counts AND NOT settled) AS pending_settle,
    count(*) FILTER (WHERE counts AND settled AND coalesce(output.valid_rows, 0) > 0) AS tasks_with_outputs,
    coalesce(sum(output.valid_rows), 0)::BIGINT AS total_outputs,
    coalesce(sum(output.distinct_rows), 0)::BIGINT AS distinct_outputs,
    coalesce(sum(output.invalid_rows), 0)::BIGINT AS invalid_outputs,
    count(*) FILTER (WHERE counts AND no_end) AS no_end_time
FROM task
LEFT JOIN output ON output.task_hash = task.task_hash AND task.counts AND task.settled
GROUP BY task.hour_no
