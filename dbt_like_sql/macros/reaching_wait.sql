/* Waits that reach into a window: begun before its end, and open or ended since its start. Two reads, because storage
   skips no row group for "null or later", and with a long history nearly all can be skipped. Where it is known
   since when open ones began, the variable says so. */
create or replace temp macro reaching_wait(window_start, window_end) as table
select * from core.task_wait
where from_at < window_end and to_at >= window_start
union all
select * from core.task_wait
where
    from_at < window_end
    and to_at is null
    and from_at >= coalesce(getvariable('open_since_task_wait'), '-infinity'::timestamp);
