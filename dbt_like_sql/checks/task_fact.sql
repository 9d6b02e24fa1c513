/*
description: >
  One row per task that ended in [window_start, window_end) and owes an output, with what its outputs say: the facts that
  completeness, missing, late, double and impossible outputs are counted from (C-101, C-102, C-104, C-110, C-114). Outputs
  created before $outputs_from are not looked at: a caller gives an instant well before the oldest task of the window.
  valid_rows is NULL for a task without outputs.
key: [task_hash]
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        (epoch_us(t.effective_end) - epoch_us($window_start::TIMESTAMP)) // 3600000000 AS hour_no,
        t.status = 'succeeded' AS succeeded,
        t.status = 'succeeded' AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT AS settled,
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
        count(*) FILTER (WHERE o.counts) AS valid_rows,
        count(*) FILTER (WHERE NOT o.valid AND NOT o.in_future) AS invalid_rows,
        min(hash(o.natural_key)) FILTER (WHERE o.counts) = max(hash(o.natural_key)) FILTER (WHERE o.counts) AS one_key,
        max(epoch_us(o.created_at)) FILTER (WHERE o.own) AS last_us,
        bool_or(o.own) AS has_own,
        min(epoch_us(o.created_at)) FILTER (WHERE o.origin <> 'inline') AS first_us,
        bool_or(o.in_future) FILTER (WHERE o.origin <> 'inline') AS in_future
    FROM live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o
    WHERE o.task_hash IN (SELECT task_hash FROM task WHERE succeeded)
    GROUP BY o.task_hash
)

SELECT
    task.task_hash,
    task.hour_no,
    task.succeeded,
    task.settled,
    task.no_end,
    task.end_us,
    task.odd OR output.first_us < task.start_us OR output.in_future AS odd,
    output.valid_rows,
    output.invalid_rows,
    output.one_key,
    output.has_own,
    output.last_us - task.end_us AS delay_us
FROM task
LEFT JOIN output ON output.task_hash = task.task_hash
