/* Tasks waiting and attempts open just before the end of every minute (an instant equal to that end belongs to the next
   bucket), for all minutes in which at least one was waiting or running (M-110 c). A span enters the depth in the
   minute of its start and leaves it in the minute of its end, so running totals over minutes are enough. */
create or replace temp macro depth_figures(window_start, window_end) as table
with
span as (
    select
        source_id,
        endpoint,
        1 as waiting,
        0 as running,
        from_at,
        to_at
    from reaching_wait(window_start, window_end)
    union all
    select
        source_id,
        endpoint,
        0 as waiting,
        1 as running,
        started_at as from_at,
        ended_at as to_at
    from reaching_attempt(window_start, window_end)
    where (ended_at is null or ended_at > started_at) and not coalesce(reversed, false)
),

closed_span as (
    select
        span.*,
        closed.from_at as first_at,
        closed.to_at as last_at
    from span
    inner join closed_window(window_start, window_end) as closed
        on
            span.source_id = closed.source_id
            and span.from_at < closed.to_at
            and (span.to_at is null or span.to_at >= closed.from_at)
),

change as (
    select
        source_id,
        endpoint,
        first_at,
        last_at,
        greatest(date_trunc('minute', from_at), first_at - interval 1 minute) as minute,
        waiting,
        running
    from closed_span
    union all
    select
        source_id,
        endpoint,
        first_at,
        last_at,
        date_trunc('minute', to_at) as minute,
        -waiting,
        -running
    from closed_span
    where to_at < last_at
),

depth as (
    select
        source_id,
        endpoint,
        first_at,
        minute,
        cast(sum(sum(waiting)) over in_order as bigint) as waiting,
        cast(sum(sum(running)) over in_order as bigint) as running,
        coalesce(lead(minute) over in_order, last_at) as next_minute
    from change
    group by source_id, endpoint, first_at, last_at, minute
    window in_order as (partition by source_id, endpoint order by minute rows unbounded preceding)
)

select
    source_id,
    endpoint,
    unnest(range(
        greatest(minute, first_at),
        case when waiting + running > 0 then next_minute else minute + interval 1 minute end,
        interval 1 minute
    )) as bucket,
    waiting,
    running
from depth;
