/*---
rule: M-910
description: No more snapshots than expected; histogram and distribution count every execution
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    'snapshots, histogram or distribution do not fit' as detail
from endpoint_stat($window_start, $window_end)
where
    snapshots_received > snapshots_expected
    or coalesce(list_sum(map_values(cast(exec_hist as map(varchar, bigint)))), 0) <> execution_n
    or coalesce(list_sum(map_values(cast(execution_time_distribution as map(varchar, bigint)))), 0) <> execution_n
    or coalesce(list_sum(map_values(cast(queue_hist as map(varchar, bigint)))), 0) <> queue_wait_n
