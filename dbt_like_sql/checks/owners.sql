/*
description: >
  Tasks created since $oldest by their numbers, and those known by their events only (E-100), with their decided status
  (E-203); is_gone: no longer at the source.
*/
SELECT
    t.task_hash,
    t.is_deleted,
    t.deleted_at IS NOT NULL AND t.deleted_reason <> 'retention' AS is_gone,
    coalesce(s.status, t.status) AS status
FROM raw.task AS t
LEFT JOIN core.task_status AS s ON s.source_id = t.source_id AND s.task_hash = t.task_hash AND s.has_row
WHERE t.source_id = $source_id AND coalesce(t.created_at, TIMESTAMP '1970-01-01') >= $oldest::TIMESTAMP
    AND t.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
UNION ALL
SELECT
    s.task_hash,
    FALSE AS is_deleted,
    FALSE AS is_gone,
    s.status
FROM core.task_status AS s
WHERE s.source_id = $source_id AND NOT s.has_row AND s.task_hash IN (SELECT unnest($hashes::UBIGINT[]))
