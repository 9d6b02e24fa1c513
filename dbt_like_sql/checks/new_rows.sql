/*
description: Rows of the big tables by the day of their own time (C-118); days are [from_at, to_at) given as lists.
*/
WITH days AS (
    SELECT
        unnest($starts::TIMESTAMP[]) AS from_at,
        unnest($ends::TIMESTAMP[]) AS to_at
),

row_time AS (
    SELECT
        src_table,
        created_at AS at
    FROM raw.task
    WHERE source_id = $source_id AND created_at >= $first::TIMESTAMP AND created_at < $last::TIMESTAMP
    UNION ALL
    SELECT
        src_table,
        created_at AS at
    FROM raw.task_output
    WHERE source_id = $source_id AND origin <> 'inline' AND created_at >= $first::TIMESTAMP AND created_at < $last::TIMESTAMP
    UNION ALL
    SELECT
        src_table,
        "at"
    FROM raw.task_event
    WHERE source_id = $source_id AND "at" >= $first::TIMESTAMP AND "at" < $last::TIMESTAMP
)

SELECT
    row_time.src_table,
    days.from_at,
    count(*) AS n
FROM row_time
INNER JOIN days ON row_time.at >= days.from_at AND row_time.at < days.to_at
GROUP BY row_time.src_table, days.from_at
ORDER BY row_time.src_table, days.from_at
