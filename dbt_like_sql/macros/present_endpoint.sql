/* Which endpoints have a row in which minute for reasons other than the figures themselves (M-110): instants of workers
   (created, ready, terminated, events, valid snapshots), the registry, and minutes in which the worker feed was silent
   although the endpoint had workers just before. Duplicates are possible. */
create or replace temp macro present_endpoint(window_start, window_end) as table
with
closed as (
    select * from closed_window(window_start, window_end)
),

-- A worker that changed its endpoint may go on showing facts of the life before, which was another endpoint's (E-113).
fact as (
    select
        worker.source_id,
        worker.endpoint,
        unnest([worker.created_at, worker.ready_at, worker.terminated_at]) as happened_at,
        earlier.end_at as earlier_end_at
    from raw.worker as worker
    left join core.worker_life as earlier
        on
            worker.source_id = earlier.source_id
            and worker.worker_key = earlier.worker_key
            and worker.life_no = earlier.life_no + 1
    where
        (worker.created_at >= window_start and worker.created_at < window_end)
        or (worker.ready_at >= window_start and worker.ready_at < window_end)
        or (worker.terminated_at >= window_start and worker.terminated_at < window_end)
),

instant as (
    select
source_id,
endpoint,
happened_at
from fact
    where
        happened_at >= window_start
        and happened_at < window_end
        and (earlier_end_at is null or happened_at >= earlier_end_at)
    union all
    select
event.source_id,
coalesce(nullif(event.endpoint, ''), worker.endpoint),
event."at"
    from raw.worker_event as event
    left join raw.worker as worker
        on event.source_id = worker.source_id and event.worker_key = worker.worker_key
    where event."at" >= window_start and event."at" < window_end
    union all
    select
snapshot.source_id,
life.endpoint,
snapshot."at"
    from raw.worker_snapshot as snapshot
    inner join core.worker_life as life
        on
            snapshot.source_id = life.source_id
            and snapshot.worker_key = life.worker_key
            and snapshot."at" >= life.start_at
            and (life.end_at is null or snapshot."at" <= life.end_at)
    where
        snapshot."at" >= window_start
        and snapshot."at" < window_end
        and snapshot.origin is distinct from 'poll'
)

select distinct
    instant.source_id,
    instant.endpoint,
    date_trunc('minute', instant.happened_at) as bucket
from instant
inner join closed
    on
        instant.source_id = closed.source_id
        and instant.happened_at >= closed.from_at
        and instant.happened_at < closed.to_at
where instant.endpoint is not null
union all
select
    registration.source_id,
    registration.endpoint,
    unnest(range(
        date_trunc('minute', greatest(coalesce(registration.registered_at, closed.origin), closed.from_at)),
        least(coalesce(registration.unregistered_at, closed.to_at), closed.to_at),
        interval 1 minute
    )) as bucket
from raw.endpoint_registration as registration
inner join closed on registration.source_id = closed.source_id
where registration.unregistered_at is null or registration.unregistered_at > coalesce(registration.registered_at, closed.origin)
union all
select
    silent.source_id,
    online.endpoint,
    silent.bucket
from silent_minute(window_start, window_end) as silent
inner join core.worker_interval as online
    on
        silent.source_id = online.source_id
        and online.state = 'online'
        and online.from_at <= silent.silent_from
        and (online.to_at is null or online.to_at >= silent.silent_from);
