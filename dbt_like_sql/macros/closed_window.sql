/* Per source, the closed part [from_at, to_at) of a window, and what the source maps (M-801, E-510).
   Minutes before the first processed day and minutes that are not closed do not exist for statistics. */
create or replace temp macro closed_window(window_start, window_end) as table
select
    state.source_id,
    greatest(state.origin, window_start) as from_at,
    least(state.closed_through, window_end) as to_at,
    least(state.closed_through, state.output_closed_through, window_end) as output_to_at,
    state.origin,
    state.as_of,
    state.as_of + to_microseconds(cast(coalesce(setting.future_tolerance_s, 5) * 1000000 as bigint)) as horizon,
    coalesce(setting.snapshot_tolerance_s, 180) as tolerance_s,
    cast(coalesce(setting.snapshot_interval_s, 60) * 1000000 as bigint) as slot_us,
    coalesce(setting.has_task_event, false) as has_events,
    coalesce(setting.has_task_event, false) or coalesce(setting.has_task_times, false) as has_attempts,
    coalesce(setting.has_worker_snapshot, false) as has_snapshots,
    coalesce(setting.has_worker, false) or coalesce(setting.has_worker_event, false) as has_worker_facts,
    coalesce(setting.has_worker, false) or coalesce(setting.has_worker_event, false)
    or coalesce(setting.has_worker_snapshot, false) as has_workers,
    coalesce(setting.has_cold_start, false) as has_cold_start,
    coalesce(setting.has_output_created, false) as has_output_created,
    coalesce(setting.has_output_time, true) as has_output_time,
    cast(coalesce(setting.output_delay_s, 1800) * 1000000 as bigint) as output_delay_us,
    cast(coalesce(setting.max_duration_h, 168) * 3600000000 as bigint) as max_us
from meta.source_state as state
inner join meta.source_setting as setting on state.source_id = setting.source_id
where
    state.origin < window_end
    and state.closed_through > window_start
    and state.origin < state.closed_through;
