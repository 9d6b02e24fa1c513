/*
description: >
  Settled tasks of the window and those of them in the list $missing, by every dimension that may carry a loss: endpoint,
  worker, own word of the status, table of origin, whether the task went to a remote service, hour of the local day.
*/
WITH every AS (
    SELECT
        t.endpoint,
        t.worker_key,
        t.raw_status,
        t.src_table,
        coalesce(t.remote_id, '') = '' AS is_local,
        (((epoch_us(t.effective_end) - epoch_us($midnight::TIMESTAMP)) // 3600000000) % 24 + 24) % 24 AS hour_no,
        grouping(t.endpoint, t.worker_key, t.raw_status, t.src_table, is_local, hour_no) AS sets,
        count(*) AS tasks
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
    GROUP BY GROUPING SETS ((t.endpoint), (t.worker_key), (t.raw_status), (t.src_table), (is_local), (hour_no))
),

lost AS (
    SELECT
        t.endpoint,
        t.worker_key,
        t.raw_status,
        t.src_table,
        coalesce(t.remote_id, '') = '' AS is_local,
        (((epoch_us(t.effective_end) - epoch_us($midnight::TIMESTAMP)) // 3600000000) % 24 + 24) % 24 AS hour_no,
        grouping(t.endpoint, t.worker_key, t.raw_status, t.src_table, is_local, hour_no) AS sets,
        count(*) AS missing
    FROM decided_task($source_id, $window_start::TIMESTAMP, $window_end::TIMESTAMP) AS t
    WHERE t.status = 'succeeded' AND t.output_expected
        AND epoch_us($now::TIMESTAMP) - epoch_us(t.effective_end) >= $settle_us::BIGINT
        AND t.task_hash IN (SELECT unnest($missing::UBIGINT[]))
    GROUP BY GROUPING SETS ((t.endpoint), (t.worker_key), (t.raw_status), (t.src_table), (is_local), (hour_no))
),

total AS (
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
        tasks
    FROM every
),

part AS (
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
        missing
    FROM lost
)

SELECT
    total.dimension,
    total.value,
    total.tasks,
    coalesce(part.missing, 0) AS missing
FROM total
LEFT JOIN part ON part.dimension = total.dimension AND part.value IS NOT DISTINCT FROM total.value
ORDER BY total.dimension ASC, missing DESC, total.value ASC
