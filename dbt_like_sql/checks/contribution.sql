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

counted AS (
    SELECT
        endpoint,
        worker_key,
        raw_status,
        src_table,
        is_local,
        hour_no,
        grouping(endpoint, worker_key, raw_status, src_table, is_local, hour_no) AS sets,
        count(*) AS tasks,
        count(*) FILTER (WHERE is_missing) AS missing
    FROM task
    GROUP BY GROUPING SETS ((endpoint), (worker_key), (raw_status), (src_table), (is_local), (hour_no))
)

SELECT
    CASE sets
        WHEN 31 THEN 'endpoint' WHEN 47 THEN 'worker' WHEN 55 THEN 'status' WHEN 59 THEN 'origin' WHEN 61 THEN 'path'
        ELSE 'hour_of_day'
    END AS dimension,
    CASE sets
        WHEN 31 THEN endpoint WHEN 47 THEN worker_key WHEN 55 THEN raw_status WHEN 59 THEN src_table
        WHEN 61 THEN CASE WHEN is_local THEN 'local' ELSE 'remote' END
        ELSE lpad(hour_no || '', 2, '0')
    END AS value,
    tasks,
    missing
FROM counted
ORDER BY dimension ASC, missing DESC, value ASC
