/*---
description: >
  Events of tasks that prove a worker alive (M-304): starts, completed and failed that name it, of the claimed tasks and,
  for workers with new evidence, of all tasks since then. Where the source maps no events, task rows stand in (M-212):
  elsewhere a row may be read before its events, and evidence must not depend on that.
---*/
with
own as (
    select event.task_key, event.worker_key, event.event_type, event."at", event.endpoint
    from scope_claimed_event as event
    cross join claim_setting as setting
    where
        event.event_type in ('assigned', 'started', 'completed', 'failed')
        and event."at" <= setting.horizon
        and event.worker_key in (select worker_key from claim_worker)
)

select worker_key, event_type in ('assigned', 'started') as is_start, "at", endpoint
from own
where worker_key <> ''
union all
select event.worker_key, event.event_type in ('assigned', 'started'), event."at", event.endpoint
from scope_task_event as event
inner join claim_worker on event.source_id = claim_worker.source_id and event.worker_key = claim_worker.worker_key
cross join claim_setting as setting
where
    event.event_type in ('assigned', 'started', 'completed', 'failed')
    and event."at" >= claim_worker.since
    and event."at" <= setting.horizon
    and event.worker_key <> ''
union all
select task.worker_key, true, task.started_at, task.endpoint
from scope_claimed_task as task
cross join claim_setting as setting
where
    task.worker_key <> ''
    and task.started_at <= setting.horizon
    and not setting.has_event
    and task.worker_key in (select worker_key from claim_worker)
