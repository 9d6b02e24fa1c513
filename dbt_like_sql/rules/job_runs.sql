/*
description: >
  Per job its registration and its runs: failures since the last success, last duration, last start, and the runs of the
  last 24 hours (C-340, C-341, M-501). A timeout is a failure; missed and skipped are no runs. A run
  without an end, where ends are not mapped, is placed by its start.
key: [source_id, job_id]
*/
WITH run AS (
    SELECT
        r.source_id,
        r.job_id,
        r.outcome,
        coalesce(r.started_at, r.scheduled_at, r.ended_at) AS began_at,
        coalesce(r.ended_at, r.started_at, r.scheduled_at) AS done_at,
        coalesce(r.duration_ms, epoch_us(r.ended_at - r.started_at) / 1000.0) AS duration_ms,
        r.error_message
    FROM raw.job_run AS r
    WHERE r.outcome IN ('success', 'failure', 'timeout', 'running')
        AND coalesce(r.ended_at, r.started_at, r.scheduled_at) <= $now::TIMESTAMP
),

success AS (
    SELECT source_id, job_id, max(done_at) AS last_at
    FROM run
    WHERE outcome = 'success'
    GROUP BY source_id, job_id
),

figure AS (
    SELECT
        run.source_id,
        run.job_id,
        max(run.began_at) AS last_began_at,
        count(*) FILTER (
            WHERE run.outcome IN ('failure', 'timeout') AND (success.last_at IS NULL OR run.done_at > success.last_at)
        ) AS failures,
        arg_max(run.error_message, run.done_at) FILTER (WHERE run.outcome IN ('failure', 'timeout')) AS error_message,
        arg_max(run.duration_ms, run.done_at) FILTER (WHERE run.outcome <> 'running') AS last_duration_ms,
        count(*) FILTER (WHERE run.outcome <> 'running' AND run.done_at >= $day_ago::TIMESTAMP) AS day_runs,
        count(*) FILTER (WHERE run.outcome IN ('failure', 'timeout') AND run.done_at >= $day_ago::TIMESTAMP) AS day_failed
    FROM run
    LEFT JOIN success ON success.source_id = run.source_id AND success.job_id = run.job_id
    GROUP BY run.source_id, run.job_id
),

job AS (
    SELECT source_id, job_id, name, schedule, enabled, risk_level, sla_seconds, first_seen_at, deleted_at
    FROM raw.job
)

SELECT
    coalesce(job.source_id, figure.source_id) AS source_id,
    coalesce(job.job_id, figure.job_id) AS job_id,
    job.name,
    job.schedule,
    job.job_id IS NULL OR (coalesce(job.enabled, TRUE) AND job.deleted_at IS NULL) AS enabled,
    coalesce(job.risk_level, 'medium') AS risk_level,
    job.sla_seconds,
    job.first_seen_at,
    figure.last_began_at,
    coalesce(figure.failures, 0) AS failures,
    figure.error_message,
    figure.last_duration_ms,
    coalesce(figure.day_runs, 0) AS day_runs,
    coalesce(figure.day_failed, 0) AS day_failed
FROM job
FULL JOIN figure ON figure.source_id = job.source_id AND figure.job_id = job.job_id
