/* Endpoint statistics of all grains in a window as one table; `span` is the length of the row's bucket. */
create or replace temp macro endpoint_stat(window_start, window_end) as table
select
    'mart.endpoint_minute_stats' as table_name,
    stat_minute as bucket,
    interval 1 minute as span,
    * exclude (stat_minute)
from mart.endpoint_minute_stats
where stat_minute >= window_start and stat_minute < window_end
union all by name
select
    'mart.endpoint_hourly_stats' as table_name,
    stat_hour as bucket,
    interval 1 hour as span,
    * exclude (stat_hour)
from mart.endpoint_hourly_stats
where stat_hour >= date_trunc('hour', window_start) and stat_hour < window_end
union all by name
select
    'mart.endpoint_daily_stats' as table_name,
    cast(stat_date as timestamp) as bucket,
    interval 1 day as span,
    * exclude (stat_date)
from mart.endpoint_daily_stats
where stat_date >= cast(window_start as date) and stat_date < window_end;
