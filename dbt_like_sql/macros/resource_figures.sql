/* Samples of processes per bucket of `step` (M §7.2). A process exists from its first sample until a day after its last:
   minutes without a sample in between have rows too, so that what was expected and what came can be compared. */
create or replace temp macro resource_figures(window_start, window_end, step) as table
with
closed as (
    select * from closed_window(window_start, window_end)
),

-- Samples of the closed part of the window and of the day before.
known as (
    select
        sample.source_id,
        sample.process_id,
        sample."at",
        sample.uptime_s,
        sample.tcp_by_state,
        sample.rss_bytes,
        sample.vms_bytes,
        cast(sample.mem_pct as decimal(20, 6)) as mem_pct,
        cast(sample.cpu_pct as decimal(20, 6)) as cpu_pct,
        sample.objects,
        sample.fds,
        sample.conns,
        sample.threads,
        case when sample.fds_max > 0 then cast(100.0 * sample.fds / sample.fds_max as decimal(20, 6)) end as fd_usage_pct,
        case when sample.effective_cores > 0 then cast(sample.load1 / sample.effective_cores as decimal(20, 6)) end as load_ratio
    from raw.process_sample as sample
    inner join closed on sample.source_id = closed.source_id and sample."at" < closed.to_at
    where sample."at" >= window_start - interval 1 day and sample."at" < window_end
),

-- A process that was silent longer: its last sample before, for the restart (an empty list costs nothing).
silent as (
    select
        source_id,
        process_id
    from known
    group by source_id, process_id
    having min("at") >= window_start
),

older as (
    select
        sample.source_id,
        sample.process_id,
        max(sample."at") as "at",
        arg_max(struct_pack(s := sample.uptime_s), sample."at").s as uptime_s
    from raw.process_sample as sample
    semi join silent on sample.source_id = silent.source_id and sample.process_id = silent.process_id
    where sample."at" < window_start - interval 1 day
    group by sample.source_id, sample.process_id
),

followed as (
    select
        source_id,
        process_id,
        "at",
        coalesce(
            uptime_s < lag(uptime_s) over (partition by source_id, process_id order by "at"), false
        ) as is_restart
    from (
        select source_id, process_id, "at", uptime_s from known
        union all
        select source_id, process_id, "at", uptime_s from older
    )
),

subject as (
    select
        known.source_id,
        known.process_id,
        min(known."at") as first_at,
        any_value(closed.from_at) as from_at,
        any_value(closed.to_at) as to_at,
        cast(coalesce(any_value(expected.interval_s), any_value(closed.slot_us) / 1000000.0) * 1000000 as bigint) as interval_us
    from known
    inner join closed on known.source_id = closed.source_id
    left join meta.sample_interval as expected
        on known.source_id = expected.source_id and known.process_id = expected.name
    group by known.source_id, known.process_id
),

minute as (
    select
        source_id,
        process_id,
        interval_us,
        to_at,
        unnest(range(greatest(date_trunc('minute', first_at), from_at), to_at, interval 1 minute)) as minute
    from subject
),

present as (
    select
        minute.source_id,
        minute.process_id,
        time_bucket(step, minute.minute) as bucket,
        any_value(minute.to_at) as to_at,
        cast(sum(
            (epoch_us(minute.minute) + 60000000 + minute.interval_us - 1) // minute.interval_us
            - (epoch_us(minute.minute) + minute.interval_us - 1) // minute.interval_us
        ) as bigint) as samples_expected
    from minute
    asof join known
        on
            minute.source_id = known.source_id
            and minute.process_id = known.process_id
            and minute.minute + interval 1 minute > known."at"
    where known."at" >= minute.minute - interval 1 day
    group by minute.source_id, minute.process_id, bucket
),

sampled as (
    select
        known.source_id,
        known.process_id,
        time_bucket(step, known."at") as bucket,
        count(*) as samples_received,
        count(known.rss_bytes) as rss_bytes_n,
        cast(sum(known.rss_bytes) as decimal(38, 0)) as rss_bytes_sum,
        min(known.rss_bytes) as min_rss_bytes,
        max(known.rss_bytes) as max_rss_bytes,
        arg_max(known.rss_bytes, known."at") as last_rss_bytes,
        count(known.vms_bytes) as vms_bytes_n,
        cast(sum(known.vms_bytes) as decimal(38, 0)) as vms_bytes_sum,
        min(known.vms_bytes) as min_vms_bytes,
        max(known.vms_bytes) as max_vms_bytes,
        arg_max(known.vms_bytes, known."at") as last_vms_bytes,
        count(known.mem_pct) as mem_pct_n,
        cast(sum(known.mem_pct) as decimal(38, 6)) as mem_pct_sum,
        min(known.mem_pct) as min_mem_pct,
        max(known.mem_pct) as max_mem_pct,
        arg_max(known.mem_pct, known."at") as last_mem_pct,
        count(known.cpu_pct) as cpu_pct_n,
        cast(sum(known.cpu_pct) as decimal(38, 6)) as cpu_pct_sum,
        min(known.cpu_pct) as min_cpu_pct,
        max(known.cpu_pct) as max_cpu_pct,
        arg_max(known.cpu_pct, known."at") as last_cpu_pct,
        count(known.objects) as objects_n,
        cast(sum(known.objects) as decimal(38, 0)) as objects_sum,
        min(known.objects) as min_objects,
        max(known.objects) as max_objects,
        arg_max(known.objects, known."at") as last_objects,
        count(known.fds) as fds_n,
        cast(sum(known.fds) as decimal(38, 0)) as fds_sum,
        min(known.fds) as min_fds,
        max(known.fds) as max_fds,
        arg_max(known.fds, known."at") as last_fds,
        count(known.conns) as conns_n,
        cast(sum(known.conns) as decimal(38, 0)) as conns_sum,
        min(known.conns) as min_conns,
        max(known.conns) as max_conns,
        arg_max(known.conns, known."at") as last_conns,
        count(known.threads) as threads_n,
        cast(sum(known.threads) as decimal(38, 0)) as threads_sum,
        min(known.threads) as min_threads,
        max(known.threads) as max_threads,
        arg_max(known.threads, known."at") as last_threads,
        count(known.fd_usage_pct) as fd_usage_pct_n,
        cast(sum(known.fd_usage_pct) as decimal(38, 6)) as fd_usage_pct_sum,
        min(known.fd_usage_pct) as min_fd_usage_pct,
        max(known.fd_usage_pct) as max_fd_usage_pct,
        arg_max(known.fd_usage_pct, known."at") as last_fd_usage_pct,
        count(known.load_ratio) as load_ratio_n,
        cast(sum(known.load_ratio) as decimal(38, 6)) as load_ratio_sum,
        min(known.load_ratio) as min_load_ratio,
        max(known.load_ratio) as max_load_ratio,
        arg_max(known.load_ratio, known."at") as last_load_ratio
    from known
    inner join closed
        on known.source_id = closed.source_id and known."at" >= closed.from_at and known."at" < closed.to_at
    where known."at" >= window_start
    group by known.source_id, known.process_id, bucket
),

restarted as (
    select
        source_id,
        process_id,
        time_bucket(step, "at") as bucket,
        count(*) as restarts
    from followed
    where is_restart and "at" >= window_start
    group by source_id, process_id, bucket
),

state_count as (
    select
        source_id,
        process_id,
        time_bucket(step, "at") as bucket,
        state,
        max(cast(json_extract_string(tcp_by_state, '$."' || state || '"') as bigint)) as n
    from (
        select
            source_id,
            process_id,
            "at",
            tcp_by_state,
            unnest(json_keys(tcp_by_state)) as state
        from known
        where "at" >= window_start and tcp_by_state is not null
    )
    group by source_id, process_id, bucket, state
),

states as (
    select
        source_id,
        process_id,
        bucket,
        to_json(map(list(state order by state), list(n order by state))) as max_conns_by_state
    from state_count
    where n is not null
    group by source_id, process_id, bucket
)

select
    present.source_id,
    present.process_id,
    present.bucket,
    coalesce(sampled.rss_bytes_n, 0) as rss_bytes_n,
    coalesce(sampled.rss_bytes_sum, cast(0 as decimal(38, 0))) as rss_bytes_sum,
    ratio2(sampled.rss_bytes_sum, sampled.rss_bytes_n) as avg_rss_bytes,
    sampled.min_rss_bytes,
    sampled.max_rss_bytes,
    sampled.last_rss_bytes,
    coalesce(sampled.vms_bytes_n, 0) as vms_bytes_n,
    coalesce(sampled.vms_bytes_sum, cast(0 as decimal(38, 0))) as vms_bytes_sum,
    ratio2(sampled.vms_bytes_sum, sampled.vms_bytes_n) as avg_vms_bytes,
    sampled.min_vms_bytes,
    sampled.max_vms_bytes,
    sampled.last_vms_bytes,
    coalesce(sampled.mem_pct_n, 0) as mem_pct_n,
    coalesce(sampled.mem_pct_sum, cast(0 as decimal(38, 6))) as mem_pct_sum,
    ratio2(sampled.mem_pct_sum * 1000000, 1000000 * sampled.mem_pct_n) as avg_mem_pct,
    sampled.min_mem_pct,
    sampled.max_mem_pct,
    sampled.last_mem_pct,
    coalesce(sampled.cpu_pct_n, 0) as cpu_pct_n,
    coalesce(sampled.cpu_pct_sum, cast(0 as decimal(38, 6))) as cpu_pct_sum,
    ratio2(sampled.cpu_pct_sum * 1000000, 1000000 * sampled.cpu_pct_n) as avg_cpu_pct,
    sampled.min_cpu_pct,
    sampled.max_cpu_pct,
    sampled.last_cpu_pct,
    coalesce(sampled.objects_n, 0) as objects_n,
    coalesce(sampled.objects_sum, cast(0 as decimal(38, 0))) as objects_sum,
    ratio2(sampled.objects_sum, sampled.objects_n) as avg_objects,
    sampled.min_objects,
    sampled.max_objects,
    sampled.last_objects,
    coalesce(sampled.fds_n, 0) as fds_n,
    coalesce(sampled.fds_sum, cast(0 as decimal(38, 0))) as fds_sum,
    ratio2(sampled.fds_sum, sampled.fds_n) as avg_fds,
    sampled.min_fds,
    sampled.max_fds,
    sampled.last_fds,
    coalesce(sampled.conns_n, 0) as conns_n,
    coalesce(sampled.conns_sum, cast(0 as decimal(38, 0))) as conns_sum,
    ratio2(sampled.conns_sum, sampled.conns_n) as avg_conns,
    sampled.min_conns,
    sampled.max_conns,
    sampled.last_conns,
    coalesce(sampled.threads_n, 0) as threads_n,
    coalesce(sampled.threads_sum, cast(0 as decimal(38, 0))) as threads_sum,
    ratio2(sampled.threads_sum, sampled.threads_n) as avg_threads,
    sampled.min_threads,
    sampled.max_threads,
    sampled.last_threads,
    coalesce(sampled.fd_usage_pct_n, 0) as fd_usage_pct_n,
    coalesce(sampled.fd_usage_pct_sum, cast(0 as decimal(38, 6))) as fd_usage_pct_sum,
    ratio2(sampled.fd_usage_pct_sum * 1000000, 1000000 * sampled.fd_usage_pct_n) as avg_fd_usage_pct,
    sampled.min_fd_usage_pct,
    sampled.max_fd_usage_pct,
    sampled.last_fd_usage_pct,
    coalesce(sampled.load_ratio_n, 0) as load_ratio_n,
    coalesce(sampled.load_ratio_sum, cast(0 as decimal(38, 6))) as load_ratio_sum,
    ratio2(sampled.load_ratio_sum * 1000000, 1000000 * sampled.load_ratio_n) as avg_load_ratio,
    sampled.min_load_ratio,
    sampled.max_load_ratio,
    sampled.last_load_ratio,
    coalesce(states.max_conns_by_state, cast('{}' as json)) as max_conns_by_state,
    coalesce(restarted.restarts, 0) as restarts,
    present.samples_expected,
    coalesce(sampled.samples_received, 0) as samples_received,
    span_us(present.bucket, least(present.bucket + step, present.to_at)) // 60000000 as closed_minutes
from present
left join sampled
    on
        present.source_id = sampled.source_id
        and present.process_id = sampled.process_id
        and present.bucket = sampled.bucket
left join restarted
    on
        present.source_id = restarted.source_id
        and present.process_id = restarted.process_id
        and present.bucket = restarted.bucket
left join states
    on
        present.source_id = states.source_id
        and present.process_id = states.process_id
        and present.bucket = states.bucket;
