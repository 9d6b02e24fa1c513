/* Messages and attempts to deliver them per channel and bucket of `step` (M-702). Mapped messages without a log of attempts
   stand for their attempts at the instant of their final state. */
create or replace temp macro notification_figures(window_start, window_end, step) as table
with
closed as (
    select * from closed_window(window_start, window_end)
),

message as (
    select
        source_id,
        notification_id,
        upper(channel) as channel,
        state,
        kind,
        coalesce(reason, 'unknown') as reason,
        created_at,
        coalesce(final_at, sent_at, created_at) as final_at,
        coalesce(attempts, 1) as attempts,
        latency_ms,
        src_table is distinct from 'state' as is_mapped
    from raw.notification
    where
        (created_at >= window_start and created_at < window_end)
        or (coalesce(final_at, sent_at, created_at) >= window_start and coalesce(final_at, sent_at, created_at) < window_end)
),

happened as (
    select source_id, channel, created_at as "at", 'created' as what, kind as detail, 1 as n, null as latency_us
    from message
    union all
    select source_id, channel, final_at, state, reason, 1, null
    from message
    where state in ('sent', 'abandoned', 'suppressed')
    union all
    select source_id, channel, final_at, 'ok', null, 1, ms_to_us(latency_ms)
    from message
    where is_mapped and state = 'sent'
    union all
    select source_id, channel, final_at, 'bad', null, case when state = 'sent' then attempts - 1 else attempts end, null
    from message
    where is_mapped and state in ('sent', 'failed', 'abandoned')
    union all
    select source_id, upper(channel), "at", case when ok then 'ok' else 'bad' end, null, 1, case when ok then ms_to_us(latency_ms) end
    from raw.notification_attempt
    where "at" >= window_start and "at" < window_end
),

placed as (
    select
        happened.* exclude (latency_us),
        cast(happened.latency_us as bigint) as latency_us,
        time_bucket(step, happened."at") as bucket
    from happened
    inner join closed
        on happened.source_id = closed.source_id and happened."at" >= closed.from_at and happened."at" < closed.to_at
    where happened.n > 0
),

suppressed as (
    select source_id, channel, bucket, to_json(map(list(detail order by detail), list(n order by detail))) as suppressed
    from (
        select source_id, channel, bucket, detail, count(*) as n
        from placed
        where what = 'suppressed'
        group by source_id, channel, bucket, detail
    )
    group by source_id, channel, bucket
),

counted as (
    select
        source_id,
        channel,
        bucket,
        count(*) filter (where what = 'created') as created,
        count(*) filter (where what = 'sent') as sent,
        count(*) filter (where what = 'abandoned') as abandoned,
        cast(coalesce(sum(n) filter (where what = 'ok'), 0) as bigint) as attempts_ok,
        cast(coalesce(sum(n) filter (where what = 'bad'), 0) as bigint) as attempts_failed,
        list_sort(list(latency_us) filter (where latency_us is not null)) as latencies,
        sum(latency_us) as latency_us,
        histogram(hist_index(latency_us)) filter (where latency_us is not null) as latency_hist,
        count(*) filter (where what = 'created' and detail = 'repeat') as repeats,
        count(*) filter (where what = 'created' and detail = 'resolved') as resolves,
        count(*) filter (where what = 'created' and detail = 'test') as tests,
        count(*) filter (where what = 'created' and detail = 'digest') as digests
    from placed
    group by source_id, channel, bucket
)

select
    counted.source_id,
    counted.channel,
    counted.bucket,
    counted.created,
    counted.sent,
    counted.abandoned,
    coalesce(suppressed.suppressed, cast('{}' as json)) as suppressed,
    counted.attempts_ok,
    counted.attempts_failed,
    ratio2(100 * counted.attempts_ok, counted.attempts_ok + counted.attempts_failed) as success_rate,
    coalesce(len(counted.latencies), 0) as latency_n,
    us_to_ms(coalesce(counted.latency_us, 0)) as latency_sum_ms,
    ratio2(counted.latency_us, 1000 * len(counted.latencies)) as avg_latency_ms,
    percentile2(counted.latencies, 95) as p95_latency_ms,
    hist_json(counted.latency_hist) as latency_hist,
    counted.repeats,
    counted.resolves,
    counted.tests,
    counted.digests,
    span_us(counted.bucket, least(counted.bucket + step, closed.to_at)) // 60000000 as closed_minutes
from counted
inner join closed on counted.source_id = closed.source_id
left join suppressed
    on
        counted.source_id = suppressed.source_id
        and counted.channel = suppressed.channel
        and counted.bucket = suppressed.bucket;
