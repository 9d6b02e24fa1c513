/*
description: >
  Registered jobs with their newest finished run, the failures since the last success, and the newest run of any kind
  (C-340). A job that was removed from the source is not enabled.
*/
WITH run AS (
    SELECT
        *,
        coalesce(duration_ms, (epoch_us(ended_at) - epoch_us(started_at)) / 1000.0) AS lasted_ms,
        outcome IN ('success', 'failure', 'timeout') AS finished
    FROM raw.job_run
    WHERE source_id = $source_id AND coalesce(started_at, scheduled_at, ended_at) <= $now::TIMESTAMP
),

newest AS (
    SELECT
        job_id,
        max(coalesce(started_at, scheduled_at, ended_at)) FILTER (WHERE outcome NOT IN ('missed', 'skipped')) AS last_run_at,
        max(ended_at) FILTER (WHERE outcome = 'success') AS last_success_at,
        arg_max(outcome, ended_at) FILTER (WHERE finished) AS last_outcome,
        max(ended_at) FILTER (WHERE finished) AS last_ended_at,
        arg_max(lasted_ms, ended_at) FILTER (WHERE finished) AS last_duration_ms,
        arg_max(error_message, ended_at) FILTER (WHERE outcome IN ('failure', 'timeout')) AS last_error
    FROM run
    GROUP BY job_id
),

failed AS (
    SELECT
        run.job_id,
        count(*) AS failures
    FROM run
    INNER JOIN newest USING (job_id)
    WHERE run.outcome IN ('failure', 'timeout') AND run.ended_at > coalesce(newest.last_success_at, TIMESTAMP '0001-01-01')
    GROUP BY run.job_id
)

SELECT
    coalesce(job.job_id, newest.job_id) AS job_id,
    job.job_id IS NOT NULL AS registered,
    coalesce(job.name, job.job_id, newest.job_id) AS name,
    job.job_id IS NULL OR (coalesce(job.enabled, true) AND job.deleted_at IS NULL) AS enabled,
    coalesce(job.risk_level, 'medium') AS risk_level,
    job.sla_seconds,
    job.schedule,
    job.first_seen_at AS registered_at,
    newest.last_run_at,
    newest.last_success_at,
    newest.last_outcome,
    newest.last_ended_at,
    newest.last_duration_ms,
    newest.last_error,
    coalesce(failed.failures, 0) AS failures
FROM (SELECT * FROM raw.job WHERE source_id = $source_id) AS job
FULL JOIN newest ON newest.job_id = job.job_id
LEFT JOIN failed ON failed.job_id = coalesce(job.job_id, newest.job_id)
ORDER BY job_id
