/*
description: >
  Settled tasks of a window without an output that counts, by their numbers (C-101), where no facts of the window are at
  hand: outputs are compared as a whole instead of being counted task by task.
key: [task_hash]
*/
SELECT
    t.task_hash,
    epoch_us(t.effective_end) AS end_us
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
WHERE t.status = 'succeeded' AND t.output_expected
    AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
    AND t.task_hash NOT IN (
        SELECT o.task_hash
        FROM live_output($source_id, $outputs_from::TIMESTAMP, $latest::TIMESTAMP) AS o
        WHERE o.counts AND o.task_hash IS NOT NULL
    )
