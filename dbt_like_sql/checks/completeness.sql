/*
description: >
  Completeness figures by hour since the begin of the facts (C-101, C-102, M §7.1), with what says whether delays,
  impossible times and more than two rows of a task need a closer look. Tasks are counted, never rows.
key: [hour_no]
*/
SELECT
    hour_no,
    count(*) AS total_tasks,
    count(*) FILTER (WHERE settled) AS success_tasks,
    count(*) FILTER (WHERE succeeded AND NOT settled) AS pending_settle,
    count(*) FILTER (WHERE settled AND valid_rows > 0) AS tasks_with_outputs,
    coalesce(sum(valid_rows) FILTER (WHERE settled), 0)::BIGINT AS total_outputs,
    coalesce(
        sum(CASE WHEN coalesce(valid_rows, 0) = 0 THEN 0 WHEN one_key THEN 1 ELSE 2 END) FILTER (WHERE settled), 0
    )::BIGINT AS distinct_outputs,
    coalesce(sum(invalid_rows) FILTER (WHERE settled), 0)::BIGINT AS invalid_outputs,
    count(*) FILTER (WHERE succeeded AND no_end) AS no_end_time,
    count(*) FILTER (WHERE settled AND has_own) AS delay_population,
    count(*) FILTER (WHERE settled AND delay_us > $delay_us::BIGINT) AS delayed_tasks,
    max(greatest(delay_us, 0)) FILTER (WHERE settled AND delay_us IS NOT NULL) AS max_delay_us,
    count(*) FILTER (WHERE succeeded AND odd) AS odd_times,
    count(*) FILTER (WHERE settled AND valid_rows > 2 AND NOT one_key) AS many_rows
FROM task_fact
GROUP BY hour_no
