/*---
rule: M-904
description: Busy and idle time together are the online time
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    concat_ws(' ', busy_ms, '+', idle_ms, 'is not', online_ms) as detail
from endpoint_stat($window_start, $window_end)
where
    busy_ms + idle_ms is distinct from online_ms
