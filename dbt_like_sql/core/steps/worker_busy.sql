/*---
description: >
  Busy time of the claimed workers where the source maps no attempts (M-303, M-318): a sample that is not idle holds to
  the next sample, at most the tolerance; the first snapshot of a life also covers the time from the life's start. Polls
  count only if there is no snapshot feed, and say nothing of the time before them (E-111). Pieces may outlast the life,
  whose end is judged anew without new samples; readers cut them to the online time of the same life. Recomputed from
  `cut_at` of each worker on.
---*/
with
sample as (
    select
        life.source_id,
        life.worker_key,
        life.life_no,
        life.endpoint,
        life.start_at,
        life.end_at,
        life.first_snapshot_at,
        claim_worker.since - 2 * to_microseconds(setting.tolerance_us) as read_from,
        snapshot.origin is distinct from 'poll' as is_snapshot,
        snapshot."at",
        case when snapshot.origin = 'poll' then snapshot.polled_status = 'busy' else not snapshot.is_idle end as is_busy
    from scope_worker_snapshot as snapshot
    inner join claim_worker on snapshot.worker_key = claim_worker.worker_key
    inner join step_worker_life_found as life
        on
            snapshot.worker_key = life.worker_key
            and snapshot."at" >= life.start_at
            and snapshot."at" <= coalesce(life.end_at, snapshot."at")
    cross join claim_setting as setting
    where
        snapshot."at" >= claim_worker.since - 2 * to_microseconds(setting.tolerance_us)
        and snapshot."at" <= setting.horizon
        and not setting.has_attempts
        and (snapshot.origin is distinct from 'poll' or not setting.has_snapshot)
),

held as (
    select
        sample.*,
        sample.is_snapshot
        and row_number() over in_order = 1
        and (sample.read_from <= sample.start_at or sample.first_snapshot_at >= sample."at") as is_first,
        least(
            coalesce(lead(sample."at") over in_order, 'infinity'::timestamp),
            sample."at" + to_microseconds(setting.tolerance_us)
        ) as to_at
    from sample
    cross join claim_setting as setting
    window in_order as (partition by sample.worker_key, sample.life_no order by sample."at")
)

select
    source_id,
    worker_key,
    life_no,
    endpoint,
    'busy' as state,
    case when is_first then start_at else "at" end as from_at,
    to_at,
    case when is_snapshot then 'snapshots' else 'current_state' end as evidence,
    case when is_snapshot then 'exact' else 'estimated' end as quality
from held
where is_busy and to_at > case when is_first then start_at else "at" end
