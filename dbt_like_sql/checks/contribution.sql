/*
description: >
  Settled tasks of the window and those of them in the list $missing, by every dimension that may carry a loss: endpoint,
  worker, own word of the status, table of origin, whether the task went to a remote service, hour of the local day.
*/
WITH task AS MATERIALIZED (
    SELECT
        t.task_hash,
        t.endpoint,
        t.worker_key AS worker,
        t.raw_status AS status,
        t.src_table AS origin,
        CASE WHEN coalesce(t.remote_id, '') = '' THEN 'local' ELSE 'remote' END AS path,
        lpad((((epoch_us(t.effective_end) - epoch_us($midnight::TIMESTAMP)) // 3600000000) % 24 + 24) % 24 || '', 2, '0')
            AS hour_of_day
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
),

judged AS (
    SELECT
        task.* EXCLUDE (task_hash),
        task.task_hash IN (SELECT unnest($missing::UBIGINT[])) AS missing
    FROM task
)

SELECT
    CASE
        WHEN grouping(endpoint) = 0 THEN 'endpoint'
        WHEN grouping(worker) = 0 THEN 'worker'
        WHEN grouping(status) = 0 THEN 'status'
        WHEN grouping(origin) = 0 THEN 'origin'
        WHEN grouping(path) = 0 THEN 'path'
        ELSE 'hour_of_day'
    END AS dimension,
    coalesce(endpoint, worker, status, origin, path, hour_of_day) AS value,
    count(*) AS tasks,
    count(*) FILTER (WHERE missing) AS missing
FROM judged
GROUP BY GROUPING SETS ((endpoint), (worker), (status), (origin), (path), (hour_of_day))
ORDER BY dimension ASC, missing DESC, value ASC
