/*---
description: >
  New evidence of life per worker, kind and short stretch (M-304). Kinds: `proof` everything that proves life; `start` the
  starts of attempts among it; `registered`; `offline_poll` heartbeats of workers polled as offline, which count only
  where no snapshot feed exists. Stretches end at offline events, so that the first evidence after one stays visible.
---*/
with
point as (
    select
        snapshot.worker_key,
        case
            when snapshot.origin is distinct from 'poll' or snapshot.polled_status is distinct from 'offline' then 'proof'
            else 'offline_poll'
        end as kind,
        case when snapshot.origin = 'poll' then snapshot.heartbeat_at else snapshot."at" end as "at",
        snapshot.origin is distinct from 'poll' as is_snapshot,
        snapshot.origin is distinct from 'poll' or snapshot.polled_status is distinct from 'starting' as is_sample,
        snapshot.endpoint
    from scope_worker_snapshot as snapshot
    inner join claim_worker on snapshot.worker_key = claim_worker.worker_key
    cross join claim_setting as setting
    where
        snapshot."at" >= claim_worker.since
        and snapshot."at" <= setting.horizon
        and (snapshot.origin is distinct from 'poll' or snapshot.heartbeat_at <= snapshot."at" + setting.future_tolerance)
    union all
    select
        worker.worker_key,
        case when worker.status = 'offline' then 'offline_poll' else 'proof' end,
        worker.last_heartbeat_at,
        false,
        worker.status <> 'starting',
        worker.endpoint
    from raw.worker as worker
    inner join claim_worker on worker.source_id = claim_worker.source_id and worker.worker_key = claim_worker.worker_key
    cross join claim_setting as setting
    where worker.last_heartbeat_at <= setting.horizon
    union all
    select event.worker_key, unnest(case when event.event_type = 'registered' then ['proof', 'registered'] else ['proof'] end),
        event."at", false, false, event.endpoint
    from scope_worker_event as event
    inner join claim_worker on event.source_id = claim_worker.source_id and event.worker_key = claim_worker.worker_key
    cross join claim_setting as setting
    where event.event_type <> 'offline' and event."at" >= claim_worker.since and event."at" <= setting.horizon
    union all
    select event.worker_key, unnest(case when event.is_start then ['proof', 'start'] else ['proof'] end),
        event."at", false, false, event.endpoint
    from step_worker_task_event as event
),

divided as (
    select
        point.*,
        len(list_filter(coalesce(offline.instants, []), lambda instant: instant < point."at")) as part
    from point
    left join (
        select worker_key, list(offline_at) as instants
        from step_worker_offline_known
        group by worker_key
    ) as offline
        on point.worker_key = offline.worker_key
)

select
    divided.worker_key,
    divided.kind,
    min(divided."at") as first_at,
    max(divided."at") as last_at,
    min(divided."at") filter (where divided.is_sample) as first_sample_at,
    max(divided."at") filter (where divided.is_sample) as last_sample_at,
    max(divided."at") filter (where divided.is_snapshot) as last_snapshot_at,
    bool_or(divided.is_sample and not divided.is_snapshot) as has_poll,
    arg_min(divided.endpoint, (divided."at", divided.endpoint)) filter (where divided.endpoint <> '') as endpoint,
    min(divided."at") filter (where divided.is_snapshot) as first_snapshot_at
from divided
cross join claim_setting as setting
where divided."at" is not null
group by
    divided.worker_key,
    divided.kind,
    divided.part,
    epoch_us(divided."at") // case when divided.kind = 'registered' then 1 else greatest(setting.tolerance_us // 3, 1) end
