/*
description: >
  Live outputs created in [window_start, window_end), for the expectations on raw.task_output. `copies` counts rows of the
  same output key, `same_output` rows of the same natural key (R-201), `task_known` says whether the store has the task.
key: [output_key]
*/
WITH output AS (
    SELECT
        o.*,
        count(*) OVER (PARTITION BY o.output_key) AS copies,
        count(*) OVER (PARTITION BY o.natural_key) AS same_output
    FROM raw.task_output AS o
    WHERE o.source_id = $source_id
        AND o.created_at >= $window_start::TIMESTAMP AND o.created_at < $window_end::TIMESTAMP
        AND NOT o.is_deleted AND o.deleted_at IS NULL
),

known AS (
    SELECT DISTINCT t.task_hash FROM raw.task AS t
    WHERE t.source_id = $source_id AND t.task_hash IN (SELECT task_hash FROM output)
)

SELECT
    output_key,
    task_key,
    natural_key,
    uri,
    media_type,
    size_bytes,
    created_at,
    origin,
    valid,
    copies,
    CASE WHEN natural_key IS NOT NULL THEN same_output END AS same_output,
    task_hash IN (SELECT task_hash FROM known) AS task_known
FROM output
WHERE hash(output_key) % $keep_one_in::UBIGINT = 0
