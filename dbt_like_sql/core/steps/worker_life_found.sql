/*---
description: >
  Lives of the claimed workers (M-301, M-302, M-313, E-113). Facts come from the worker rows, everything else from spans
  of evidence and offline events. `known` lives have a start by facts: gaps inside them are bridged (M-305).
---*/
with
fact as (
    select
        worker.worker_key,
        worker.life_no,
        worker.endpoint,
        worker.status,
        case when worker.created_at <= setting.horizon then worker.created_at end as created_at,
        case when worker.ready_at <= setting.horizon then worker.ready_at end as ready_at,
        case when worker.terminated_at <= setting.horizon then worker.terminated_at end as terminated_at,
        worker.cold_start_ms,
        worker.last_heartbeat_at is not null as has_heartbeat,
        worker.first_seen_at
    from raw.worker as worker
    inner join claim_worker on worker.source_id = claim_worker.source_id and worker.worker_key = claim_worker.worker_key
    cross join claim_setting as setting
    qualify row_number() over (partition by worker.worker_key, worker.life_no order by worker.changed_at desc nulls last) = 1
),

subject as (
    select * from fact
    union all
    select claim_worker.worker_key, 1, null, null, null, null, null, null, false, null
    from claim_worker
    where claim_worker.worker_key not in (select worker_key from fact)
),

-- Who changes the endpoint without becoming ready again serves the new one since that was seen (E-113).
bounded as (
    select
        *,
        coalesce(lead(from_at) over (partition by worker_key order by life_no), 'infinity'::timestamp) as until_at
    from (
        select
            *,
            case
                when lag(life_no) over in_order is null then '-infinity'::timestamp
                when lag(terminated_at) over in_order < coalesce(ready_at, 'infinity'::timestamp)
                    then lag(terminated_at) over in_order
                when ready_at > lag(ready_at) over in_order or lag(ready_at) over in_order is null and ready_at is not null
                    then ready_at
                else first_seen_at
            end as from_at
        from subject
        window in_order as (partition by worker_key order by life_no)
    )
),

feed as (
    select
        max(last_snapshot_at) as feed_last_at,
        coalesce(bool_or(last_snapshot_at is not null), false) as has_feed
    from (
        select last_snapshot_at from core.worker_evidence where source_id = $source_id
    )
),

seen as (
    select
        life.worker_key,
        life.life_no,
        min(span.first_at) filter (where span.kind = 'start' and span.first_at >= life.from_at) as first_attempt_at,
        min(span.first_at) filter (where span.kind = 'registered' and span.first_at > life.from_at) as registered_at,
        min(greatest(span.first_sample_at, life.from_at))
            filter (where span.kind = 'proof' and span.last_sample_at >= life.from_at) as first_sample_at,
        max(least(span.last_at, life.until_at)) filter (where span.kind = 'proof' or not feed.has_feed) as last_at,
        max(span.last_snapshot_at) filter (where span.kind = 'proof') as last_snapshot_at,
        min(greatest(span.first_snapshot_at, life.from_at))
            filter (where span.kind = 'proof' and span.last_snapshot_at >= life.from_at) as first_snapshot_at,
        coalesce(bool_or(span.has_poll) filter (where span.kind = 'proof' or not feed.has_feed), false) as has_poll,
        coalesce(bool_or(span.has_poll), false) as is_polled,
        arg_min(span.endpoint, span.first_at) filter (where span.endpoint is not null) as endpoint
    from bounded as life
    inner join step_worker_evidence as span
        on life.worker_key = span.worker_key and span.first_at < life.until_at and span.last_at >= life.from_at
    cross join feed
    group by life.worker_key, life.life_no
),

attempted as (
    select worker_key, arg_min(endpoint, (started_at, endpoint)) as endpoint
    from core.task_attempt
    where
        source_id = $source_id
        and worker_key in (
            select worker_key from step_worker_evidence group by worker_key having count(endpoint) = 0
        )
    group by worker_key
),

offline as (
    select life.worker_key, life.life_no, max(offline.offline_at) as offline_at
    from bounded as life
    inner join step_worker_offline as offline
        on
            life.worker_key = offline.worker_key
            and offline.offline_at >= life.from_at
            and offline.offline_at < life.until_at
    where offline.next_at is null or offline.next_at >= life.until_at
    group by life.worker_key, life.life_no
),

started as (
    select
        life.worker_key,
        life.life_no,
        coalesce(nullif(life.endpoint, ''), seen.endpoint, attempted.endpoint, case when life.endpoint = '' then '_unassigned' end,
            $source_id) as endpoint,
        life.status,
        life.terminated_at,
        life.cold_start_ms,
        life.from_at,
        life.until_at,
        case when coalesce(life.ready_at, seen.registered_at) >= life.from_at then coalesce(life.ready_at, seen.registered_at) end
            as born_at,
        offline.offline_at,
        seen.first_sample_at,
        seen.last_at,
        seen.last_snapshot_at,
        seen.first_snapshot_at,
        coalesce(seen.has_poll, false) as has_poll,
        life.has_heartbeat or coalesce(seen.is_polled, false) as has_heartbeat,
        case
            when life.ready_at is not null then 'ready_at'
            when seen.registered_at is not null then 'registered'
            when seen.first_attempt_at <= coalesce(seen.first_sample_at, seen.first_attempt_at) then 'attempt'
            when seen.first_sample_at is not null then 'snapshot'
            when life.created_at is not null and life.status is distinct from 'starting' then 'created_at'
        end as fact_source,
        coalesce(
            life.ready_at,
            seen.registered_at,
            least(seen.first_attempt_at, seen.first_sample_at),
            case when life.status is distinct from 'starting' then life.created_at end
        ) as fact_at,
        case
            when life.from_at = '-infinity'::timestamp
                or seen.first_attempt_at >= coalesce(life.ready_at, seen.registered_at) - setting.skew
                then seen.first_attempt_at
        end as first_attempt_at
    from bounded as life
    left join seen on life.worker_key = seen.worker_key and life.life_no = seen.life_no
    left join offline on life.worker_key = offline.worker_key and life.life_no = offline.life_no
    left join attempted on life.worker_key = attempted.worker_key
    cross join claim_setting as setting
),

ended as (
    select
        started.*,
        case
            when coalesce(started.fact_at, started.first_attempt_at) is not null
                then greatest(least(started.fact_at, started.first_attempt_at), started.from_at)
        end as start_at,
        case when started.first_attempt_at < started.fact_at then 'attempt' else started.fact_source end as start_source,
        started.fact_source in ('ready_at', 'registered') as known,
        greatest(started.last_at, least(started.fact_at, started.first_attempt_at), started.from_at) as last_evidence_at,
        feed.feed_last_at,
        setting.as_of,
        setting.tolerance_us
    from started
    cross join feed
    cross join claim_setting as setting
),

judged as (
    select
        *,
        case
            when terminated_at is not null then 'terminated_at'
            when offline_at is not null and offline_at >= coalesce(start_at, offline_at) then 'offline'
            when
                epoch_us(least(as_of, until_at)) - epoch_us(last_evidence_at) > tolerance_us
                and (has_heartbeat or epoch_us(feed_last_at) - epoch_us(last_evidence_at) > tolerance_us)
                then 'silence'
            when until_at <> 'infinity'::timestamp then 'next_life'
        end as end_source
    from ended
)

select
    $source_id as source_id,
    worker_key,
    life_no,
    endpoint,
    start_at,
    case end_source
        when 'terminated_at' then greatest(terminated_at, start_at)
        when 'offline' then offline_at
        when 'next_life' then greatest(until_at, start_at)
        when 'silence' then last_evidence_at
    end as end_at,
    start_source,
    end_source,
    born_at as created_at,
    case end_source when 'terminated_at' then terminated_at when 'offline' then offline_at end as terminated_at,
    case when end_source = 'silence' then last_evidence_at end as lost_at,
    cold_start_ms,
    known,
    last_evidence_at,
    last_snapshot_at,
    first_snapshot_at,
    first_sample_at,
    has_poll,
    from_at,
    until_at,
    terminated_at as terminated_fact_at
from judged
where start_at is not null or end_source in ('terminated_at', 'offline')
