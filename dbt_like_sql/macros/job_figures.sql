/* Runs per job and bucket of `step` (M-501, E-121). Finished runs belong to the bucket of their end, missed and skipped
   ones to that of their plan. A run is measured against the limit its job had when it ended. */
create or replace temp macro job_figures(window_start, window_end, step) as table
with
happened as (
    select
        run.source_id,
        run.job_id,
        run.run_key,
        run.ended_at as "at",
        run.outcome,
        run."trigger" as cause,
        case when run.duration_ms is not null then ms_to_us(run.duration_ms) else span_us(run.started_at, run.ended_at) end as took_us,
        closed.max_us
    from raw.job_run as run
    inner join closed_window(window_start, window_end) as closed
        on run.source_id = closed.source_id and run.ended_at >= closed.from_at and run.ended_at < closed.to_at
    where
        run.ended_at >= window_start
        and run.ended_at < window_end
        and run.outcome in ('success', 'failure', 'timeout')
    union all
    select
        run.source_id,
        run.job_id,
        run.run_key,
        run.scheduled_at as "at",
        run.outcome,
        null as cause,
        null as took_us,
        closed.max_us
    from raw.job_run as run
    inner join closed_window(window_start, window_end) as closed
        on run.source_id = closed.source_id and run.scheduled_at >= closed.from_at and run.scheduled_at < closed.to_at
    where
        run.scheduled_at >= window_start
        and run.scheduled_at < window_end
        and run.outcome in ('missed', 'skipped')
),

limited as (
    select
        happened.* exclude (took_us),
        time_bucket(step, happened."at") as bucket,
        happened.outcome in ('success', 'failure', 'timeout') as is_run,
        case when happened.took_us between 0 and happened.max_us then cast(happened.took_us as bigint) end as took_us,
        cast(round(sla.sla_seconds * 1000000) as hugeint) as limit_us
    from happened
    asof left join raw.job_sla as sla
        on
            happened.source_id = sla.source_id
            and happened.job_id = sla.job_id
            and happened."at" >= sla.valid_from
),

counted as (
    select
        source_id,
        job_id,
        bucket,
        count(*) filter (where outcome = 'success') as success_count,
        count(*) filter (where outcome in ('failure', 'timeout')) as failure_count,
        count(*) filter (where outcome = 'timeout') as timeout_count,
        count(*) filter (where is_run) as total_runs,
        count(*) filter (where outcome = 'missed') as missed_count,
        count(*) filter (where outcome = 'skipped') as skipped_count,
        count(*) filter (where cause = 'manual') as manual_count,
        count(*) filter (where cause = 'catchup') as catchup_count,
        list_sort(list(took_us) filter (where took_us is not null)) as took,
        sum(took_us) as took_us,
        histogram(hist_index(took_us)) filter (where took_us is not null) as duration_hist,
        case when count(limit_us) > 0 then count(*) filter (where took_us > limit_us) end as sla_violations,
        last(outcome order by "at", run_key) filter (where is_run) as last_outcome,
        max("at") filter (where is_run) as last_ended_at
    from limited
    group by source_id, job_id, bucket
)

select
    counted.source_id,
    counted.job_id,
    counted.bucket,
    counted.success_count,
    counted.failure_count,
    counted.timeout_count,
    counted.total_runs,
    ratio2(100 * counted.success_count, counted.total_runs) as success_rate,
    counted.missed_count,
    counted.skipped_count,
    counted.manual_count,
    counted.catchup_count,
    coalesce(len(counted.took), 0) as duration_n,
    us_to_ms(coalesce(counted.took_us, 0)) as duration_sum_ms,
    ratio2(counted.took_us, 1000 * len(counted.took)) as avg_duration_ms,
    us_to_ms(counted.took[1]) as min_duration_ms,
    us_to_ms(counted.took[-1]) as max_duration_ms,
    percentile2(counted.took, 50) as p50_duration_ms,
    percentile2(counted.took, 95) as p95_duration_ms,
    percentile2(counted.took, 99) as p99_duration_ms,
    hist_json(counted.duration_hist) as duration_hist,
    counted.sla_violations,
    counted.last_outcome,
    counted.last_ended_at,
    span_us(counted.bucket, least(counted.bucket + step, closed.to_at)) // 60000000 as closed_minutes
from counted
inner join closed_window(window_start, window_end) as closed on counted.source_id = closed.source_id;
