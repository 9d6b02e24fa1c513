/*
description: >
  Completeness figures of the tasks that ended in [window_start, window_end), by hour since window_start (C-101, C-102,
  M §7.1), with what says whether delays, impossible times and more than two rows of a task need a closer look. Tasks are
  counted, never rows. Outputs created before $outputs_from are not looked at: a caller gives an instant well before the
  oldest task of the window.
key: [hour_no]
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        (epoch_us(t.effective_end) - epoch_us($window_start::TIMESTAMP)) // 3600000000 AS hour_no,
        t.status = 'succeeded' AS counts,
        epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT AS settled,
        t.ended_at IS NULL AS no_end,
        epoch_us(t.effective_end) AS end_us,
        epoch_us(t.started_at) AS start_us,
        t.ended_at < t.started_at OR t.created_at > $latest::TIMESTAMP OR t.started_at > $latest::TIMESTAMP AS odd
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.output_expected
),

output AS (
    SELECT
        o.task_hash,
        count(*) FILTER (WHERE o.valid AND o.origin <> 'placeholder') AS valid_rows,
        count(*) FILTER (WHERE NOT o.valid) AS invalid_rows,
        min(hash(o.natural_key)) FILTER (WHERE o.valid AND o.origin <> 'placeholder')
        = max(hash(o.natural_key)) FILTER (WHERE o.valid AND o.origin <> 'placeholder') AS one_key,
        max(epoch_us(o.created_at)) FILTER (WHERE o.valid AND o.origin NOT IN ('placeholder', 'repair')) AS last_us,
        bool_or(o.valid AND o.origin NOT IN ('placeholder', 'repair')) AS has_own,
        min(epoch_us(o.created_at)) FILTER (WHERE o.origin <> 'inline') AS first_us
    FROM raw.task_output AS o
    WHERE o.source_id = $source_id
        AND NOT o.is_deleted AND (o.deleted_at IS NULL OR o.deleted_reason = 'retention')
        AND (o.created_at >= $outputs_from::TIMESTAMP OR o.created_at IS NULL)
        AND o.task_hash IN (SELECT task_hash FROM task WHERE counts)
    GROUP BY o.task_hash
)

SELECT
    task.hour_no,
    count(*) AS total_tasks,
    count(*) FILTER (WHERE counts AND settled) AS success_tasks,
    count(*) FILTER (WHERE counts AND NOT settled) AS pending_settle,
    count(*) FILTER (WHERE counts AND settled AND valid_rows > 0) AS tasks_with_outputs,
    coalesce(sum(valid_rows) FILTER (WHERE settled), 0)::BIGINT AS total_outputs,
    coalesce(
        sum(CASE WHEN coalesce(valid_rows, 0) = 0 THEN 0 WHEN one_key THEN 1 ELSE 2 END) FILTER (WHERE settled), 0
    )::BIGINT AS distinct_outputs,
    coalesce(sum(invalid_rows) FILTER (WHERE settled), 0)::BIGINT AS invalid_outputs,
    count(*) FILTER (WHERE counts AND no_end) AS no_end_time,
    count(*) FILTER (WHERE settled AND has_own) AS delay_population,
    count(*) FILTER (WHERE settled AND last_us - end_us > $delay_us::BIGINT) AS delayed_tasks,
    max(greatest(last_us - end_us, 0)) FILTER (WHERE settled AND last_us IS NOT NULL) AS max_delay_us,
    count(*) FILTER (WHERE counts AND (odd OR first_us < start_us)) AS odd_times,
    count(*) FILTER (WHERE settled AND valid_rows > 2 AND NOT one_key) AS many_rows
FROM task
LEFT JOIN output ON output.task_hash = task.task_hash
GROUP BY task.hour_no
