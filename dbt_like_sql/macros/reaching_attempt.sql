/* Attempts that reach into a window: begun before its end, and open or ended since its start. Two reads, because storage
   skips no row group for "null or later", and with a long history nearly all can be skipped. Where it is known
   since when open ones began, the variable says so. */
create or replace temp macro reaching_attempt(window_start, window_end) as table
select * from core.task_attempt
where started_at < window_end and ended_at >= window_start
union all
select * from core.task_attempt
where
    started_at < window_end
    and ended_at is null
    and started_at >= coalesce(getvariable('open_since_task_attempt'), '-infinity'::timestamp);
