/* Anomalies with an instant in the window, per endpoint and minute (E-007). An anomaly names an entity and its key; the
   endpoint is that of the task, worker, snapshot or endpoint so named; an event belongs to its task, as where it is
   counted, also when the task is known by its events only (E-100). The few anomalies of a window meet the large tables
   through key_hash. Attempts and lives are named by task or worker, # and their number. */
create or replace temp macro anomaly_figures(window_start, window_end) as table
with
anomaly as (
    select
        source_id,
        entity,
        "key",
        date_trunc('minute', "at") as bucket,
        md5_number_lower(concat_ws(chr(31), source_id, "key")) as key_hash,
        case when entity = 'task_attempt' then regexp_replace("key", '#[0-9]+$', '') else "key" end as owner_key
    from raw.anomaly
    where "at" >= window_start and "at" < window_end
),

-- A worker may have several lives; its anomalies count once.
worker as (
    select
        source_id,
        worker_key,
        arg_min(endpoint, life_no) as endpoint
    from raw.worker
    group by source_id, worker_key
),

-- The task an anomaly is about: of its row, of an attempt, or of an event.
of_task as (
    select
        source_id,
        bucket,
        owner_key as task_key,
        md5_number_lower(concat_ws(chr(31), source_id, owner_key)) as task_hash
    from anomaly
    where entity in ('task', 'task_attempt')
    union all
    select anomaly.source_id, anomaly.bucket, event.task_key, event.task_hash
    from anomaly
    inner join raw.task_event as event
        on
            anomaly.key_hash = event.key_hash
            and anomaly.source_id = event.source_id
            and anomaly."key" = event.event_key
    where anomaly.entity = 'task_event'
),

placed as (
    select
        of_task.source_id,
        of_task.bucket,
        task.endpoint
    from of_task
    inner join raw.task as task
        on
            of_task.task_hash = task.key_hash
            and of_task.source_id = task.source_id
            and of_task.task_key = task.task_key
    union all
    select
        of_task.source_id,
        of_task.bucket,
        task.endpoint
    from of_task
    inner join core.task_status as task
        on
            of_task.task_hash = task.task_hash
            and of_task.source_id = task.source_id
            and of_task.task_key = task.task_key
            and not task.has_row
    union all
    select
        anomaly.source_id,
        anomaly.bucket,
        coalesce(nullif(snapshot.endpoint, ''), worker.endpoint) as endpoint
    from anomaly
    inner join raw.worker_snapshot as snapshot
        on
            anomaly.key_hash = snapshot.key_hash
            and anomaly.source_id = snapshot.source_id
            and anomaly."key" = snapshot.snapshot_key
    left join worker
        on snapshot.source_id = worker.source_id and snapshot.worker_key = worker.worker_key
    where anomaly.entity = 'worker_snapshot'
    union all
    select
        anomaly.source_id,
        anomaly.bucket,
        coalesce(nullif(event.endpoint, ''), worker.endpoint) as endpoint
    from anomaly
    inner join raw.worker_event as event
        on
            anomaly.key_hash = event.key_hash
            and anomaly.source_id = event.source_id
            and anomaly."key" = event.event_key
    left join worker
        on event.source_id = worker.source_id and event.worker_key = worker.worker_key
    where anomaly.entity = 'worker_event'
    union all
    select
        anomaly.source_id,
        anomaly.bucket,
        worker.endpoint
    from anomaly
    inner join worker
        on anomaly.source_id = worker.source_id and anomaly.owner_key = worker.worker_key
    where anomaly.entity = 'worker'
    union all
    select
        anomaly.source_id,
        anomaly.bucket,
        life.endpoint
    from anomaly
    inner join core.worker_life as life
        on anomaly.source_id = life.source_id and anomaly."key" = concat(life.worker_key, '#', life.life_no)
    where anomaly.entity = 'worker_life'
    union all
    select
        source_id,
        bucket,
        "key" as endpoint
    from anomaly
    where entity = 'endpoint'
)

select
    source_id,
    endpoint,
    bucket,
    count(*) as anomalies
from placed
group by source_id, endpoint, bucket;
