/*
The final tasks of a source that ended in [since, until), with the status their attempts decided (core.task: E-203,
M-206), found without reading tasks of other times: the view's computed end keeps storage from being skipped, and so does
a join by the task alone. A decided task's row is looked for where it was created and left out where it ends; everywhere only
if it does not say when it was created, or was stored before that was noted.
*/
CREATE OR REPLACE TEMP MACRO decided_task(source, since, until) AS TABLE
WITH decided AS (
    SELECT s.task_hash, s.task_key, s.endpoint, s.worker_key, s.status, s.created_at, s.started_at, s.ended_at, s.has_row,
        s.row_created_at
    FROM core.task_status AS s
    WHERE s.source_id = source AND s.status IN ('succeeded', 'failed', 'timed_out', 'cancelled')
        AND s.ended_at >= since AND s.ended_at < until
    UNION ALL
    SELECT s.task_hash, s.task_key, s.endpoint, s.worker_key, s.status, s.created_at, s.started_at, s.ended_at, s.has_row,
        s.row_created_at
    FROM core.task_status AS s
    WHERE s.source_id = source AND s.status IN ('succeeded', 'failed', 'timed_out', 'cancelled')
        AND s.ended_at IS NULL AND s.created_at >= since AND s.created_at < until
),

found_row AS (
    SELECT t.task_hash, t.endpoint, t.worker_key, t.raw_status, t.status, t.src_table, t.remote_id, t.created_at,
        t.output_expected, t.is_deleted, t.deleted_at, t.deleted_reason
    FROM raw.task AS t
    INNER JOIN decided ON decided.task_hash = t.task_hash AND decided.row_created_at = t.created_at
    WHERE t.source_id = source
    UNION ALL
    SELECT t.task_hash, t.endpoint, t.worker_key, t.raw_status, t.status, t.src_table, t.remote_id, t.created_at,
        t.output_expected, t.is_deleted, t.deleted_at, t.deleted_reason
    FROM raw.task AS t
    INNER JOIN decided ON decided.task_hash = t.task_hash
    WHERE t.source_id = source AND decided.has_row AND decided.row_created_at IS NULL
)

SELECT
    t.task_key, t.task_hash, t.endpoint, t.worker_key, t.raw_status, t.status AS row_status, t.src_table, t.remote_id,
    t.status, t.created_at, t.started_at, t.ended_at, t.effective_end, t.output_expected,
    t.deleted_at IS NOT NULL AS is_pruned
FROM raw.task AS t
ANTI JOIN (
    SELECT s.task_hash FROM core.task_status AS s
    WHERE s.source_id = source AND s.row_effective_end >= since AND s.row_effective_end < until
    UNION ALL
    SELECT s.task_hash FROM core.task_status AS s
    WHERE s.source_id = source AND s.has_row AND s.row_created_at IS NULL
    UNION ALL
    SELECT decided.task_hash FROM decided
) AS other ON other.task_hash = t.task_hash
WHERE t.source_id = source AND t.effective_end >= since AND t.effective_end < until
    AND t.status IN ('succeeded', 'failed', 'timed_out', 'cancelled')
    AND NOT t.is_deleted AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
UNION ALL
SELECT
    s.task_key, s.task_hash, coalesce(t.endpoint, s.endpoint, source), coalesce(s.worker_key, t.worker_key), t.raw_status,
    t.status, t.src_table, t.remote_id, s.status, coalesce(s.created_at, t.created_at), s.started_at, s.ended_at,
    coalesce(s.ended_at, s.created_at, t.created_at), coalesce(t.output_expected, TRUE),
    t.deleted_at IS NOT NULL
FROM decided AS s
LEFT JOIN found_row AS t ON t.task_hash = s.task_hash
WHERE coalesce(NOT t.is_deleted, TRUE) AND (t.deleted_at IS NULL OR t.deleted_reason = 'retention')
