/*---
rule: M-905
description: A minute in which an attempt overlaps its online worker shows a busy worker, one with an idle worker idle time
---*/
with
overlap as (
    select
        attempt.source_id,
        online.endpoint,
        greatest(attempt.started_at, online.from_at, closed.from_at) as from_at,
        least(
            coalesce(attempt.ended_at, closed.to_at), coalesce(online.to_at, closed.to_at), closed.to_at
        ) as to_at
    from core.task_attempt as attempt
    inner join core.worker_interval as online
        on
            attempt.source_id = online.source_id
            and attempt.worker_key = online.worker_key
            and online.state = 'online'
    inner join closed_window($window_start, $window_end) as closed on attempt.source_id = closed.source_id
    where
        attempt.started_at < $window_end
        and (attempt.ended_at is null or attempt.ended_at > $window_start)
        and not coalesce(attempt.reversed, false)
        and closed.has_attempts
),

spread as (
    select
        source_id,
        endpoint,
        from_at,
        to_at,
        unnest(range(date_trunc('minute', from_at), to_at, interval 1 minute)) as bucket
    from overlap
    where from_at < to_at
),

busy as (
    select distinct
        source_id,
        endpoint,
        bucket
    from spread
    where span_us(greatest(from_at, bucket), least(to_at, bucket + interval 1 minute)) >= 1000
)

select
    'mart.endpoint_minute_stats' as table_name,
    busy.source_id,
    busy.endpoint,
    busy.bucket,
    'an attempt ran on an online worker, but no worker was busy' as detail
from busy
left join mart.endpoint_minute_stats as stat
    on
        busy.source_id = stat.source_id
        and busy.endpoint = stat.endpoint
        and busy.bucket = stat.stat_minute
where
    stat.source_id is null
    or (
        stat.quality is distinct from 'unknown'
        and stat.online_ms is not null
        and not (stat.active_workers >= 1 and stat.busy_ms > 0)
    )
union all
select
    table_name,
    source_id,
    endpoint,
    bucket,
    'a worker was idle, but there is no idle time' as detail
from endpoint_stat($window_start, $window_end)
where idle_workers > 0 and idle_ms <= 0
