/*
The final tasks of a source that ended in [since, until), with the status their attempts decided (core.task: E-203,
M-206), found without reading tasks of other times: the view's computed end keeps storage from being skipped.
*/
CREATE OR REPLACE TEMP MACRO decided_task(source, since, until) AS TABLE
SELECT
    t.task_key, t.task_hash, t.endpoint, t.worker_key, t.raw_status, t.status AS row_status, t.src_table, t.remote_id,
    t.status, t.created_at, t.started_at, t.ended_at, t.effective_end, t.output_expected,
    t.deleted_at IS NOT NULL AS is_pruned
FROM raw.task AS t
WHERE t.source_id = source AND t.effective_end >= since AND t.effective_end < until
    AND t.status IN ('succeeded', 'failed', 'timed_out', 'cancelled')
    AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
    AND t.task_hash NOT IN (SELECT s.task_hash FROM core.task_status AS s WHERE s.source_id = source AND s.task_hash IS NOT NULL)
UNION ALL
SELECT
    s.task_key, s.task_hash, coalesce(t.endpoint, s.endpoint, source), coalesce(s.worker_key, t.worker_key), t.raw_status,
    t.status, t.src_table, t.remote_id, s.status, coalesce(s.created_at, t.created_at), s.started_at, s.ended_at,
    coalesce(s.ended_at, s.created_at, t.created_at), coalesce(t.output_expected, TRUE),
    t.deleted_at IS NOT NULL
FROM core.task_status AS s
LEFT JOIN raw.task AS t ON t.source_id = source AND t.task_hash = s.task_hash
WHERE s.source_id = source AND coalesce(s.ended_at, s.created_at) >= since AND coalesce(s.ended_at, s.created_at) < until
    AND s.status IN ('succeeded', 'failed', 'timed_out', 'cancelled')
    AND coalesce(NOT t.is_deleted, TRUE) AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
