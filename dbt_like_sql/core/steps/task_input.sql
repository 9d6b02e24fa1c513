/*---
description: >
  What decides about attempts, numbered in the order in which it is read: starts, finals, releases, requeues, queued.
  Without any start event the task row stands in for one (M-212). Events of one instant are ordered by what is open when
  the instant comes (M-203): `mode` 1 is the order with an open attempt (closing events first), 2 the order without
  (finals last), 0 where both agree. `stop_at` of a start is when its worker was first seen idle or ended (M-210 c, d).
---*/
with
relevant as (
    select tid, event_key, event_type, class, "at", worker_key, rank
    from step_task_event
    where class <> 'C' and not repeated
    union all
    select tid, null, 'started', 'S', row_started_at, row_worker_key, 0
    from step_task_subject
    where row_attempt
),

ordered as (
    select
        *,
        row_number() over in_order as n,
        coalesce(lag("at") over in_order = "at", false) as follows,
        coalesce(lead("at") over in_order = "at", false) as precedes
    from relevant
    window in_order as (partition by tid order by "at", rank)
),

tied as (
    select
        *,
        min(n) over (partition by tid, "at") - 1
        + row_number() over (partition by tid, "at" order by class not in ('F', 'R', 'Q'), rank) as n_open,
        min(n) over (partition by tid, "at") - 1
        + row_number() over (partition by tid, "at" order by class = 'F', rank) as n_idle,
        min(n) over (partition by tid, "at") as n_first
    from ordered
    where follows or precedes
),

numbered as (
    select tid, event_key, event_type, class, "at", worker_key, n, 0 as mode, true as leads
    from ordered
    where not (follows or precedes)
    union all
    select tid, event_key, event_type, class, "at", worker_key, n_open, 1 as mode, n_open = n_first
    from tied
    union all
    select tid, event_key, event_type, class, "at", worker_key, n_idle, 2 as mode, n_idle = n_first
    from tied
),

life as (
    select
        worker_key,
        coalesce(start_at, created_at, terminated_at) as from_at,
        end_at
    from core.worker_life
    where source_id = $source_id and coalesce(start_at, created_at, terminated_at) is not null
),

split as (
    select worker_key, offline_at, next_at
    from core.worker_offline
    where source_id = $source_id and next_at is not null
)

select
    numbered.*,
    case
        when class = 'S'
            then least(
                idle."at",
                split.offline_at,
                case when gone.next_at > numbered."at" then numbered."at" end,
                case when life.end_at < numbered."at" then numbered."at" else life.end_at end
            )
    end as stop_at,
    class = 'S' and idle."at" is not null
    and idle."at" <= coalesce(least(split.offline_at, life.end_at), idle."at")
    and not coalesce(gone.next_at > numbered."at", false) as stops_idle
from numbered
asof left join scope_idle as idle
    on numbered.worker_key = idle.worker_key and numbered."at" + interval 1 second <= idle."at"
asof left join split
    on numbered.worker_key = split.worker_key and numbered."at" <= split.offline_at
asof left join split as gone
    on numbered.worker_key = gone.worker_key and numbered."at" > gone.offline_at
asof left join life
    on numbered.worker_key = life.worker_key and numbered."at" >= life.from_at
