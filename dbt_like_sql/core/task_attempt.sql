/*---
description: >
  One row per attempt: one run of a task on a worker, from its assignment to its end (M-203 to M-218). Written for the
  claimed tasks; the steps in core/steps come before it.
key: [source_id, task_key, attempt_no]
reads: [raw.task, raw.task_event, raw.worker_snapshot, raw.endpoint, core.worker_life]
columns:
  source_id: {doc: "Source the task belongs to"}
  task_key: {doc: "The task"}
  attempt_no: {doc: "1 for the first start of the task, 2 for the next (M-203, M-206)"}
  endpoint: {doc: "Endpoint of the task: its row's, else that of its first event that names one"}
  worker_key: {doc: "Worker the attempt runs on; NULL if no start event names one"}
  enqueued_at: {doc: "Since when this attempt was waited for (M-214); NULL if nothing says"}
  started_at: {doc: "Earliest start event of the attempt (M-203)"}
  ended_at: {doc: "End of the attempt; NULL while open. Of a reversed attempt the instant of its final event, before the start"}
  outcome: {doc: "completed, failed, timeout, cancelled, lost, open"}
  end_source: {doc: "What ended it: event, task_row, next_start, idle_snapshot, worker_end, derived_timeout (M-210, M-217)"}
  counted: {doc: "Its outcome is the counted one since its start (M-205)"}
  reversed: {doc: "The final event lies before the start (M-209): no busy time, no execution"}
  queue_wait_ms: {unit: ms, doc: "Start minus enqueue (M-214); NULL if not observed, negative or absurd (M-215)"}
  execution_ms: {unit: ms, doc: "End minus start of a completed attempt with an own final event (M-213)"}
  failed_execution_ms: {unit: ms, doc: "The same for failed and timed-out attempts (M-213)"}
  total_ms: {unit: ms, doc: "Completion minus submission"}
  late_event_count: {doc: "Final events that came after the counted outcome (M-205)"}
  executor_ended_at: {doc: "First late final event: when the executor really was done"}
  dangling: {doc: "It has no end event: its end may change when workers or snapshots tell more (M-210)"}
  timeout_at: {doc: "When its derived timeout is due (M-217)"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
select
    attempt.source_id,
    attempt.task_key,
    cast(attempt.attempt_no as bigint) as attempt_no,
    attempt.endpoint,
    attempt.worker_key,
    attempt.enqueued_at,
    attempt.started_at,
    attempt.ended_at,
    attempt.outcome,
    attempt.end_source,
    attempt.counted,
    attempt.reversed,
    cast(
        case when attempt.wait_us between 0 and setting.max_us then cast(attempt.wait_us as decimal(20, 0)) * 0.001 end
        as decimal(20, 3)
    ) as queue_wait_ms,
    cast(
        case
            when attempt.observed and attempt.outcome = 'completed' and attempt.span_us between 0 and setting.max_us
                then cast(attempt.span_us as decimal(20, 0)) * 0.001
        end as decimal(20, 3)
    ) as execution_ms,
    cast(
        case
            when attempt.observed and attempt.outcome in ('failed', 'timeout') and attempt.span_us between 0 and setting.max_us
                then cast(attempt.span_us as decimal(20, 0)) * 0.001
        end as decimal(20, 3)
    ) as failed_execution_ms,
    cast(
        case
            when attempt.counted and attempt.outcome = 'completed' and attempt.total_us between 0 and setting.max_us
                then cast(attempt.total_us as decimal(20, 0)) * 0.001
        end as decimal(20, 3)
    ) as total_ms,
    attempt.late_event_count,
    attempt.executor_ended_at,
    attempt.dangling,
    attempt.timeout_at,
    claim_task.task_hash
from step_task_resolved as attempt
inner join claim_task on attempt.tid = claim_task.tid
cross join claim_setting as setting
