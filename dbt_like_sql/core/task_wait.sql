/*---
description: >
  One row per stretch in which a task waits for a worker: from its enqueue (M-214) or a requeue to the next start or to an
  outcome without one.
key: [source_id, task_key, from_at]
reads: [raw.task, raw.task_event]
columns:
  source_id: {doc: "Source the task belongs to"}
  task_key: {doc: "The task"}
  endpoint: {doc: "Endpoint of the task"}
  from_at: {doc: "Begin of the wait"}
  to_at: {doc: "End of the wait; NULL while it lasts"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
with
step as (
    select
        role.tid,
        case when role.n = 0 then role.next_enqueue else role."at" end as from_at,
        role.waiting and not coalesce(lag(role.waiting) over in_order, false) as begins,
        min(case when not role.waiting then role."at" end) over (
            partition by role.tid
            order by role.n
            rows between 1 following and unbounded following
        ) as to_at
    from step_task_role as role
    window in_order as (partition by role.tid order by role.n)
),

stretch as (
    select
        step.tid,
        subject.endpoint,
        step.from_at,
        coalesce(
            step.to_at,
            case
                when subject.row_outcome is not null
                    then greatest(step.from_at, coalesce(subject.row_ended_at, subject.row_updated_at, subject.row_seen_at))
            end
        ) as to_at
    from step
    inner join step_task_subject as subject on step.tid = subject.tid
    where step.begins
)

select
    claim_task.source_id,
    claim_task.task_key,
    stretch.endpoint,
    stretch.from_at,
    stretch.to_at,
    claim_task.task_hash
from stretch
inner join claim_task on stretch.tid = claim_task.tid
where stretch.from_at is not null and (stretch.to_at is null or stretch.to_at > stretch.from_at)
