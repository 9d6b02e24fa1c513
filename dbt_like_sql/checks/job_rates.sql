/*
description: Finished runs and failures per job in the window (C-341).
*/
SELECT
    r.job_id,
    count(*) AS total_runs,
    count(*) FILTER (WHERE r.outcome <> 'success') AS failures,
    bool_and(coalesce(j.enabled, true) AND j.deleted_at IS NULL) AS enabled
FROM raw.job_run AS r
LEFT JOIN raw.job AS j ON j.source_id = r.source_id AND j.job_id = r.job_id
WHERE r.source_id = $source_id AND r.outcome IN ('success', 'failure', 'timeout')
    AND r.ended_at >= $window_start::TIMESTAMP AND r.ended_at < $window_end::TIMESTAMP
GROUP BY r.job_id
ORDER BY r.job_id
