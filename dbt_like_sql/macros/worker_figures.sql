/* Worker time per endpoint and bucket of `step`, judged over the whole bucket (M-307 to M-312). A worker is one
   worker_key, whatever number of lives it has in the bucket. slot_online_us and slot_busy_us are only right for
   one-minute buckets, because the concurrency is the one at the bucket's start (E-112); hours add minutes. Less than a
   millisecond online makes no row (M-110) and therefore no worker, or an hour would count one whose minute is absent. */
create or replace temp macro worker_figures(window_start, window_end, step) as table
with
concurrency as (
    select
        source_id,
        worker_key,
        coalesce(concurrency, 1) as concurrency,
        case
            when lag(valid_from) over in_order is null then '-infinity'::timestamp else valid_from
        end as valid_from,
        coalesce(lead(valid_from) over in_order, 'infinity'::timestamp) as valid_to
    from raw.worker_concurrency
    window in_order as (partition by source_id, worker_key order by valid_from)
),

run as materialized (
    select * from worker_run(window_start, window_end)
),

slots as (
    select
        run.run_id,
        concurrency.concurrency,
        concurrency.valid_from,
        concurrency.valid_to
    from run
    inner join concurrency
        on run.source_id = concurrency.source_id and run.worker_key = concurrency.worker_key
),

run_bucket as (
    select
        segment.run_id,
        segment.bucket,
        cast(sum(segment.us) as bigint) as online_us,
        cast(sum(case when segment.running > 0 then segment.us else 0 end) as bigint) as busy_us,
        cast(sum(segment.us * coalesce(slots.concurrency, 1)) as bigint) as slot_online_us,
        cast(sum(segment.us * least(segment.running, coalesce(slots.concurrency, 1))) as bigint) as slot_busy_us,
        count(*) filter (where segment.running = 0) as idle_spells,
        max(segment.us) filter (where segment.running = 0) as max_idle_us,
        count(*) filter (where segment.became_idle) as idle_count
    from worker_segment(window_start, window_end, step) as segment
    left join slots
        on
            segment.run_id = slots.run_id
            and segment.bucket >= slots.valid_from
            and segment.bucket < slots.valid_to
    group by segment.run_id, segment.bucket
),

worker as (
    select
        run.source_id,
        run.endpoint,
        run_bucket.bucket,
        sum(run_bucket.online_us) as online_us,
        sum(run_bucket.busy_us) as busy_us,
        sum(run_bucket.slot_online_us) as slot_online_us,
        sum(run_bucket.slot_busy_us) as slot_busy_us,
        sum(run_bucket.idle_spells) as idle_spells,
        max(run_bucket.max_idle_us) as max_idle_us,
        sum(run_bucket.idle_count) as idle_count
    from run_bucket
    inner join run on run_bucket.run_id = run.run_id
    group by run.source_id, run.endpoint, run.worker_key, run_bucket.bucket
)

select
    source_id,
    endpoint,
    bucket,
    count(*) filter (where online_us >= 1000 and busy_us > 0) as active_workers,
    count(*) filter (where online_us >= 1000 and busy_us = 0) as idle_workers,
    count(*) filter (where online_us >= 1000) as total_workers,
    sum(online_us) as online_us,
    sum(busy_us) as busy_us,
    sum(slot_online_us) as slot_online_us,
    sum(slot_busy_us) as slot_busy_us,
    cast(sum(idle_spells) as bigint) as idle_spells,
    max(max_idle_us) as max_idle_us,
    cast(sum(idle_count) as bigint) as idle_count,
    max(online_us) as longest_online_us
from worker
group by source_id, endpoint, bucket;
