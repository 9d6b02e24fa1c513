/*
description: Settled tasks without an output that counts (C-101), from the facts of the window, by their numbers.
key: [task_hash]
*/
SELECT
    task_hash,
    end_us
FROM task_fact
WHERE settled AND coalesce(valid_rows, 0) = 0
