/*---
description: From when on the busy pieces of a life are recomputed from samples (see worker_busy); earlier ones stand.
---*/
select
    life.worker_key,
    life.life_no,
    case
        when claim_worker.since is null then 'infinity'::timestamp
        when
            setting.has_snapshot and life.first_snapshot_at >= claim_worker.since - 2 * to_microseconds(setting.tolerance_us)
            then life.start_at
        else claim_worker.since - 2 * to_microseconds(setting.tolerance_us)
    end as cut_at
from step_worker_life_found as life
inner join claim_worker on life.worker_key = claim_worker.worker_key
cross join claim_setting as setting
