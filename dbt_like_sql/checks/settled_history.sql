/*
description: >
  The hour up to which the hourly statistics of outputs hold everything from window_start on as it is now: computed,
  closed, and no change waiting (M-601, M-803); NULL if they do not reach back that far. Tasks that were deleted hard keep
  counting in statistics (E-610) and are no tasks of a check: from the first of them on, checks count themselves.
*/
SELECT
    CASE WHEN state.origin <= $window_start::TIMESTAMP THEN
        least(
            date_trunc('hour', state.output_closed_through),
            date_trunc('hour', progress.computed_through),
            coalesce((
                SELECT min(d.hour) FROM meta.dirty_hour AS d
                WHERE d.source_id = $source_id AND d.family = 'output' AND d.hour >= $window_start::TIMESTAMP
            ), TIMESTAMP '9999-01-01'),
            coalesce((
                SELECT date_trunc('hour', min(t.effective_end)) FROM raw.task AS t
                WHERE t.source_id = $source_id AND t.deleted_at IS NOT NULL AND t.deleted_reason <> 'retention'
                    AND t.effective_end >= $window_start::TIMESTAMP
            ), TIMESTAMP '9999-01-01')
        )
    END::TIMESTAMP AS until
FROM meta.source_state AS state
INNER JOIN meta.window_progress AS progress ON progress.source_id = state.source_id AND progress.family = 'output'
WHERE state.source_id = $source_id
