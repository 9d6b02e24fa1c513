/* Online time of every worker cut into stretches of equal load: one row says that from from_at to to_at the worker ran
   `running` attempts at once (M-307, M-310). Stretches end at every border of `step`, so each lies in one bucket, and
   the longest possible otherwise: a row with running = 0 is a piece of an idle spell (M-311). `became_idle` marks the
   instants of M-312. Only the worker's own attempts count, cut to its online time; where no attempts are mapped the
   stored busy intervals take their place (M-303, M-318). `run_id` is that of worker_run over the same window. */
create or replace temp macro worker_segment(window_start, window_end, step) as table
with
run as materialized (
    select * from worker_run(window_start, window_end)
),

load as (
    select
        source_id,
        worker_key,
        cast(null as bigint) as life_no,
        true as from_attempt,
        started_at as from_at,
        ended_at as to_at
    from reaching_attempt(window_start, window_end)
    where worker_key is not null and not coalesce(reversed, false)
    union all
    select
        source_id,
        worker_key,
        life_no,
        false as from_attempt,
        from_at,
        to_at
    from core.worker_interval
    where
        state = 'busy'
        and from_at < window_end
        and (to_at is null or to_at >= window_start)
),

busy as (
    select
        run.run_id,
        greatest(load.from_at, run.from_at) as from_at,
        least(coalesce(load.to_at, run.to_at), run.to_at) as to_at
    from load
    inner join run
        on
            load.source_id = run.source_id
            and load.worker_key = run.worker_key
            and load.from_attempt = run.has_attempts
            and (load.life_no is null or load.life_no = run.life_no)
            and load.from_at < run.to_at
            and (load.to_at is null or (load.to_at > run.from_at and load.to_at > load.from_at))
),

change as (
    select
run_id,
from_at as changed_at,
0 as running,
true as border
from run
    union all
    select
run_id,
to_at,
0,
true
from run
    union all
    select
run_id,
from_at,
1,
false
from busy
    union all
    select
run_id,
to_at,
-1,
false
from busy
    union all
    select
run_id,
unnest(range(time_bucket(step, from_at) + step, to_at, step)),
0,
true
from run
),

instant as (
    select
        run_id,
        changed_at,
        cast(sum(running) as integer) as step_up
    from change
    group by run_id, changed_at
    having sum(running) <> 0 or bool_or(border)
),

level as (
    select
        run_id,
        changed_at as from_at,
        lead(changed_at) over in_order as to_at,
        sum(step_up) over in_order as running,
        step_up
    from instant
    window in_order as (partition by run_id order by changed_at rows unbounded preceding)
)

select
    level.run_id,
    time_bucket(step, level.from_at) as bucket,
    level.from_at,
    level.to_at,
    span_us(level.from_at, level.to_at) as us,
    cast(level.running as bigint) as running,
    level.running = 0 and level.step_up < 0 as became_idle
from level
inner join run on level.run_id = run.run_id
where level.to_at is not null and level.from_at >= run.first_at;
