/*
description: >
  Settled tasks of the window and those of them in the list $missing, by every dimension that may carry a loss: endpoint,
  worker, own word of the status, table of origin, whether the task went to a remote service, hour of the local day.
*/
WITH task AS (
    SELECT
        t.endpoint,
        t.worker_key,
        t.raw_status,
        t.src_table,
        coalesce(t.remote_id, '') = '' AS is_local,
        (((epoch_us(t.effective_end) - epoch_us($midnight::TIMESTAMP)) // 3600000000) % 24 + 24) % 24 AS hour_no,
        t.task_hash IN (SELECT unnest($missing::UBIGINT[])) AS is_missing
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
),

-- Few combinations stand for very many tasks; workers are many, and would make nearly as many of them.
combined AS (
    SELECT
        endpoint,
        raw_status,
        src_table,
        is_local,
        hour_no,
        count(*) AS tasks,
        count(*) FILTER (WHERE is_missing) AS missing
    FROM task
    GROUP BY ALL
),

counted AS (
    SELECT
        endpoint,
        NULL AS worker_key,
        raw_status,
        src_table,
        is_local,
        hour_no,
        grouping(endpoint, raw_status, src_table, is_local, hour_no) AS sets,
        sum(tasks)::BIGINT AS tasks,
        sum(missing)::BIGINT AS missing
    FROM combined
    GROUP BY GROUPING SETS ((endpoint), (raw_status), (src_table), (is_local), (hour_no))
    UNION ALL BY NAME
    SELECT
        worker_key,
        0 AS sets,
        count(*) AS tasks,
        count(*) FILTER (WHERE is_missing) AS missing
    FROM task
    GROUP BY worker_key
)

SELECT
    CASE sets
        WHEN 0 THEN 'worker' WHEN 15 THEN 'endpoint' WHEN 23 THEN 'status' WHEN 27 THEN 'origin' WHEN 29 THEN 'path'
        ELSE 'hour_of_day'
    END AS dimension,
    CASE sets
        WHEN 0 THEN worker_key WHEN 15 THEN endpoint WHEN 23 THEN raw_status WHEN 27 THEN src_table
        WHEN 29 THEN CASE WHEN is_local THEN 'local' ELSE 'remote' END
        ELSE lpad(hour_no || '', 2, '0')
    END AS value,
    tasks,
    missing
FROM counted
ORDER BY dimension ASC, missing DESC, value ASC
