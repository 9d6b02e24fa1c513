/*---
description: >
  One row per claimed task of which anything is known: endpoint, submission (M-201), enqueue of its first attempt
  (M-214), whether it waits from the beginning, and its limit for derived timeouts (M-217: its deadline, else that of the
  endpoint, else the configured one, C-320). `row_end_at` is the
  instant at which a row that is not running closes what is open, `row_outcome` the outcome of a final row (M-210 a). A
  status derived from outputs says nothing of a task whose events tell of attempts or outcomes (`by_events`, E-503).
---*/
with
from_event as (
    select
        tid,
        min("at") filter (where class = 'C') as created_event_at,
        min("at") as first_event_at,
        bool_or(class = 'S') as has_start,
        bool_or(class in ('S', 'F')) as decides,
        arg_min(endpoint, rank) filter (where endpoint <> '') as endpoint,
        bool_or(endpoint = '') as has_empty_endpoint
    from step_task_event
    group by tid
),

task as (
    select
        * replace (
            case when by_events then 'unknown' else status end as status,
            case when not by_events then ended_at end as ended_at
        )
    from (
        select task_row.*, setting.status_derived and coalesce(from_event.decides, false) as by_events
        from step_task_row as task_row
        cross join claim_setting as setting
        left join from_event on task_row.tid = from_event.tid
    )
),

joined as (
    select
        claim_task.tid,
        claim_task.source_id,
        claim_task.task_key,
        task.tid is not null as has_row,
        coalesce(task.by_events, false) as by_events,
        task.status,
        task.worker_key as row_worker_key,
        task.started_at as row_started_at,
        task.ended_at as row_ended_at,
        task.updated_at as row_updated_at,
        task.seen_at as row_seen_at,
        task.queued_at,
        task.deadline_at,
        coalesce(from_event.has_start, false) as has_start,
        from_event.created_event_at is not null or task.created_at is not null as waits_at_first,
        coalesce(from_event.created_event_at, task.created_at, from_event.first_event_at) as submitted_at,
        coalesce(
            nullif(task.endpoint, ''),
            from_event.endpoint,
            case
                when task.endpoint = '' or from_event.has_empty_endpoint then '_unassigned' else claim_task.source_id
            end
        ) as endpoint,
        case task.status
            when 'succeeded' then 'completed'
            when 'failed' then 'failed'
            when 'timed_out' then 'timeout'
            when 'cancelled' then 'cancelled'
        end as row_outcome
    from claim_task
    left join from_event on claim_task.tid = from_event.tid
    left join task on claim_task.tid = task.tid
    where from_event.tid is not null or task.tid is not null
)

select
    joined.*,
    coalesce(joined.queued_at, joined.submitted_at) as first_enqueued_at,
    not joined.has_start and joined.row_started_at is not null as row_attempt,
    case
        when setting.timeout_mode = 'derive' and joined.deadline_at is null
            then coalesce(endpoint.task_timeout_s, setting.timeout_limit_s)
    end as limit_s,
    case
        when setting.timeout_mode = 'derive' then joined.deadline_at
    end as limit_at
from joined
cross join claim_setting as setting
left join (
    select source_id, endpoint, any_value(task_timeout_s) as task_timeout_s
    from raw.endpoint
    group by source_id, endpoint
) as endpoint
    on joined.source_id = endpoint.source_id and joined.endpoint = endpoint.endpoint
