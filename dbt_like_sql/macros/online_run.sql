/* Maximal stretches in which a worker is online without interruption, per life (M-307). Stored pieces that touch
   (they differ in evidence or quality only) are one stretch. to_at NULL: still online. */
create or replace temp macro online_run(window_start, window_end) as table
with
piece as (
    select
        source_id,
        worker_key,
        life_no,
        endpoint,
        from_at,
        coalesce(to_at, 'infinity'::timestamp) as to_at
    from core.worker_interval
    where
        state = 'online'
        and from_at < window_end
        and (to_at is null or to_at >= window_start)
),

numbered as (
    select
        *,
        sum(case when from_at > reached then 1 else 0 end) over (
            partition by source_id, worker_key, life_no
            order by from_at, to_at
            rows unbounded preceding
        ) as run_no
    from (
        select
            *,
            max(to_at) over (
                partition by source_id, worker_key, life_no
                order by from_at, to_at
                rows between unbounded preceding and 1 preceding
            ) as reached
        from piece
    ) as in_order
)

select
    source_id,
    worker_key,
    life_no,
    any_value(endpoint) as endpoint,
    min(from_at) as from_at,
    nullif(max(to_at), 'infinity'::timestamp) as to_at
from numbered
group by source_id, worker_key, life_no, run_no;
