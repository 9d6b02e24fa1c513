/* What finished tasks left behind, per endpoint and bucket of `step` (M §7.1). Tasks belong to the bucket of their end,
   created outputs to that of their creation; only buckets closed for completeness count (M-601). */
create or replace temp macro output_figures(window_start, window_end, step) as table
with
closed as (
    select * from closed_window(window_start, window_end) where output_to_at > from_at
),

task as (
    select
        result.source_id,
        result.endpoint,
        time_bucket(step, result.effective_end) as bucket,
        result.status = 'succeeded' as is_success,
        result.has_end,
        result.outputs,
        result.distinct_outputs,
        result.invalid_outputs,
        result.app_outputs,
        case when closed.has_output_created and result.app_outputs > 0 then result.delay_us end as delay_us,
        closed.output_delay_us
    from core.task_result as result
    inner join closed
        on
            result.source_id = closed.source_id
            and result.effective_end >= closed.from_at
            and result.effective_end < closed.output_to_at
    where result.effective_end >= window_start and result.effective_end < window_end and result.is_expected
),

finished as (
    select
        source_id,
        endpoint,
        bucket,
        count(*) as total_tasks,
        count(*) filter (where is_success) as success_tasks,
        count(*) filter (where is_success and outputs > 0) as tasks_with_outputs,
        sum(outputs) filter (where is_success) as total_outputs,
        sum(distinct_outputs) filter (where is_success) as distinct_outputs,
        sum(invalid_outputs) filter (where is_success) as invalid_outputs,
        count(*) filter (where is_success and delay_us > output_delay_us) as delayed_tasks,
        count(*) filter (where is_success and app_outputs > 0) as delay_population,
        max(delay_us) filter (where is_success) as max_delay_us,
        count(*) filter (where is_success and not has_end) as no_end_time,
        count(*) filter (where is_success and outputs > 0 and app_outputs = 0) as repaired_tasks
    from task
    group by source_id, endpoint, bucket
),

created as (
    select
        output.source_id,
        output.endpoint,
        time_bucket(step, output."at") as bucket,
        count(*) filter (where output.origin in ('app', 'inline')) as outputs_created,
        count(*) filter (where output.origin = 'repair') as outputs_created_repair
    from core.output_instant as output
    inner join closed
        on
            output.source_id = closed.source_id
            and output."at" >= closed.from_at
            and output."at" < closed.output_to_at
    where output."at" >= window_start and output."at" < window_end
    group by output.source_id, output.endpoint, bucket
),

subject as (
    select source_id, endpoint, bucket from finished
    union
    select source_id, endpoint, bucket from created
)

select
    subject.source_id,
    subject.endpoint,
    subject.bucket,
    coalesce(finished.total_tasks, 0) as total_tasks,
    coalesce(finished.success_tasks, 0) as success_tasks,
    cast(0 as bigint) as pending_settle,
    coalesce(finished.tasks_with_outputs, 0) as tasks_with_outputs,
    coalesce(finished.success_tasks - finished.tasks_with_outputs, 0) as missing_count,
    ratio2(100 * finished.tasks_with_outputs, finished.success_tasks) as completion_rate,
    ratio2(100 * (finished.success_tasks - finished.tasks_with_outputs), finished.success_tasks) as missing_rate,
    cast(coalesce(finished.total_outputs, 0) as bigint) as total_outputs,
    cast(coalesce(finished.distinct_outputs, 0) as bigint) as distinct_outputs,
    cast(coalesce(finished.total_outputs - finished.distinct_outputs, 0) as bigint) as duplicate_rows,
    cast(coalesce(finished.invalid_outputs, 0) as bigint) as invalid_outputs,
    ratio4(finished.total_outputs, finished.tasks_with_outputs) as avg_outputs_per_task,
    if_mapped(closed.has_output_created, finished.delayed_tasks) as delayed_tasks,
    if_mapped(closed.has_output_created, finished.delay_population) as delay_population,
    ratio3(finished.max_delay_us, 1000000) as max_delay_s,
    coalesce(finished.no_end_time, 0) as no_end_time,
    if_mapped(closed.has_output_time, created.outputs_created) as outputs_created,
    if_mapped(closed.has_output_time, created.outputs_created_repair) as outputs_created_repair,
    coalesce(finished.repaired_tasks, 0) as repaired_tasks,
    span_us(subject.bucket, least(subject.bucket + step, closed.output_to_at)) // 60000000 as closed_minutes
from subject
inner join closed on subject.source_id = closed.source_id
left join finished
    on
        subject.source_id = finished.source_id
        and subject.endpoint = finished.endpoint
        and subject.bucket = finished.bucket
left join created
    on
        subject.source_id = created.source_id
        and subject.endpoint = created.endpoint
        and subject.bucket = created.bucket;
