/*---
description: >
  One row per task that is final: when it ended and what it left behind. Written for the claimed tasks of sources whose
  outputs are mapped (E-100, E-102, E-203).
key: [source_id, task_key]
reads: [raw.task, raw.task_event, raw.task_output]
columns:
  source_id: {doc: "Source the task belongs to"}
  task_key: {doc: "The task"}
  endpoint: {doc: "Endpoint of the task"}
  status: {doc: "succeeded, failed, timed_out, cancelled: as core.task shows it (E-100, E-203)"}
  effective_end: {doc: "End of the task; its creation where the row is final and gives no end"}
  has_end: {doc: "False where the end is not known and the creation stands for it"}
  is_expected: {doc: "It should have outputs: not soft-deleted, output_expected (E-611)"}
  outputs: {doc: "Valid outputs (E-102); placeholders are none"}
  distinct_outputs: {doc: "Distinct natural keys among them (R-201)"}
  invalid_outputs: {doc: "Live outputs that are not valid (E-102)"}
  app_outputs: {doc: "Valid outputs that no repair inserted (C-104)"}
  delay_us: {unit: us, doc: "Longest time from the end to the creation of such an output; 0 if all came before the end, NULL if no creation is known"}
  known_at: {doc: "Since when anything of the task is stored; lets storage be skipped"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
with
known as (
    select
        tid,
        min(first_seen_at) as known_at
    from (
        select tid, first_seen_at from scope_event
        union all
        select tid, first_seen_at from scope_task
    )
    group by tid
),

judged as (
    select
        subject.tid,
        known.known_at,
        subject.endpoint,
        row_now.created_at,
        not coalesce(task.is_deleted, false) and coalesce(task.output_expected, true) as is_expected,
        coalesce(decided.status, row_now.status) as status,
        case when decided.task_hash is null then row_now.ended_at else decided.ended_at end as end_at
    from step_task_subject as subject
    inner join claim_task on subject.tid = claim_task.tid
    left join step_task_row as row_now on subject.tid = row_now.tid
    left join scope_task as task on subject.tid = task.tid
    left join step_task_status as decided
        on claim_task.task_hash = decided.task_hash and claim_task.task_key = decided.task_key
    left join known on subject.tid = known.tid
),

output as (
    select
        claim_task.tid,
        count(*) filter (where output.valid and output.origin <> 'placeholder') as outputs,
        count(distinct output.natural_key) filter (where output.valid and output.origin <> 'placeholder') as distinct_outputs,
        count(*) filter (where not output.valid) as invalid_outputs,
        count(*) filter (where output.valid and output.origin in ('app', 'inline')) as app_outputs,
        max(output.created_at) filter (where output.valid and output.origin in ('app', 'inline')) as last_created_at
    from scope_output as output
    inner join claim_task
        on output.task_hash = claim_task.task_hash and output.task_key = claim_task.task_key
    group by claim_task.tid
),

placed as (
    select *
    from judged
    where status in ('succeeded', 'failed', 'timed_out', 'cancelled')
)

select
    claim_task.source_id,
    claim_task.task_key,
    placed.endpoint,
    placed.status,
    coalesce(placed.end_at, placed.created_at) as effective_end,
    placed.end_at is not null as has_end,
    placed.is_expected,
    coalesce(output.outputs, 0) as outputs,
    coalesce(output.distinct_outputs, 0) as distinct_outputs,
    coalesce(output.invalid_outputs, 0) as invalid_outputs,
    coalesce(output.app_outputs, 0) as app_outputs,
    case
        when output.last_created_at is not null
            then greatest(0, epoch_us(output.last_created_at) - epoch_us(coalesce(placed.end_at, placed.created_at)))
    end as delay_us,
    placed.known_at,
    claim_task.task_hash
from placed
inner join claim_task on placed.tid = claim_task.tid
left join output on placed.tid = output.tid
where coalesce(placed.end_at, placed.created_at) is not null
