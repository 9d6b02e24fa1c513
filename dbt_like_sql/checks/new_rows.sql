/*
description: >
  Rows of the big tables whose own time lies in the window (C-118). Counted before the union: the names of tables of millions
  of rows need not pass through it.
*/
SELECT
    src_table,
    sum(n)::BIGINT AS n
FROM (
    SELECT
        src_table,
        count(*) AS n
    FROM raw.task
    WHERE source_id = $source_id AND created_at >= $window_start::TIMESTAMP AND created_at < $window_end::TIMESTAMP
    GROUP BY src_table
    UNION ALL
    SELECT
        src_table,
        count(*) AS n
    FROM raw.task_output
    WHERE source_id = $source_id AND origin <> 'inline'
        AND created_at >= $window_start::TIMESTAMP AND created_at < $window_end::TIMESTAMP
    GROUP BY src_table
    UNION ALL
    SELECT
        src_table,
        count(*) AS n
    FROM raw.task_event
    WHERE source_id = $source_id AND "at" >= $window_start::TIMESTAMP AND "at" < $window_end::TIMESTAMP
    GROUP BY src_table
)
GROUP BY src_table
ORDER BY src_table
