/* The weakest evidence and the worst quality among the worker intervals of an endpoint and minute, as ranks (M-317).
   Where no attempts are mapped, telling busy from idle rests on snapshots, or on polls if there are none. */
create or replace temp macro worker_evidence_used(window_start, window_end) as table
with
spread as (
    select
        interval_.source_id,
        interval_.endpoint,
        source_rank(interval_.evidence) as evidence_rank,
        quality_rank(interval_.quality) as quality_rank,
        case when closed.has_attempts then 0 when closed.has_snapshots then 2 else 3 end as busy_rank,
        unnest(range(
            greatest(date_trunc('minute', interval_.from_at), closed.from_at),
            least(coalesce(interval_.to_at, closed.to_at), closed.to_at),
            interval 1 minute
        )) as bucket
    from core.worker_interval as interval_
    inner join closed_window(window_start, window_end) as closed on interval_.source_id = closed.source_id
    where
        interval_.from_at < window_end
        and (interval_.to_at is null or interval_.to_at > greatest(window_start, interval_.from_at))
        and interval_.state = 'online'
)

select
    source_id,
    endpoint,
    bucket,
    greatest(max(evidence_rank), max(busy_rank)) as source_rank,
    greatest(max(quality_rank), max(case when busy_rank = 3 then 3 else 1 end)) as quality_rank
from spread
group by source_id, endpoint, bucket;
