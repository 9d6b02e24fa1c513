/*---
rule: M-911
family: job
description: Successes and failures are all runs (M-501), and only they have outcomes and durations
---*/
with
stat as (
    select 'mart.job_minute_stats' as table_name, stat_minute as bucket, * exclude (stat_minute)
    from mart.job_minute_stats
    where stat_minute >= $window_start and stat_minute < $window_end
    union all by name
    select 'mart.job_hourly_stats' as table_name, stat_hour as bucket, * exclude (stat_hour)
    from mart.job_hourly_stats
    where stat_hour >= date_trunc('hour', $window_start) and stat_hour < $window_end
    union all by name
    select 'mart.job_daily_stats' as table_name, cast(stat_date as timestamp) as bucket, * exclude (stat_date)
    from mart.job_daily_stats
    where stat_date >= cast($window_start as date) and stat_date < $window_end
)

select
    table_name,
    source_id,
    job_id,
    bucket,
    'runs do not add up' as detail
from stat
where
    success_count + failure_count <> total_runs
    or timeout_count > failure_count
    or duration_n > total_runs
    or sla_violations > duration_n
    or (total_runs = 0) <> (success_rate is null)
    or (total_runs = 0) <> (last_outcome is null)
