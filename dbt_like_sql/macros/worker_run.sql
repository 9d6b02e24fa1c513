/* Stretches of online time cut to the closed part of a window, numbered (the number is the same in every query over the
   same window). They begin one microsecond early: that tells whether a worker was busy when the first bucket began. */
create or replace temp macro worker_run(window_start, window_end) as table
select
    row_number() over (
        order by online.source_id, online.worker_key, online.life_no, online.from_at
    ) as run_id,
    online.source_id,
    online.worker_key,
    online.life_no,
    online.endpoint,
    closed.has_attempts,
    closed.from_at as first_at,
    greatest(online.from_at, closed.from_at - interval 1 microsecond) as from_at,
    least(coalesce(online.to_at, closed.to_at), closed.to_at) as to_at
from online_run(window_start, window_end) as online
inner join closed_window(window_start, window_end) as closed on online.source_id = closed.source_id
where
    online.from_at < closed.to_at
    and (online.to_at is null or online.to_at > closed.from_at - interval 1 microsecond);
