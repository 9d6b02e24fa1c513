/* Waits and durations per endpoint and bucket of `step`, from the attempts themselves (M-102, M-213 to M-215, M-451 to
   M-455). Starts and queue waits belong to the bucket of the start, everything else to that of the end. */
create or replace temp macro attempt_figures(window_start, window_end, step) as table
with
observation as (
    select
        attempt.source_id,
        attempt.endpoint,
        time_bucket(step, attempt.started_at) as bucket,
        true as is_start,
        false as is_lost,
        observed_us(attempt.queue_wait_ms) as wait_us,
        null::bigint as exec_us,
        null::bigint as failed_us
    from core.task_attempt as attempt
    inner join closed_window(window_start, window_end) as closed
        on
            attempt.source_id = closed.source_id
            and attempt.started_at >= closed.from_at
            and attempt.started_at < closed.to_at
    where attempt.started_at >= window_start and attempt.started_at < window_end
    union all
    select
        attempt.source_id,
        attempt.endpoint,
        time_bucket(step, attempt.ended_at) as bucket,
        false as is_start,
        attempt.outcome = 'lost' as is_lost,
        null as wait_us,
        observed_us(attempt.execution_ms) as exec_us,
        observed_us(attempt.failed_execution_ms) as failed_us
    from core.task_attempt as attempt
    inner join closed_window(window_start, window_end) as closed
        on
            attempt.source_id = closed.source_id
            and attempt.ended_at >= closed.from_at
            and attempt.ended_at < closed.to_at
    where attempt.ended_at >= window_start and attempt.ended_at < window_end
),

collected as (
    select
        source_id,
        endpoint,
        bucket,
        count(*) filter (where is_start) as attempts_started,
        count(*) filter (where is_lost) as attempts_lost,
        list_sort(list(wait_us) filter (where wait_us is not null)) as waits,
        list_sort(list(exec_us) filter (where exec_us is not null)) as execs,
        sum(wait_us) as wait_us,
        sum(exec_us) as exec_us,
        histogram(hist_index(wait_us)) filter (where wait_us is not null) as queue_hist,
        histogram(hist_index(exec_us)) filter (where exec_us is not null) as exec_hist,
        json_object(
            '0-500', count(*) filter (where exec_us < 500000),
            '500-1000', count(*) filter (where exec_us >= 500000 and exec_us < 1000000),
            '1000-1500', count(*) filter (where exec_us >= 1000000 and exec_us < 1500000),
            '1500-2000', count(*) filter (where exec_us >= 1500000 and exec_us < 2000000),
            '2000-3000', count(*) filter (where exec_us >= 2000000 and exec_us < 3000000),
            '3000-5000', count(*) filter (where exec_us >= 3000000 and exec_us < 5000000),
            '5000+', count(*) filter (where exec_us >= 5000000)
        ) as execution_time_distribution,
        count(failed_us) as failed_execution_n,
        sum(failed_us) as failed_us
    from observation
    group by source_id, endpoint, bucket
)

select
    source_id,
    endpoint,
    bucket,
    attempts_started,
    attempts_lost,
    coalesce(len(waits), 0) as queue_wait_n,
    coalesce(wait_us, 0) as queue_wait_us,
    waits[-1] as max_queue_wait_us,
    percentile2(waits, 95) as p95_queue_wait_ms,
    hist_json(queue_hist) as queue_hist,
    coalesce(len(execs), 0) as execution_n,
    coalesce(exec_us, 0) as execution_us,
    execs[1] as min_execution_us,
    execs[-1] as max_execution_us,
    percentile2(execs, 50) as p50_execution_ms,
    percentile2(execs, 95) as p95_execution_ms,
    percentile2(execs, 99) as p99_execution_ms,
    hist_json(exec_hist) as exec_hist,
    execution_time_distribution,
    failed_execution_n,
    coalesce(failed_us, 0) as failed_execution_us
from collected;
