/*---
description: >
  Online time of the claimed workers' lives in pieces of one quality (M-305, M-307, M-317). Lives known by facts are
  online from start to end except after offline events; gaps in the samples are bridged. Other lives are online where
  evidence or attempts show it, and for one sampling interval after the last sample.
---*/
with
life as (
    select
        life.*,
        setting.tolerance_us,
        setting.interval_us,
        setting.as_of,
        life.known or life.start_source = 'created_at' as whole
    from step_worker_life_found as life
    cross join claim_setting as setting
    where life.start_at is not null
),

shown as (
    select
        life.worker_key, life.life_no,
        greatest(span.first_at, life.start_at) as from_at,
        span.last_at as to_at,
        span.last_sample_at
    from life
    inner join step_worker_evidence as span
        on
            life.worker_key = span.worker_key
            and span.kind = 'proof'
            and span.last_at >= life.start_at
            and span.first_at < life.until_at
            and span.first_at <= coalesce(life.end_at, span.first_at)
    where not life.whole or life.last_snapshot_at is not null
    union all
    select life.worker_key, life.life_no, life.end_at, life.end_at, null
    from life
    where life.end_source in ('terminated_at', 'offline')
    union all
    select life.worker_key, life.life_no, life.start_at, life.start_at, null
    from life
    union all
    select
        life.worker_key, life.life_no,
        greatest(attempt.started_at, life.start_at),
        least(coalesce(attempt.ended_at, 'infinity'::timestamp), life.end_at),
        null
    from life
    inner join core.task_attempt as attempt
        on
            life.source_id = attempt.source_id
            and life.worker_key = attempt.worker_key
            and attempt.started_at < coalesce(life.end_at, life.until_at)
            and (attempt.ended_at is null or attempt.ended_at >= greatest(life.start_at, attempt.started_at))
    where not life.whole and not coalesce(attempt.reversed, false)
),

stretch as (
    select
        worker_key, life_no,
        min(from_at) as from_at,
        max(to_at) as to_at,
        max(last_sample_at) as last_sample_at
    from (
        select
            *,
            sum(case when epoch_us(from_at) - epoch_us(reached) <= tolerance_us then 0 else 1 end) over (
                partition by worker_key, life_no
                order by from_at, to_at
                rows unbounded preceding
            ) as stretch_no
        from (
            select
                shown.*,
                setting.tolerance_us,
                least(
                    max(shown.to_at) over (
                        partition by shown.worker_key, shown.life_no
                        order by shown.from_at, shown.to_at
                        rows between unbounded preceding and 1 preceding
                    ), timestamp '2200-01-01'
                ) as reached
            from shown
            cross join claim_setting as setting
        )
    )
    group by worker_key, life_no, stretch_no
),

gap as (
    select
        life.worker_key, life.life_no,
        stretch.to_at as from_at,
        coalesce(
            lead(stretch.from_at) over (partition by life.worker_key, life.life_no order by stretch.from_at), life.end_at
        ) as to_at
    from life
    inner join stretch on life.worker_key = stretch.worker_key and life.life_no = stretch.life_no
    where life.whole and life.last_snapshot_at is not null and life.last_snapshot_at >= life.start_at
),

mark as (
    select worker_key, life_no, start_at as "at", 1 as online, 0 as offline, 0 as bridged, 0 as estimated
    from life
    where whole
    union all
    select worker_key, life_no, end_at, -1, 0, 0, 0
    from life
    where whole and end_at is not null
    union all
    select stretch.worker_key, stretch.life_no, stretch.from_at, 1, 0, 0, 0
    from stretch
    inner join life on stretch.worker_key = life.worker_key and stretch.life_no = life.life_no
    where not life.whole
    union all
    select
        stretch.worker_key, stretch.life_no,
        case
            when life.end_source in ('terminated_at', 'offline', 'next_life')
                then least(life.end_at, greatest(
                    stretch.to_at, stretch.last_sample_at + to_microseconds(life.interval_us)
                ))
            else greatest(stretch.to_at, stretch.last_sample_at + to_microseconds(life.interval_us))
        end,
        -1, 0, 0, 0
    from stretch
    inner join life on stretch.worker_key = life.worker_key and stretch.life_no = life.life_no
    where
        not life.whole
        and stretch.to_at <> 'infinity'::timestamp
        and not (life.end_at is null and epoch_us(life.as_of) - epoch_us(stretch.to_at) <= life.tolerance_us)
    union all
    select
        life.worker_key, life.life_no,
        unnest([offline.offline_at, offline.next_at]),
        0, unnest([1, -1]), 0, 0
    from life
    inner join step_worker_offline as offline
        on
            life.worker_key = offline.worker_key
            and offline.next_at > life.start_at
            and offline.offline_at >= life.start_at
            and offline.next_at <= coalesce(life.end_at, offline.next_at)
    union all
    select gap.worker_key, gap.life_no, unnest([gap.from_at, gap.to_at]), 0, 0, unnest([1, -1]), 0
    from gap
    cross join claim_setting as setting
    where epoch_us(coalesce(gap.to_at, setting.as_of)) - epoch_us(gap.from_at) > setting.tolerance_us
    union all
    select worker_key, life_no, unnest([greatest(start_at, date_trunc('minute', end_at - interval 1 microsecond)), end_at]),
        0, 0, 0, unnest([1, -1])
    from life
    where whole and end_source = 'silence'
),

level as (
    select
        worker_key, life_no,
        "at" as from_at,
        lead("at") over in_order as to_at,
        sum(sum(online)) over in_order as online,
        sum(sum(offline)) over in_order as offline,
        sum(sum(bridged)) over in_order as bridged,
        sum(sum(estimated)) over in_order as estimated
    from mark
    where "at" is not null
    group by worker_key, life_no, "at"
    window in_order as (partition by worker_key, life_no order by "at" rows unbounded preceding)
),

piece as (
    select
        life.source_id,
        life.worker_key,
        life.life_no,
        life.endpoint,
        level.from_at,
        level.to_at,
        case
            when life.known then 'lifecycle'
            when life.start_source = 'created_at' then 'lifecycle'
            when life.last_snapshot_at is not null then 'snapshots'
            when life.has_poll then 'current_state'
            else 'attempts'
        end as evidence,
        case
            when not life.known or level.estimated > 0 then 'estimated'
            when level.bridged > 0 then 'bridged'
            else 'exact'
        end as quality
    from level
    inner join life on level.worker_key = life.worker_key and level.life_no = life.life_no
    where level.online > 0 and level.offline <= 0 and (level.to_at is null or level.to_at > level.from_at)
)

select
    source_id,
    worker_key,
    life_no,
    endpoint,
    'online' as state,
    min(from_at) as from_at,
    case when count(*) = count(to_at) then max(to_at) end as to_at,
    evidence,
    quality
from (
    select
        *,
        sum(case when from_at = reached and quality = before then 0 else 1 end) over (
            partition by worker_key, life_no
            order by from_at
            rows unbounded preceding
        ) as piece_no
    from (
        select
            *,
            lag(to_at) over (partition by worker_key, life_no order by from_at) as reached,
            lag(quality) over (partition by worker_key, life_no order by from_at) as before
        from piece
    )
)
group by source_id, worker_key, life_no, endpoint, evidence, quality, piece_no
