/*
description: >
  Per source with a snapshot table: expected and received snapshots of the last fifteen closed minutes (C-503), the newest
  snapshot, and whether other evidence shows workers online in the last three minutes before the reading (C-504, E-703).
key: [source_id]
*/
SELECT
    state.source_id,
    (
        SELECT sum(m.snapshots_expected)
        FROM mart.endpoint_minute_stats AS m
        WHERE m.source_id = state.source_id AND m.stat_minute >= state.closed_through - INTERVAL 15 MINUTE
            AND m.stat_minute < state.closed_through
    )::BIGINT AS expected,
    (
        SELECT sum(m.snapshots_received)
        FROM mart.endpoint_minute_stats AS m
        WHERE m.source_id = state.source_id AND m.stat_minute >= state.closed_through - INTERVAL 15 MINUTE
            AND m.stat_minute < state.closed_through
    )::BIGINT AS received,
    (
        SELECT max(s."at")
        FROM raw.worker_snapshot AS s
        WHERE s.source_id = state.source_id AND s.origin = 'source' AND s."at" <= state.as_of
    ) AS newest_at,
    EXISTS (
        SELECT 1
        FROM raw.worker AS w
        WHERE w.source_id = state.source_id AND w.deleted_at IS NULL
            AND w.status IN ('online', 'busy', 'draining')
            AND w.last_heartbeat_at > state.as_of - INTERVAL 3 MINUTE
    )
    OR EXISTS (
        SELECT 1
        FROM raw.task_event AS e
        WHERE e.source_id = state.source_id AND e.worker_key IS NOT NULL
            AND e."at" > state.as_of - INTERVAL 3 MINUTE AND e."at" <= state.as_of
    ) AS online
FROM meta.source_state AS state
INNER JOIN meta.source_setting AS setting ON setting.source_id = state.source_id
WHERE setting.has_worker_snapshot AND state.as_of IS NOT NULL
