/*---
description: >
  Samples of the claimed stretches that contradict the attempts (M-211): idle while an attempt with an end of its own ran
  for at least a second, or busy outside every attempt of a worker that has some. They change nothing and are named.
---*/
with
claimed as (
    select distinct worker_key, from_at from claim_stretch
),

sample as (
    select snapshot.snapshot_key, snapshot.worker_key, snapshot."at", snapshot.is_idle
    from scope_sample as snapshot
    inner join claimed
        on
            snapshot.worker_key = claimed.worker_key
            and time_bucket(interval 10 minute, snapshot."at") = claimed.from_at
    where
        snapshot.worker_key in (
            select worker_key from core.worker_evidence where source_id = $source_id and kind = 'start'
        )
),

span as (
    select
        'busy' as kind,
        worker_key,
        started_at as from_at,
        coalesce(ended_at, 'infinity'::timestamp) as to_at
    from scope_attempt
    union all
    select 'idle', worker_key, started_at + interval 1 second, ended_at
    from scope_attempt
    where not dangling and ended_at > started_at + interval 1 second
),

cover as (
    select kind, worker_key, min(from_at) as from_at, max(to_at) as to_at
    from (
        select
            *,
            sum(case when from_at <= reached then 0 else 1 end) over (
                partition by kind, worker_key
                order by from_at, to_at
                rows unbounded preceding
            ) as cover_no
        from (
            select
                *,
                max(to_at) over (
                    partition by kind, worker_key
                    order by from_at, to_at
                    rows between unbounded preceding and 1 preceding
                ) as reached
            from span
        )
    )
    group by kind, worker_key, cover_no
),

compared as (
    select
        sample.*,
        busy.to_at >= sample."at" as is_covered,
        idle.to_at > sample."at" as is_inside
    from sample
    asof left join (select * from cover where kind = 'busy') as busy
        on sample.worker_key = busy.worker_key and sample."at" >= busy.from_at
    asof left join (select * from cover where kind = 'idle') as idle
        on sample.worker_key = idle.worker_key and sample."at" >= idle.from_at
)

select
    $source_id as source_id,
    worker_key,
    'snapshot_contradiction' as kind,
    'worker_snapshot' as entity,
    snapshot_key as "key",
    "at",
    case when is_idle then 'idle inside an attempt' else 'busy outside every attempt' end as detail
from compared
where case when is_idle then coalesce(is_inside, false) else not coalesce(is_covered, false) end
