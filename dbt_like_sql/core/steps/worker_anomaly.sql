/*---
description: Workers that show evidence later than their known termination (M-302); it is ignored.
---*/
select
    life.source_id,
    life.worker_key,
    'evidence_after_end' as kind,
    'worker_life' as entity,
    concat(life.worker_key, '#', life.life_no) as "key",
    min(case when span.first_at > life.terminated_fact_at then span.first_at else span.last_at end) as "at",
    null as detail
from step_worker_life_found as life
inner join step_worker_evidence as span
    on
        life.worker_key = span.worker_key
        and span.kind = 'proof'
        and span.last_at > life.terminated_fact_at
        and span.first_at < life.until_at
where life.terminated_fact_at is not null and life.until_at = 'infinity'::timestamp
group by life.source_id, life.worker_key, life.life_no
