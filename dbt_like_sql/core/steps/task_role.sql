/*---
description: >
  What every deciding event means, found by reading the events of all claimed tasks in step: iteration n reads the n-th
  event of each task (M-203 to M-209, M-216, M-217). `attempt` is the attempt an event starts, belongs to or ends;
  `fired` the attempt that ran into its derived timeout before this event. The other columns are the state after it.
  Roles: start, belongs, end, late_end (ends the span of an attempt whose outcome was counted elsewhere), release,
  mismatch (M-207), unstarted (M-208), late, duplicate, requeued, queued, ignored.
---*/
with recursive
state as (
    select
        tid,
        0::integer as n,
        0::tinyint as mode,
        null::varchar as event_key,
        null::varchar as event_type,
        null::timestamp as "at",
        null::varchar as event_worker,
        ''::varchar as role,
        null::integer as attempt,
        null::integer as fired,
        false as fired_counted,
        false as retried,
        null::timestamp as enqueued_at,
        null::integer as paired_n,
        0::integer as k,
        false as is_open,
        null::timestamp as opened_at,
        null::varchar as worker_key,
        null::timestamp as timeout_at,
        false as counted,
        false as own_counted,
        waits_at_first as waiting,
        first_enqueued_at as next_enqueue,
        false as requeued,
        null::timestamp as final_at,
        null::varchar as final_worker,
        null::integer as final_n,
        null::varchar[] as past_workers,
        null::varchar[] as counted_workers,
        null::timestamp as stop_at,
        false as stops_idle,
        limit_s,
        limit_at
    from step_task_subject
    union all
    select
        tid,
        n + 1,
        mode,
        event_key,
        event_type,
        "at",
        event_worker,
        role,
        case
            when role in ('start') then k + 1
            when role in ('belongs', 'end', 'late_end', 'release') then k
        end,
        case when fires then k end,
        fires and not counted,
        case
            when role = 'start' then k >= 1 and not requeued
            else class = 'Q' and role <> 'duplicate'
        end,
        case when role = 'start' then next_enqueue end,
        case
            when
                role = 'start'
                and not was_open
                and "at" - final_at <= skew
                and coalesce(final_worker = event_worker, true)
                then final_n
            when opened and role not in ('start', 'end', 'late_end', 'release') then paired_n
        end,
        case when role = 'start' then k + 1 else k end,
        case
            when role in ('start', 'belongs') then true
            when role in ('end', 'late_end', 'release') then false
            else opened
        end,
        case when role = 'start' then "at" else opened_at end,
        case
            when role = 'start' then event_worker
            when role = 'belongs' then coalesce(worker_key, event_worker)
            else worker_key
        end,
        case
            when role <> 'start' then timeout_at
            when coalesce("at" + to_microseconds(cast(round(limit_s * 1e6) as bigint)), limit_at)
                <= coalesce(stop_at, 'infinity'::timestamp)
                then greatest("at", coalesce("at" + to_microseconds(cast(round(limit_s * 1e6) as bigint)), limit_at))
        end,
        case
            when role = 'start' then false
            else done or role in ('end', 'mismatch', 'unstarted')
        end,
        role = 'end' or (role <> 'start' and own_done),
        case
            when role in ('start', 'belongs', 'end', 'late_end', 'unstarted') then false
            when role = 'release' then class = 'Q'
            when class = 'Q' then not opened
            when role = 'queued' then waiting or not opened
            else waiting
        end,
        case
            when role = 'start' then null
            when role in ('requeued', 'queued') or (role = 'release' and class = 'Q')
                then case when k = 0 then next_enqueue else "at" end
            else next_enqueue
        end,
        case
            when role = 'start' then false
            else requeued or (class = 'Q' and role <> 'duplicate')
        end,
        case when role = 'unstarted' then "at" when role in ('start', 'end', 'late_end', 'release', 'requeued') then null else final_at end,
        case when role = 'unstarted' then event_worker else final_worker end,
        case when role = 'unstarted' then n + 1 else final_n end,
        case when role = 'start' and k >= 1 then list_append(past_workers, worker_key) else past_workers end,
        case
            when role = 'start' and k >= 1 and own_done
                then list_append(list_filter(coalesce(counted_workers, []), lambda w: w is distinct from event_worker), worker_key)
            when role = 'start' and counted_workers is not null
                then list_filter(counted_workers, lambda w: w is distinct from event_worker)
            when role = 'mismatch' and coalesce(list_contains(past_workers, event_worker), false)
                then list_append(coalesce(counted_workers, []), event_worker)
            else counted_workers
        end,
        stop_at,
        stops_idle,
        limit_s,
        limit_at
    from (
        select
            *,
            case
                when class = 'S' then case when opened and matches then 'belongs' else 'start' end
                when class = 'F' and opened and matches then case when done then 'late_end' else 'end' end
                when class = 'F' and opened
                    then case
                        when done or paired_n is not null or coalesce(list_contains(counted_workers, event_worker), false)
                            then 'late'
                        else 'mismatch'
                    end
                when class = 'F' then case when done then 'late' else 'unstarted' end
                when class in ('R', 'Q') and opened and matches then 'release'
                when class = 'R' then 'ignored'
                when class = 'Q' then case when waiting and not opened then 'duplicate' else 'requeued' end
                else 'queued'
            end as role
        from (
            select
                *,
                is_open and not fires as opened,
                counted or fires as done,
                own_counted or (fires and not counted) as own_done
            from (
                select
                    state.* exclude (mode, event_key, event_type, "at", event_worker, role, attempt, fired, fired_counted,
                        retried, enqueued_at, paired_n, stop_at, stops_idle),
                    case when state.is_open then state.paired_n end as paired_n,
                    event.mode,
                    event.event_key,
                    event.event_type,
                    event.class,
                    event."at",
                    event.worker_key as event_worker,
                    event.stop_at,
                    event.stops_idle,
                    setting.skew,
                    state.is_open as was_open,
                    coalesce(state.worker_key = event.worker_key, true) as matches,
                    coalesce(
                        state.is_open
                        and not coalesce(state.paired_n is not null, false)
                        and (
                            event."at" > state.timeout_at + interval 60 second
                            or (
                                event."at" > state.timeout_at
                                and (
                                    event.class = 'S'
                                    or (event.class in ('R', 'Q') and coalesce(state.worker_key = event.worker_key, true))
                                )
                            )
                        ),
                        false
                    ) as fires
                from state
                inner join step_task_input as event
                    on
                        state.tid = event.tid
                        and state.n + 1 = event.n
                        and (
                            event.mode = 0
                            or event.mode = case
                                when not event.leads then state.mode
                                when state.is_open then 1
                                else 2
                            end
                        )
                cross join claim_setting as setting
            )
        )
    )
)

select * from state
