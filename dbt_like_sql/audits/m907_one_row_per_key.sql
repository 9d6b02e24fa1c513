/*---
rule: M-907
description: One row per key, with a sound history
---*/
select
    table_name,
    source_id,
    endpoint,
    bucket,
    concat(count(*), ' rows, revision ', max(revision)) as detail
from endpoint_stat($window_start, $window_end)
group by table_name, source_id, endpoint, bucket
having
    count(*) > 1
    or min(coalesce(revision, 0)) < 1
    or bool_or((revision > 1) <> (restated_at is not null))
    or bool_or((state = 'closed') <> (first_closed_at is not null))
