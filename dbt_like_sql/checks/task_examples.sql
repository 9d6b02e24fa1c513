/*
description: >
  Tasks of the window that lack something (C-113, C-115) or whose key is longer than $key_length (C-117); a kind is
  counted only for the parameter that asks for it.
*/
SELECT
    count(*) AS tasks,
    list(t.task_key ORDER BY t.effective_end, t.task_key)[1:10] AS examples
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
WHERE t.status = 'succeeded' AND t.output_expected
    AND CASE $kind::VARCHAR
        WHEN 'no_end' THEN t.ended_at IS NULL
        WHEN 'no_remote_id' THEN t.remote_id IS NULL OR t.remote_id = ''
        WHEN 'long_key' THEN length(t.task_key) > $key_length::BIGINT
    END
