/*---
description: >
  Every attempt of the claimed tasks with its end and outcome: its own end event (M-204), a final event that named its
  worker while another attempt was open (M-207), a final event shortly before its start (M-209), its derived timeout
  (M-217), the row that stands in for events (M-212), or, dangling, the earliest of row, next start, idle snapshot and
  worker's end (M-210). `how` says which; `observed` whether start and end are its own, so that they measure something.
---*/
with
role as (
    select *
    from step_task_role
    where n > 0
),

acted as (
    select
        tid,
        attempt,
        min(n) filter (where role = 'start') as start_n,
        min("at") filter (where role = 'start') as started_at,
        coalesce(
            min(event_worker) filter (where role = 'start'), arg_min(event_worker, n) filter (where role = 'belongs')
        ) as worker_key,
        min(enqueued_at) filter (where role = 'start') as enqueued_at,
        min(paired_n) filter (where role = 'start') as paired_n,
        min(timeout_at) filter (where role = 'start') as timeout_at,
        min(stop_at) filter (where role = 'start') as stop_at,
        bool_or(stops_idle) filter (where role = 'start') as stops_idle,
        min(role) filter (where role in ('end', 'late_end', 'release')) as end_role,
        min("at") filter (where role in ('end', 'late_end', 'release')) as end_at,
        min(event_type) filter (where role in ('end', 'late_end', 'release')) as end_type
    from role
    where attempt is not null
    group by tid, attempt
),

counted_elsewhere as (
    select distinct tid, k as attempt
    from role
    where role = 'mismatch'
),

fired as (
    select tid, fired as attempt, bool_or(fired_counted) as fired_counted
    from role
    where fired is not null
    group by tid, fired
),

named as (
    select role.tid, role.n, role."at", role.event_type, max(acted.attempt) as attempt
    from role
    inner join acted
        on role.tid = acted.tid and role.event_worker = acted.worker_key and acted.start_n < role.n
    where role.role = 'mismatch'
    group by role.tid, role.n, role."at", role.event_type
),

first_named as (
    select tid, attempt, min(n) as named_n, arg_min("at", n) as named_at, arg_min(event_type, n) as named_type
    from named
    group by tid, attempt
),

late as (
    select
        role.tid,
        role.n,
        role."at",
        coalesce(
            role.attempt, max(acted.attempt) filter (where acted.worker_key = role.event_worker), max(acted.attempt)
        ) as attempt
    from role
    inner join acted on role.tid = acted.tid and acted.start_n < role.n
    where role.role in ('late', 'late_end')
    group by role.tid, role.n, role."at", role.attempt
),

late_figure as (
    select late.tid, late.attempt, count(*) as late_event_count, min(late."at") as first_late_at
    from late
    group by late.tid, late.attempt
),

attempt as (
    select
        acted.*,
        subject.* exclude (tid, has_start),
        lead(acted.started_at) over (partition by acted.tid order by acted.attempt) as next_start_at,
        fired.attempt is not null as has_fired,
        coalesce(fired.fired_counted, false) as fired_counted,
        elsewhere.attempt is not null as counted_elsewhere,
        named.named_n,
        named.named_at,
        named.named_type,
        paired."at" as paired_at,
        paired.event_type as paired_type,
        coalesce(late_figure.late_event_count, 0) as late_event_count,
        late_figure.first_late_at
    from acted
    inner join step_task_subject as subject on acted.tid = subject.tid
    left join fired on acted.tid = fired.tid and acted.attempt = fired.attempt
    left join counted_elsewhere as elsewhere on acted.tid = elsewhere.tid and acted.attempt = elsewhere.attempt
    left join first_named as named on acted.tid = named.tid and acted.attempt = named.attempt
    left join role as paired on acted.tid = paired.tid and acted.paired_n = paired.n
    left join late_figure on acted.tid = late_figure.tid and acted.attempt = late_figure.attempt
),

row_closed as (
    select
        *,
        case
            when next_start_at is not null or not has_row or status in ('running', 'unknown') then null
            when row_attempt and row_outcome is not null and row_ended_at is not null then row_ended_at
            when row_ended_at >= started_at then row_ended_at
            when row_updated_at >= started_at then row_updated_at
            when row_outcome is not null then greatest(started_at, row_seen_at)
            when row_seen_at >= started_at then row_seen_at
        end as row_at,
        next_start_at is null and row_attempt and row_outcome is not null and row_ended_at is not null as row_is_own
    from attempt
),

timed as (
    select
        row_closed.*,
        case
            when
                row_closed.next_start_at is null
                and setting.as_of > row_closed.timeout_at
                and not coalesce(
                    row_closed.row_outcome is not null
                    and row_closed.row_at <= row_closed.timeout_at + interval 60 second,
                    false
                )
                then row_closed.timeout_at
        end as tail_timeout_at
    from row_closed
    cross join claim_setting as setting
),

judged as (
    select
        *,
        case
            when end_role is not null then end_role
            when has_fired then 'timeout'
            when named_n is not null then 'named'
            when paired_at is not null then 'reversed'
            when row_is_own and tail_timeout_at is null then case when row_at < started_at then 'row_reversed' else 'row_own' end
            -- A worker that ended before says nothing about an attempt whose row knows its outcome (M-307).
            when
                row_outcome is not null
                and not counted_elsewhere
                and stop_at <= started_at
                and greatest(row_ended_at, row_updated_at) >= started_at
                and row_at <= coalesce(tail_timeout_at, row_at)
                then 'row'
            when row_at <= least(next_start_at, stop_at, tail_timeout_at, row_at) then 'row'
            when tail_timeout_at <= least(next_start_at, stop_at, tail_timeout_at) then 'timeout'
            when next_start_at <= least(next_start_at, stop_at) then 'next_start'
            when stop_at is not null then 'stop'
            else 'open'
        end as how
    from timed
),

ended as (
    select
        *,
        case how
            when 'timeout' then timeout_at
            when 'named' then named_at
            when 'reversed' then paired_at
            when 'row_own' then row_at
            when 'row_reversed' then row_at
            when 'row' then row_at
            when 'next_start' then next_start_at
            when 'stop' then stop_at
            when 'open' then null
            else end_at
        end as ended_at,
        case
            when how = 'end' then end_type
            when named_n is not null then named_type
            when how = 'timeout' then case when fired_counted or not (has_fired or counted_elsewhere) then 'timeout' end
            when how = 'reversed' then paired_type
            when how in ('row_own', 'row_reversed', 'row') and not counted_elsewhere then row_outcome
        end as counted_outcome
    from judged
)

select
    tid,
    source_id,
    task_key,
    attempt as attempt_no,
    endpoint,
    worker_key,
    enqueued_at,
    started_at,
    ended_at,
    case when how = 'open' then 'open' else coalesce(counted_outcome, 'lost') end as outcome,
    case
        when how in ('end', 'late_end', 'release', 'named', 'reversed') then 'event'
        when how in ('row_own', 'row_reversed', 'row') then 'task_row'
        when how = 'next_start' then 'next_start'
        when how = 'timeout' then 'derived_timeout'
        when how = 'stop' then case when stops_idle then 'idle_snapshot' else 'worker_end' end
    end as end_source,
    counted_outcome is not null as counted,
    how in ('reversed', 'row_reversed') as reversed,
    late_event_count,
    case when ended_at is not null and first_late_at >= ended_at then first_late_at end as executor_ended_at,
    how,
    case when named_n is not null then named_at when counted_outcome is not null then ended_at end as counted_at,
    how = 'end' or how = 'row_own' or (how = 'timeout' and counted_outcome is not null) as observed,
    case when how = 'reversed' then paired_n end as used_n,
    named_n,
    start_n,
    submitted_at,
    (epoch_us(started_at) - epoch_us(enqueued_at)) as wait_us,
    (epoch_us(ended_at) - epoch_us(started_at)) as span_us,
    (epoch_us(case when named_n is not null then named_at else ended_at end) - epoch_us(submitted_at)) as total_us,
    timeout_at,
    how not in ('end', 'late_end', 'release', 'row_own', 'row_reversed', 'reversed') as dangling
from ended
