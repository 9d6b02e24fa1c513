/*
description: >
  Keys of the tasks of the window whose numbers are in $hashes, by end and key, at most $most. row_status is NULL where the
  source's row can say nothing more: of tasks known by their events only, and of those its retention removed (E-610).
key: [task_key]
*/
SELECT
    t.task_key,
    CASE WHEN NOT t.is_pruned THEN t.row_status END AS row_status,
    t.effective_end
FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
WHERE t.status = 'succeeded' AND t.output_expected AND t.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
ORDER BY t.effective_end, t.task_key
LIMIT $most::BIGINT
