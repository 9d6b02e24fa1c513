/*---
description: >
  Anomalies of the claimed tasks (E-007), one row per kind, entity and key. Attempts are named `task#number`.
---*/
with
role as (
    select * from step_task_role where n > 0
),

used as (
    select tid, used_n from step_task_resolved where used_n is not null
),

wait_compared as (
    select event.tid, event.event_key, event."at", event.src_queue_wait_ms, attempt.wait_us
    from step_task_event as event
    inner join role on event.tid = role.tid and event.event_key = role.event_key
    inner join step_task_resolved as attempt on role.tid = attempt.tid and role.attempt = attempt.attempt_no
    cross join claim_setting as setting
    where event.src_queue_wait_ms is not null and attempt.wait_us between 0 and setting.max_us
),

measure as (
    select tid, attempt_no, started_at as "at", wait_us as us, 'queue wait' as what
    from step_task_resolved
    where wait_us is not null
    union all
    select tid, attempt_no, ended_at, span_us, 'duration'
    from step_task_resolved
    where (observed or how in ('reversed', 'row_reversed')) and counted and outcome in ('completed', 'failed', 'timeout')
    union all
    select tid, attempt_no, ended_at, least(span_us, -1), 'duration'
    from step_task_resolved
    where how in ('reversed', 'row_reversed') and outcome = 'cancelled'
    union all
    select tid, attempt_no, counted_at, total_us, 'total'
    from step_task_resolved
    where counted and outcome = 'completed'
),

found as (
    select tid, 'late_terminal_event' as kind, 'task_event' as entity, event_key as "key", "at", event_type as detail
    from role
    where role in ('late', 'late_end')
    union all
    select tid, 'duplicate_event', 'task_event', event_key, "at", event_type
    from role
    where role = 'duplicate'
    union all
    select tid, 'duplicate_event', 'task_event', event_key, "at", event_type
    from step_task_event
    where repeated
    union all
    select tid, 'worker_mismatch', 'task_event', event_key, "at", event_worker
    from role
    where role = 'mismatch'
    union all
    select role.tid, 'terminal_without_attempt', 'task_event', role.event_key, role."at", role.event_type
    from role
    left join used on role.tid = used.tid and role.n = used.used_n
    where role.role = 'unstarted' and used.tid is null
    union all
    select event.tid, 'event_without_task', 'task_event', event.event_key, event."at", null
    from step_task_event as event
    inner join step_task_subject as subject on event.tid = subject.tid
    cross join claim_setting as setting
    where setting.has_task and not subject.has_row
    union all
    select tid, 'queue_wait_mismatch', 'task_event', event_key, "at",
        concat('source says ', src_queue_wait_ms, ' ms, measured ', wait_us / 1000, ' ms')
    from wait_compared
    where abs(src_queue_wait_ms * 1000 - wait_us) > 1000000
    union all
    select tid, 'negative_duration', 'task_attempt', attempt_no::varchar, "at", what
    from measure
    where us < 0
    union all
    select measure.tid, 'absurd_duration', 'task_attempt', measure.attempt_no::varchar, measure."at", measure.what
    from measure
    cross join claim_setting as setting
    where measure.us > setting.max_us
    union all
    select attempt.tid, 'attempt_outside_life', 'task_attempt', attempt.attempt_no::varchar, attempt.started_at, attempt.worker_key
    from step_task_resolved as attempt
    inner join (
        select
            worker_key,
            list({'from_at': start_at, 'to_at': end_at}) as lives
        from core.worker_life
        where source_id = $source_id and start_at is not null
        group by worker_key
    ) as worker
        on attempt.worker_key = worker.worker_key
    where
        not attempt.reversed
        and len(list_filter(
            worker.lives,
            lambda life: life.from_at <= coalesce(attempt.ended_at, 'infinity'::timestamp)
            and (life.to_at is null or life.to_at > attempt.started_at)
        )) = 0
)

select
    claim_task.source_id,
    claim_task.task_key,
    found.kind,
    found.entity,
    case
        when found.entity = 'task_attempt' then concat(claim_task.task_key, '#', found."key") else found."key"
    end as "key",
    min(found."at") as "at",
    arg_min(found.detail, (found."at", found.detail)) as detail,
    claim_task.task_hash
from found
inner join claim_task on found.tid = claim_task.tid
where found."key" is not null
group by claim_task.source_id, claim_task.task_key, found.kind, found.entity, found."key", claim_task.task_hash
