/*---
rule: M-911
family: output
description: Tasks with and without outputs are all tasks, distinct and repeated outputs are all outputs
---*/
with
stat as (
    select 'mart.output_minute_stats' as table_name, stat_minute as bucket, * exclude (stat_minute)
    from mart.output_minute_stats
    where stat_minute >= $window_start and stat_minute < $window_end
    union all by name
    select 'mart.output_hourly_stats' as table_name, stat_hour as bucket, * exclude (stat_hour)
    from mart.output_hourly_stats
    where stat_hour >= date_trunc('hour', $window_start) and stat_hour < $window_end
    union all by name
    select 'mart.output_daily_stats' as table_name, cast(stat_date as timestamp) as bucket, * exclude (stat_date)
    from mart.output_daily_stats
    where stat_date >= cast($window_start as date) and stat_date < $window_end
)

select
    table_name,
    source_id,
    endpoint,
    bucket,
    'completeness does not add up' as detail
from stat
where
    tasks_with_outputs + missing_count <> success_tasks
    or total_outputs <> distinct_outputs + duplicate_rows
    or success_tasks > total_tasks
    or tasks_with_outputs > total_outputs
    or repaired_tasks > tasks_with_outputs
    or (success_tasks = 0) <> (completion_rate is null)
    or delayed_tasks > delay_population
    or pending_settle <> 0
