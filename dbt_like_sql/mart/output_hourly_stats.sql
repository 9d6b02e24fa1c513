/*---
description: >-
  One row per endpoint and UTC hour in which tasks became final or outputs were created: completeness of results (M-601). A closed bucket without a row is a known zero.
grain: hour
key: [source_id, endpoint, stat_hour]
family: output
columns:
  source_id: {doc: "Source the row belongs to (E-001)"}
  endpoint: {doc: "Endpoint, compared as bytes (E-401)"}
  stat_hour: {doc: "Start of the UTC hour (M-101)"}
  total_tasks: {rollup: sum, unit: "tasks", doc: "Tasks that became final in the bucket, whatever their status (E-201)"}
  success_tasks: {rollup: sum, unit: "tasks", doc: "Succeeded tasks that should have outputs, by their end; every figure below is about them"}
  pending_settle: {rollup: sum, unit: "tasks", doc: "Tasks too young to be judged: 0, rows exist only for closed time (M-601)"}
  tasks_with_outputs: {rollup: sum, unit: "tasks", doc: "Tasks with at least one valid output (E-102)"}
  missing_count: {rollup: sum, unit: "tasks", doc: "Tasks without one"}
  completion_rate: {rollup: derived, unit: "percent", doc: "100 * tasks_with_outputs / success_tasks"}
  missing_rate: {rollup: derived, unit: "percent", doc: "100 * missing_count / success_tasks"}
  total_outputs: {rollup: sum, unit: "outputs", doc: "Valid outputs of these tasks"}
  distinct_outputs: {rollup: sum, unit: "outputs", doc: "Distinct natural keys among them (R-201)"}
  duplicate_rows: {rollup: sum, unit: "outputs", doc: "total_outputs - distinct_outputs"}
  invalid_outputs: {rollup: sum, unit: "outputs", doc: "Live outputs of these tasks that are not valid (E-102)"}
  avg_outputs_per_task: {rollup: derived, unit: "outputs", doc: "total_outputs / tasks_with_outputs"}
  delayed_tasks: {rollup: sum, unit: "tasks", doc: "Tasks with an output later than checks.delay_s after their end (C-104); NULL without creation times"}
  delay_population: {rollup: sum, unit: "tasks", doc: "Tasks with a valid output that no repair inserted (C-104)"}
  max_delay_s: {rollup: max, unit: "s", doc: "Longest such delay; an output before the end has delay 0"}
  no_end_time: {rollup: sum, unit: "tasks", doc: "Tasks placed by their creation because their end is not known"}
  outputs_created: {rollup: sum, unit: "outputs", doc: "Live outputs by their own creation, made by the application; NULL where no creation is known"}
  outputs_created_repair: {rollup: sum, unit: "outputs", doc: "Live outputs by their own creation, inserted by repairs (R-412)"}
  repaired_tasks: {rollup: sum, unit: "tasks", doc: "Tasks whose only valid outputs were inserted by repairs"}
  tasks_with_outputs_at_close: {rollup: sum, unit: "tasks", doc: "tasks_with_outputs when the minute first closed"}
  state: {rollup: none, doc: "closed, or partial while minutes are missing (M-801)"}
  closed_minutes: {rollup: none, unit: "minutes", doc: "Closed minutes in the bucket (M-801)"}
---*/
with
rolled as (
    select
        source_id,
        endpoint,
        date_trunc('hour', stat_minute) as bucket,
        cast(sum(tasks_with_outputs_at_close) as bigint) as tasks_with_outputs_at_close
    from mart.output_minute_stats
    where stat_minute >= $window_start and stat_minute < $window_end
    group by source_id, endpoint, bucket
)

select
    figure.source_id,
    figure.endpoint,
    figure.bucket as stat_hour,
    figure.total_tasks,
    figure.success_tasks,
    figure.pending_settle,
    figure.tasks_with_outputs,
    figure.missing_count,
    figure.completion_rate,
    figure.missing_rate,
    figure.total_outputs,
    figure.distinct_outputs,
    figure.duplicate_rows,
    figure.invalid_outputs,
    figure.avg_outputs_per_task,
    figure.delayed_tasks,
    figure.delay_population,
    figure.max_delay_s,
    figure.no_end_time,
    figure.outputs_created,
    figure.outputs_created_repair,
    figure.repaired_tasks,
    rolled.tasks_with_outputs_at_close,
    case when figure.closed_minutes = 60 then 'closed' else 'partial' end as state,
    figure.closed_minutes
from output_figures($window_start, $window_end, interval 1 hour) as figure
left join rolled
    on
        figure.source_id = rolled.source_id
        and figure.endpoint = rolled.endpoint
        and figure.bucket = rolled.bucket
