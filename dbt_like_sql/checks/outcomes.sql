/*
description: >
  Counted outcomes of the source in the window, those of tasks that never started included (C-312, M-205, M-208).
*/
SELECT
    kind,
    count(*) AS n
FROM core.task_instant
WHERE source_id = $source_id AND kind IN ('completed', 'failed', 'timeout')
    AND "at" >= $window_start::TIMESTAMP AND "at" < $window_end::TIMESTAMP
GROUP BY kind
