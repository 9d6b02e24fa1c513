/*
description: Succeeded tasks whose end lies after $latest (C-114): no window contains them yet.
*/
SELECT
    'future' AS kind,
    count(*) AS n,
    list(t.task_key ORDER BY t.effective_end, t.task_key)[1:10] AS examples,
    list(t.effective_end ORDER BY t.effective_end, t.task_key)[1:10] AS ends
FROM raw.task AS t
WHERE t.source_id = $source_id AND t.effective_end > $latest::TIMESTAMP AND t.status = 'succeeded'
    AND t.output_expected AND NOT t.is_deleted AND t.deleted_at IS NULL
HAVING count(*) > 0
