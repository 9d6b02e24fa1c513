/*---
description: >
  The evidence of the claimed workers, stored and new, merged: a span ends where nothing follows within the tolerance
  (M-305). The result does not depend on the order in which evidence arrived. Of starts only the first matters, so their
  spans may be long; every registration stands alone, for each may begin a life (E-113). Spans that no new evidence
  reaches are left alone.
---*/
with
reach as (
    select
        point.worker_key,
        point.kind,
        case point.kind
            when 'start' then 86400000000
            when 'registered' then 0
            else any_value(setting.tolerance_us)
        end as reach_us,
        min(point.first_at) as first_at
    from step_worker_point as point
    cross join claim_setting as setting
    group by point.worker_key, point.kind
),

span as (
    select known.worker_key, known.kind, known.first_at, known.last_at, known.first_sample_at, known.last_sample_at,
        known.last_snapshot_at, known.has_poll, known.endpoint, known.first_snapshot_at, reach.reach_us
    from core.worker_evidence as known
    inner join reach
        on
            known.worker_key = reach.worker_key
            and known.kind = reach.kind
            and known.last_at >= reach.first_at - to_microseconds(reach.reach_us)
    where known.source_id = $source_id
    union all
    select point.worker_key, point.kind, point.first_at, point.last_at, point.first_sample_at, point.last_sample_at,
        point.last_snapshot_at, point.has_poll, point.endpoint, point.first_snapshot_at, reach.reach_us
    from step_worker_point as point
    inner join reach on point.worker_key = reach.worker_key and point.kind = reach.kind
),

numbered as (
    select
        *,
        sum(case when epoch_us(first_at) - epoch_us(reached) <= reach_us then 0 else 1 end) over (
            partition by worker_key, kind
            order by first_at, last_at
            rows unbounded preceding
        ) as span_no
    from (
        select
            span.*,
            max(span.last_at) over (
                partition by span.worker_key, span.kind
                order by span.first_at, span.last_at
                rows between unbounded preceding and 1 preceding
            ) as reached
        from span
    )
)

select
    $source_id as source_id,
    worker_key,
    kind,
    min(first_at) as first_at,
    max(last_at) as last_at,
    min(first_sample_at) as first_sample_at,
    max(last_sample_at) as last_sample_at,
    max(last_snapshot_at) as last_snapshot_at,
    coalesce(bool_or(has_poll), false) as has_poll,
    arg_min(endpoint, (first_at, endpoint)) filter (where endpoint is not null) as endpoint,
    min(first_snapshot_at) as first_snapshot_at
from numbered
group by worker_key, kind, span_no
