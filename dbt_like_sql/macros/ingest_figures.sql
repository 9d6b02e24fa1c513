/* What counters gained per bucket of `step` (M-701). An increment between two samples is spread over the minutes between
   them in proportion to time, in millionths, cut so that the parts add up to it. */
create or replace temp macro ingest_figures(window_start, window_end, step) as table
with
closed as (
    select * from closed_window(window_start, window_end)
),

-- A sample from the future does not exist before its time (E-306).
existing as (
    select counter.source_id, counter.process_id, counter.series, counter.kind, counter."at", counter.value
    from raw.ingest_counter as counter
    inner join closed on counter.source_id = closed.source_id and counter."at" <= closed.horizon
    where counter."at" >= window_start - interval 1 day
),

near as (
    select * from existing
    where "at" < window_end
    union all
    select source_id, process_id, series, kind, min("at") as "at", arg_min(value, "at") as value
    from existing
    where "at" >= window_end
    group by source_id, process_id, series, kind
),

-- Series without a sample in the day before: their last one, however old (an empty list costs nothing).
silent as (
    select source_id, process_id, series, kind
    from near
    group by source_id, process_id, series, kind
    having min("at") >= window_start
),

older as (
    select
        counter.source_id,
        counter.process_id,
        counter.series,
        counter.kind,
        max(counter."at") as "at",
        arg_max(counter.value, counter."at") as value
    from raw.ingest_counter as counter
    semi join silent
        on
            counter.source_id = silent.source_id
            and counter.process_id = silent.process_id
            and counter.series = silent.series
            and counter.kind = silent.kind
    where counter."at" < window_start - interval 1 day
    group by counter.source_id, counter.process_id, counter.series, counter.kind
),

point as (
    select
        *,
        lag("at") over series_time as prev_at,
        lag(value) over series_time as prev_value,
        lead("at") over series_time is null as is_last
    from (
        select * from near
        union all
        select * from older
    )
    window series_time as (partition by source_id, process_id, series, kind order by "at")
),

step_up as (
    select
        point.*,
        closed.from_at,
        closed.to_at,
        cast(
            case when point.value >= point.prev_value then point.value - point.prev_value else point.value end * 1000000
            as hugeint
        ) as gain_u,
        span_us(point.prev_at, point."at") as span,
        coalesce(point.value < point.prev_value, false) as is_reset,
        greatest(0, cast(round(
            span_us(point.prev_at, point."at")
            / (coalesce(expected.interval_s, closed.slot_us / 1000000.0) * 1000000)
        ) as bigint) - 1) as missing
    from point
    inner join closed on point.source_id = closed.source_id
    left join meta.sample_interval as expected
        on point.source_id = expected.source_id and point.process_id = expected.name
),

-- Minutes that the time between two samples reaches, and those of the day after the last sample.
reached as (
    select
        *,
        true as is_pair,
        unnest(range(
            greatest(date_trunc('minute', prev_at), from_at), least("at", to_at), interval 1 minute
        )) as minute
    from step_up
    where prev_at is not null and "at" >= from_at and prev_at < to_at
    union all
    select
        *,
        false as is_pair,
        unnest(range(
            greatest(date_trunc('minute', "at"), from_at), least("at" + interval 1 day, to_at), interval 1 minute
        )) as minute
    from step_up
    where is_last and "at" < to_at
),

part as (
    select
        source_id,
        process_id,
        series,
        kind,
        time_bucket(step, minute) as bucket,
        is_pair or prev_at is not null or minute > "at" as existed,
        case when is_pair then
            gain_u * (epoch_us(least("at", minute + interval 1 minute)) - epoch_us(prev_at)) // span
            - gain_u * (epoch_us(greatest(prev_at, minute)) - epoch_us(prev_at)) // span
        else 0 end as gain_u,
        0 as samples,
        0 as resets,
        0 as gaps
    from reached
    union all
    select
        source_id,
        process_id,
        series,
        kind,
        time_bucket(step, "at") as bucket,
        false as existed,
        0 as gain_u,
        1 as samples,
        cast(is_reset as integer) as resets,
        coalesce(missing, 0) as gaps
    from step_up
    where "at" >= from_at and "at" < to_at
),

named as (
    select * from part
    union all
    select * replace ('*' as series) from part
),

summed as (
    select
        source_id,
        process_id,
        series,
        bucket,
        case when bool_or(existed) filter (where kind <> 'error') then
            coalesce(sum(gain_u) filter (where kind <> 'error'), 0)
        end as gain_u,
        case when bool_or(existed) filter (where kind = 'ok') then
            coalesce(sum(gain_u) filter (where kind = 'ok'), 0)
        end as ok_u,
        case when bool_or(existed) filter (where kind = 'error') then
            coalesce(sum(gain_u) filter (where kind = 'error'), 0)
        end as error_u,
        cast(sum(samples) as bigint) as samples,
        cast(sum(resets) as bigint) as resets,
        cast(sum(gaps) as bigint) as gaps
    from named
    group by source_id, process_id, series, bucket
)

select
    summed.source_id,
    summed.process_id,
    summed.series,
    summed.bucket,
    cast(summed.gain_u as decimal(31, 0)) * 0.000001 as increase,
    cast(summed.error_u as decimal(31, 0)) * 0.000001 as error_increase,
    ratio2(summed.gain_u, span_us(summed.bucket, least(summed.bucket + step, closed.to_at))) as rate_per_s,
    ratio2(100 * summed.ok_u, summed.ok_u + summed.error_u) as success_rate,
    summed.samples,
    summed.resets,
    summed.gaps,
    span_us(summed.bucket, least(summed.bucket + step, closed.to_at)) // 60000000 as closed_minutes
from summed
inner join closed on summed.source_id = closed.source_id;
