/*
description: When the oldest of the window's tasks was created; its outputs are not older by more than a clock's error.
*/
SELECT min(t.created_at) AS created_at
FROM raw.task AS t
WHERE t.source_id = $source_id
    AND t.effective_end >= $window_start::TIMESTAMP AND t.effective_end < $window_end::TIMESTAMP
