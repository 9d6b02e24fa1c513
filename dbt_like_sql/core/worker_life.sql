/*---
description: >
  One row per life of a worker: when it began and ended, and what says so (M-301, M-302, M-313, M-314). Written for the
  claimed workers; the steps in core/steps come before it.
key: [source_id, worker_key, life_no]
reads: [raw.worker, raw.worker_event, raw.worker_snapshot, raw.task_event, core.worker_evidence]
columns:
  source_id: {doc: "Source the worker belongs to"}
  worker_key: {doc: "The worker"}
  life_no: {doc: "1 for the first life; a worker that comes back after its end has more (E-113)"}
  endpoint: {doc: "Endpoint it serves"}
  start_at: {doc: "Begin of its online time (M-301); NULL if it never came online"}
  end_at: {doc: "End of its life (M-302); NULL while open"}
  start_source: {doc: "ready_at, registered, attempt, snapshot, created_at"}
  end_source: {doc: "terminated_at, offline, silence, next_life"}
  created_at: {doc: "Instant of creation: ready, else registered (M-313)"}
  terminated_at: {doc: "Instant of termination: terminated, else the final offline event (M-313)"}
  lost_at: {doc: "Instant of the last evidence of a life that ended by silence (M-313)"}
  cold_start_ms: {unit: ms, doc: "As the source measured it (M-314)"}
---*/
select
    source_id,
    worker_key,
    life_no,
    endpoint,
    start_at,
    end_at,
    start_source,
    end_source,
    created_at,
    terminated_at,
    lost_at,
    cold_start_ms
from step_worker_life_found
