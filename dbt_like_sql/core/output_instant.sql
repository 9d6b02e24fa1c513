/*---
description: >
  One row per live output, valid or not, of a succeeded task that should have outputs, at the instant of its creation.
key: [source_id, output_key]
reads: [raw.task_output]
columns:
  source_id: {doc: "Source the output belongs to"}
  output_key: {doc: "The output"}
  task_key: {doc: "Its task"}
  endpoint: {doc: "Endpoint of the task"}
  at: {doc: "When the output was created"}
  origin: {doc: "app, inline, repair, placeholder"}
  known_at: {doc: "Since when anything of the task is stored; lets storage be skipped"}
  task_hash: {doc: "Number derived from source and task key, for fast look-ups"}
---*/
select
    result.source_id,
    output.output_key,
    result.task_key,
    result.endpoint,
    output.created_at as "at",
    output.origin,
    result.known_at,
    result.task_hash
from step_task_result as result
inner join scope_output as output
    on result.task_hash = output.task_hash and result.task_key = output.task_key
where result.status = 'succeeded' and result.is_expected and output.created_at is not null
