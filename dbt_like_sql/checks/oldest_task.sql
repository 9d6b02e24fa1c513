/*
description: When the oldest of the window's tasks was created; its outputs are not older by more than a clock's error.
*/
SELECT min(t.created_at) AS created_at
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
