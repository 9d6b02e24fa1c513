/* Source snapshots of online workers per endpoint and minute: GPU and memory samples (M-315) and how many of the
   expected slots have one (M-316). Of two snapshots of one worker and instant the lowest row_id counts (E-115).
   A sample at the very end of a worker's online time still shows it online. */
create or replace temp macro sample_figures(window_start, window_end) as table
with
closed as (
    select * from closed_window(window_start, window_end)
    where has_snapshots
),

run as (
    select
        online.source_id,
        online.endpoint,
        online.worker_key,
        online.from_at,
        coalesce(online.to_at, 'infinity'::timestamp) as to_at,
        row_number() over () as run_id
    from online_run(window_start, window_end + interval 1 hour) as online
    inner join closed on online.source_id = closed.source_id
),

-- A slot belongs to the minute of its start but may end, and get its sample, in a later one.
sample as (
    select
        snapshot.source_id,
        snapshot.worker_key,
        snapshot."at" as sampled_at,
        snapshot.gpu_utilization,
        snapshot.gpu_memory_used_mb,
        snapshot.cpu_utilization,
        snapshot.memory_used_mb
    from raw.worker_snapshot as snapshot
    inner join closed
        on
            snapshot.source_id = closed.source_id
            and snapshot."at" < closed.to_at + to_microseconds(if(60000000 % closed.slot_us = 0, 0, closed.slot_us))
    where
        snapshot."at" >= window_start
        and snapshot."at" < window_end + interval 1 hour
        and snapshot.origin is distinct from 'poll'
    qualify row_number() over (
        partition by snapshot.source_id, snapshot.worker_key, snapshot."at"
        order by snapshot.row_id nulls last, snapshot.snapshot_key
    ) = 1
),

online_sample as (
    select
        sample.*,
        run.run_id,
        run.endpoint,
        run.from_at as online_from,
        run.to_at as online_to
    from sample
    asof inner join run
        on
            sample.source_id = run.source_id
            and sample.worker_key = run.worker_key
            and sample.sampled_at >= run.from_at
    where sample.sampled_at <= run.to_at
),

measured as (
    select
        online_sample.source_id,
        online_sample.endpoint,
        date_trunc('minute', online_sample.sampled_at) as bucket,
        count(gpu_utilization) as gpu_n,
        sum(cast(gpu_utilization as decimal(20, 6))) as gpu_sum,
        max(gpu_utilization) as max_gpu_utilization,
        count(gpu_memory_used_mb) as gpu_memory_used_mb_n,
        sum(gpu_memory_used_mb) as gpu_memory_used_mb_sum,
        count(cpu_utilization) as cpu_utilization_n,
        sum(cast(cpu_utilization as decimal(20, 6))) as cpu_utilization_sum,
        count(memory_used_mb) as memory_used_mb_n,
        sum(memory_used_mb) as memory_used_mb_sum
    from online_sample
    inner join closed on online_sample.source_id = closed.source_id
    where
        online_sample.sampled_at >= closed.from_at
        and online_sample.sampled_at < closed.to_at
        -- Offline from the minute's first instant on: not a worker of this minute.
        and online_sample.online_to > date_trunc('minute', online_sample.sampled_at)
    group by online_sample.source_id, online_sample.endpoint, bucket
),

received as (
    select
        source_id,
        endpoint,
        time_bucket(interval 1 minute, make_timestamp(slot * slot_us)) as bucket,
        count(*) as snapshots_received
    from (
        select distinct
            online_sample.source_id,
            online_sample.endpoint,
            online_sample.run_id,
            closed.slot_us,
            epoch_us(online_sample.sampled_at) // closed.slot_us as slot
        from online_sample
        inner join closed on online_sample.source_id = closed.source_id
        where
            epoch_us(online_sample.sampled_at) // closed.slot_us * closed.slot_us
            >= epoch_us(greatest(online_sample.online_from, closed.from_at))
            and epoch_us(online_sample.sampled_at) // closed.slot_us * closed.slot_us < epoch_us(closed.to_at)
            and (
                isinf(online_sample.online_to)
                or (epoch_us(online_sample.sampled_at) // closed.slot_us + 1) * closed.slot_us
                <= epoch_us(online_sample.online_to)
            )
    ) as slot_with_sample
    group by source_id, endpoint, bucket
),

run_minute as (
    select
        run.source_id,
        run.endpoint,
        run.from_at,
        run.to_at,
        closed.slot_us,
        unnest(range(
            greatest(date_trunc('minute', run.from_at), closed.from_at),
            least(run.to_at, closed.to_at),
            interval 1 minute
        )) as bucket
    from run
    inner join closed on run.source_id = closed.source_id
    where run.from_at < closed.to_at
),

-- Slots that start in the minute and lie wholly in the run: last number - first number + 1.
expected as (
    select
        source_id,
        endpoint,
        bucket,
        sum(greatest(0, least(
            (epoch_us(bucket) + 60000000 - 1) // slot_us,
            case when isinf(to_at) then 9223372036854775807 else epoch_us(to_at) // slot_us - 1 end
        ) - (epoch_us(greatest(from_at, bucket)) + slot_us - 1) // slot_us + 1)) as snapshots_expected
    from run_minute
    group by source_id, endpoint, bucket
)

select
    coalesce(measured.source_id, expected.source_id) as source_id,
    coalesce(measured.endpoint, expected.endpoint) as endpoint,
    coalesce(measured.bucket, expected.bucket) as bucket,
    measured.* exclude (source_id, endpoint, bucket),
    expected.snapshots_expected,
    received.snapshots_received
from expected
left join received
    on
        expected.source_id = received.source_id
        and expected.endpoint = received.endpoint
        and expected.bucket = received.bucket
full join measured
    on
        expected.source_id = measured.source_id
        and expected.endpoint = measured.endpoint
        and expected.bucket = measured.bucket;
