/* Minutes of which nothing is known about workers: snapshots are the only worker evidence and the whole feed of the
   source gave none for longer than the tolerance around them (M-306). `silent_from` is the last sample before.
   Silence at the end is judged up to the last successful extraction, silence at the start from six hours before. */
create or replace temp macro silent_minute(window_start, window_end) as table
with
closed as (
    select * from closed_window(window_start, window_end)
    where has_snapshots and not has_worker_facts
),

feed as (
    select distinct
        snapshot.source_id,
        snapshot."at" as sampled_at
    from raw.worker_snapshot as snapshot
    inner join closed on snapshot.source_id = closed.source_id
    where
        snapshot."at" >= window_start - interval 6 hour
        and snapshot."at" < window_end + interval 6 hour
        and snapshot.origin is distinct from 'poll'
    union
    select
        source_id,
        window_start - interval 6 hour
    from closed
    union
    select
        source_id,
        least(as_of, window_end + interval 6 hour)
    from closed
),

gap as (
    select
        source_id,
        sampled_at as silent_from,
        lead(sampled_at) over (partition by source_id order by sampled_at) as silent_to
    from feed
)

select
    gap.source_id,
    gap.silent_from,
    unnest(range(
        greatest(date_trunc('minute', gap.silent_from) + interval 1 minute, closed.from_at),
        least(date_trunc('minute', gap.silent_to), closed.to_at),
        interval 1 minute
    )) as bucket
from gap
inner join closed on gap.source_id = closed.source_id
where span_us(gap.silent_from, gap.silent_to) > closed.tolerance_s * 1000000;
