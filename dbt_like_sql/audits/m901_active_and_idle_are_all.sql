/*---
rule: M-901
description: Active and idle workers together are all workers
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    concat_ws(' ', active_workers, '+', idle_workers, 'is not', total_workers) as detail
from endpoint_stat($window_start, $window_end)
where
    active_workers + idle_workers is distinct from total_workers
