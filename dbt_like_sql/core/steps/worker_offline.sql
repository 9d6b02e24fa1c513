/*---
description: Offline events of the claimed workers with the first evidence after each, new evidence included (M-302).
---*/
select
    $source_id as source_id,
    known.worker_key,
    known.offline_at,
    least(min(known.next_at), min(point.first_at)) as next_at
from step_worker_offline_known as known
left join step_worker_point as point
    on known.worker_key = point.worker_key and point.kind = 'proof' and point.first_at > known.offline_at
group by known.worker_key, known.offline_at
