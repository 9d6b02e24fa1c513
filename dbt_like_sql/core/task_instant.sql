/*---
description: >
  One row per countable instant of a task: its submission, its counted outcomes with or without an attempt (M-205, M-207,
  M-208), retries (M-216), late and duplicate events (M-202, M-205).
key: [source_id, task_key, kind, "at", event_key]
reads: [raw.task, raw.task_event]
columns:
  source_id: {doc: "Source the task belongs to"}
  task_key: {doc: "The task"}
  endpoint: {doc: "Endpoint of the task"}
  at: {doc: "When it happened"}
  kind: {doc: "submitted, completed, failed, timeout, cancelled, retried, late_event, duplicate_event"}
  event_key: {doc: "The event it stems from; NULL if derived from the task row or from the clock"}
  total_ms: {unit: ms, doc: "Of a completion: time since submission, with or without an attempt"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
with
started as (
    select distinct tid from step_task_resolved
),

unstarted as (
    select role.tid, role."at", role.event_type as kind, role.event_key
    from step_task_role as role
    left join step_task_resolved as attempt
        on role.tid = attempt.tid and (role.n = attempt.used_n or role.n = attempt.named_n)
    where role.role in ('unstarted', 'mismatch') and attempt.tid is null
),

instant as (
    select tid, submitted_at as "at", 'submitted' as kind, null as event_key
    from step_task_subject
    where submitted_at is not null
    union all
    select tid, counted_at, outcome, null
    from step_task_resolved
    where counted
    union all
    select tid, "at", kind, event_key
    from unstarted
    union all
    select subject.tid, coalesce(subject.row_ended_at, subject.row_updated_at, subject.row_seen_at), subject.row_outcome, null
    from step_task_subject as subject
    where
        subject.row_outcome is not null
        and subject.tid not in (select tid from started)
        and subject.tid not in (select tid from unstarted)
    union all
    select tid, "at", 'retried', event_key
    from step_task_role
    where retried
    union all
    select tid, "at", 'late_event', event_key
    from step_task_role
    where role in ('late', 'late_end')
    union all
    select tid, "at", 'duplicate_event', event_key
    from step_task_role
    where role = 'duplicate'
    union all
    select tid, "at", 'duplicate_event', event_key
    from step_task_event
    where repeated
)

select
    claim_task.source_id,
    claim_task.task_key,
    subject.endpoint,
    instant."at",
    instant.kind,
    instant.event_key,
    cast(
        case
            when
                instant.kind = 'completed'
                and epoch_us(instant."at") - epoch_us(subject.submitted_at) between 0 and setting.max_us
                then cast(epoch_us(instant."at") - epoch_us(subject.submitted_at) as decimal(20, 0)) * 0.001
        end as decimal(20, 3)
    ) as total_ms,
    claim_task.task_hash
from instant
inner join claim_task on instant.tid = claim_task.tid
inner join step_task_subject as subject on instant.tid = subject.tid
cross join claim_setting as setting
