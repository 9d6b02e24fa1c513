/* Lives that began, were terminated or were lost per endpoint and minute, and cold starts at the instant of creation
   (M-313, M-314). */
create or replace temp macro lifecycle_figures(window_start, window_end) as table
with
happened as (
    select
source_id,
endpoint,
created_at as happened_at,
'created' as kind,
cold_start_ms
    from core.worker_life
    where created_at >= window_start and created_at < window_end
    union all
    select
source_id,
endpoint,
terminated_at,
'terminated',
null
    from core.worker_life
    where terminated_at >= window_start and terminated_at < window_end
    union all
    select
source_id,
endpoint,
lost_at,
'lost',
null
    from core.worker_life
    where lost_at >= window_start and lost_at < window_end
)

select
    source_id,
    endpoint,
    date_trunc('minute', happened_at) as bucket,
    count(*) filter (where kind = 'created') as workers_created,
    count(*) filter (where kind = 'terminated') as workers_terminated,
    count(*) filter (where kind = 'lost') as workers_lost,
    count(cold_start_ms) filter (where cold_start_ms >= 0) as cold_starts,
    sum(ms_to_us(cold_start_ms)) filter (where cold_start_ms >= 0) as cold_start_us,
    max(cold_start_ms) filter (where cold_start_ms >= 0) as max_cold_start_ms
from happened
group by source_id, endpoint, bucket;
