/*---
rule: M-908
description: Every attempt is stored once and started in exactly one minute
---*/
with
stored as (
    select
        attempt.source_id,
        attempt.endpoint,
        date_trunc('minute', attempt.started_at) as bucket,
        count(*) as attempts,
        count(distinct row(attempt.task_key, attempt.attempt_no)) as different
    from core.task_attempt as attempt
    inner join closed_window($window_start, $window_end) as closed
        on
            attempt.source_id = closed.source_id
            and attempt.started_at >= closed.from_at
            and attempt.started_at < closed.to_at
    where attempt.started_at >= $window_start and attempt.started_at < $window_end and closed.has_attempts
    group by attempt.source_id, attempt.endpoint, bucket
)

select
    'mart.endpoint_minute_stats' as table_name,
    stored.source_id,
    stored.endpoint,
    stored.bucket,
    concat_ws(' ', stored.attempts, 'attempts stored,', stored.different, 'different,', stat.attempts_started, 'counted')
        as detail
from stored
left join mart.endpoint_minute_stats as stat
    on
        stored.source_id = stat.source_id
        and stored.endpoint = stat.endpoint
        and stored.bucket = stat.stat_minute
where stored.attempts <> stored.different or stored.attempts is distinct from stat.attempts_started
