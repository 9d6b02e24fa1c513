/*---
description: >
  One row per task whose status is not the one its row in the source shows: events counted another outcome first
  (E-203, M-206), it is known by its events only (E-100), or its end lies in the future (E-306). The view core.task shows
  every task with its status.
key: [source_id, task_key]
reads: [raw.task, raw.task_event, core.task_attempt]
columns:
  source_id: {doc: "Source the task belongs to"}
  task_key: {doc: "The task"}
  endpoint: {doc: "Endpoint of the task: its row's, else that of its first event that names one"}
  worker_key: {doc: "Worker of its last attempt"}
  status: {doc: "That of its last counted outcome; running while a later attempt is open (E-201, M-206)"}
  created_at: {doc: "Submission (M-201)"}
  started_at: {doc: "Start of its last attempt"}
  ended_at: {doc: "End by the row if it has one, else the instant of the last counted outcome; NULL while not final"}
  has_row: {doc: "The source has a row of the task"}
  row_created_at: {doc: "When that row was created, as it says"}
  row_effective_end: {doc: "When that row ends, as it says (E-201): both tell where to look for it"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
with
outcome as (
    select tid, counted_at as "at", start_n as n, outcome as kind
    from step_task_resolved
    where counted
    union all
    select role.tid, role."at", role.n, role.event_type
    from step_task_role as role
    left join step_task_resolved as attempt
        on role.tid = attempt.tid and (role.n = attempt.used_n or role.n = attempt.named_n)
    where role.role in ('unstarted', 'mismatch') and attempt.tid is null
),

decided as (
    select tid, max("at") as outcome_at, arg_max(kind, ("at", n)) as kind
    from outcome
    group by tid
),

attempted as (
    select
        tid,
        max(started_at) as started_at,
        arg_max(worker_key, attempt_no) as worker_key,
        bool_or(outcome = 'open') as is_open
    from step_task_resolved
    group by tid
),

waiting as (
    select tid, arg_max(waiting, n) as is_waiting
    from step_task_role
    group by tid
),

resolved as (
    select
        subject.*,
        attempted.started_at as attempt_started_at,
        attempted.worker_key as attempt_worker_key,
        decided.outcome_at,
        waiting.is_waiting,
        case
            when attempted.is_open then 'running'
            when decided.kind = 'completed' then 'succeeded'
            when decided.kind = 'timeout' then 'timed_out'
            when decided.kind is not null then decided.kind
            when subject.has_row then subject.status
            when attempted.tid is null and waiting.is_waiting then 'queued'
            when attempted.tid is null then 'created'
            else 'unknown'
        end as found_status
    from step_task_subject as subject
    left join decided on subject.tid = decided.tid
    left join attempted on subject.tid = attempted.tid
    left join waiting on subject.tid = waiting.tid
)

select
    claim_task.source_id,
    claim_task.task_key,
    resolved.endpoint,
    coalesce(resolved.attempt_worker_key, resolved.row_worker_key) as worker_key,
    resolved.found_status as status,
    resolved.submitted_at as created_at,
    coalesce(resolved.row_started_at, resolved.attempt_started_at) as started_at,
    case
        when resolved.found_status in ('succeeded', 'failed', 'timed_out', 'cancelled')
            then coalesce(resolved.row_ended_at, resolved.outcome_at)
    end as ended_at,
    resolved.has_row,
    task.created_at as row_created_at,
    task.effective_end as row_effective_end,
    claim_task.task_hash
from resolved
inner join claim_task on resolved.tid = claim_task.tid
left join scope_task as task on resolved.tid = task.tid
where not resolved.has_row or resolved.by_events or resolved.found_status is distinct from task.status
