/*---
description: >
  One row per claimed task that has a row in the source. Times that lie in the future do not exist yet (E-306); a task
  whose end lies in the future is running until then (M-218).
---*/
select
    task.tid,
    task.endpoint,
    case when task.ended_at > setting.horizon then 'running' else task.status end as status,
    nullif(task.worker_key, '') as worker_key,
    case when task.created_at <= setting.horizon then task.created_at end as created_at,
    case when task.queued_at <= setting.horizon then task.queued_at end as queued_at,
    case when task.started_at <= setting.horizon then task.started_at end as started_at,
    case when task.ended_at <= setting.horizon then task.ended_at end as ended_at,
    case when task.updated_at <= setting.horizon then task.updated_at end as updated_at,
    least(coalesce(task.status_seen_at, task.first_seen_at), setting.as_of) as seen_at,
    task.deadline_at
from scope_task as task
cross join claim_setting as setting
