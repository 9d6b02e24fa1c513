/*---
description: >
  Every event of the claimed tasks that exists by now (E-306) and may be interpreted (E-101), in reading order. `rank`
  is the order among events of one instant; `repeated` marks events equal to an earlier one (M-202).
  Class: C created, U queued, S start, F final, R orphaned, Q requeued.
---*/
with
read as (
    select
        event.tid,
        event.event_key,
        event.event_type,
        case event.event_type
            when 'created' then 'C'
            when 'queued' then 'U'
            when 'assigned' then 'S'
            when 'started' then 'S'
            when 'orphaned' then 'R'
            when 'requeued' then 'Q'
            else 'F'
        end as class,
        event."at",
        nullif(event.worker_key, '') as worker_key,
        event.endpoint,
        event.src_queue_wait_ms,
        row_number() over in_order as rank,
        coalesce(lag(event."at") over in_order = event."at", false) as follows,
        coalesce(lead(event."at") over in_order = event."at", false) as precedes
    from scope_event as event
    cross join claim_setting as setting
    where event.event_type <> 'info' and event."at" <= setting.horizon
    window in_order as (
        partition by event.tid
        order by event."at", event.row_id nulls last, event.src_table, event.event_key
    )
),

repetition as (
    select tid, rank
    from read
    where follows or precedes
    qualify row_number() over (partition by tid, event_type, "at", worker_key order by rank) > 1
)

select
    read.* exclude (follows, precedes),
    repetition.tid is not null as repeated
from read
left join repetition on read.tid = repetition.tid and read.rank = repetition.rank
