/*
description: >
  Tasks created since $oldest, or at an unknown time, by their numbers, and those known by their events only (E-100), with
  their decided status (E-203); is_gone: no longer at the source.
*/
SELECT
    t.task_hash,
    t.is_deleted,
    t.deleted_at IS NOT NULL AND t.deleted_reason <> 'retention' AS is_gone,
    coalesce(s.status, t.status) AS status,
    coalesce(s.ended_at, t.effective_end) AS effective_end
FROM (
    SELECT r.source_id, r.task_hash, r.is_deleted, r.deleted_at, r.deleted_reason, r.status, r.effective_end
    FROM raw.task AS r
    WHERE r.source_id = $source_id AND r.created_at >= $oldest::TIMESTAMP
        AND r.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
    UNION ALL
    SELECT r.source_id, r.task_hash, r.is_deleted, r.deleted_at, r.deleted_reason, r.status, r.effective_end
    FROM raw.task AS r
    WHERE r.source_id = $source_id AND r.created_at IS NULL AND r.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
) AS t
LEFT JOIN core.task_status AS s ON s.source_id = t.source_id AND s.task_hash = t.task_hash AND s.has_row
UNION ALL
SELECT
    s.task_hash,
    FALSE AS is_deleted,
    FALSE AS is_gone,
    s.status,
    coalesce(s.ended_at, s.created_at) AS effective_end
FROM core.task_status AS s
WHERE s.source_id = $source_id AND NOT s.has_row AND s.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
