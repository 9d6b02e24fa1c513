/*---
description: >
  Offline events of the claimed workers, known ones and new ones. `next_at` is the first evidence after one that is known
  so far (M-302).
---*/
select source_id, worker_key, offline_at, min(next_at) as next_at
from (
    select known.source_id, known.worker_key, known.offline_at, known.next_at
    from core.worker_offline as known
    inner join claim_worker on known.source_id = claim_worker.source_id and known.worker_key = claim_worker.worker_key
    union all
    select event.source_id, event.worker_key, event."at", null
    from scope_worker_event as event
    inner join claim_worker on event.source_id = claim_worker.source_id and event.worker_key = claim_worker.worker_key
    cross join claim_setting as setting
    where event.event_type = 'offline' and event."at" >= claim_worker.since and event."at" <= setting.horizon
)
group by source_id, worker_key, offline_at
