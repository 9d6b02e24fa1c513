/*---
description: >
  One row per uninterrupted piece of a worker's time in one state: online, and busy where no attempts are mapped (M-303,
  M-305, M-307, M-318).
key: [source_id, worker_key, life_no, state, from_at]
reads: [core.worker_life, raw.worker_snapshot, core.task_attempt]
columns:
  source_id: {doc: "Source the worker belongs to"}
  worker_key: {doc: "The worker"}
  life_no: {doc: "Its life"}
  endpoint: {doc: "Endpoint it serves"}
  state: {doc: "online or busy"}
  from_at: {doc: "Begin"}
  to_at: {doc: "End; NULL while open"}
  evidence: {doc: "lifecycle, snapshots, current_state, attempts (M-303)"}
  quality: {doc: "exact, bridged (samples are missing), estimated (start or end not from facts, or polls only) (M-317)"}
---*/
select source_id, worker_key, life_no, endpoint, state, from_at, to_at, evidence, quality
from step_worker_online
union all
select source_id, worker_key, life_no, endpoint, state, from_at, to_at, evidence, quality
from step_worker_busy
