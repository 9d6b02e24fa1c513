/*
description: When the newest output created since $oldest and before the window's end was created.
*/
SELECT max(o.created_at) AS created_at
FROM raw.task_output AS o
WHERE o.source_id = $source_id AND o.origin IN ('app', 'inline') AND o.created_at >= $oldest::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP
