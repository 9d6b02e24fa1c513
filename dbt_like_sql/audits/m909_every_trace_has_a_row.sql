/*---
rule: M-909
description: Every endpoint with an online worker or an event in a minute has a row there
---*/
with
trace as (
    select
        instant.source_id,
        instant.endpoint,
        instant."at" as from_at,
        instant."at" + interval 1 microsecond as to_at
    from core.task_instant as instant
    where instant."at" >= $window_start and instant."at" < $window_end
    union all
    select
        online.source_id,
        online.endpoint,
        online.from_at,
        online.to_at
    from core.worker_interval as online
    where
        online.state = 'online'
        and online.from_at < $window_end
        and (online.to_at is null or online.to_at > $window_start)
        and (online.to_at is null or span_us(online.from_at, online.to_at) >= 1000)
),

cut as (
    select
        trace.source_id,
        trace.endpoint,
        greatest(trace.from_at, closed.from_at) as from_at,
        least(coalesce(trace.to_at, closed.to_at), closed.to_at) as to_at,
        trace.to_at is null or span_us(trace.from_at, trace.to_at) > 1 as is_span
    from trace
    inner join closed_window($window_start, $window_end) as closed on trace.source_id = closed.source_id
),

spread as (
    select
        *,
        unnest(range(date_trunc('minute', from_at), to_at, interval 1 minute)) as bucket
    from cut
    where from_at < to_at
),

expected as (
    select distinct
        source_id,
        endpoint,
        bucket
    from spread
    where
        not is_span
        or span_us(greatest(from_at, bucket), least(to_at, bucket + interval 1 minute)) >= 1000
)

select
    'mart.endpoint_minute_stats' as table_name,
    expected.source_id,
    expected.endpoint,
    expected.bucket,
    'a worker was online or something happened, but there is no row' as detail
from expected
left join mart.endpoint_minute_stats as stat
    on
        expected.source_id = stat.source_id
        and expected.endpoint = stat.endpoint
        and expected.bucket = stat.stat_minute
where stat.source_id is null
